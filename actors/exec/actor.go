// Package exec is the actor of steps 5, 6 and, where a shim is alive, 8: it starts or claims the session, takes its
// output and its end, forwards what the payload is to be told, and has the shim clean up.
//
// The session outlives the actor: losing the connection ends the actor and nothing else. Output does not pass through
// the mailbox; it goes from the stream's goroutine to the host's durable log, whose pace is what the shim's credit
// follows. A failure is a panic with a fault.
package exec

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/internal/worker"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

const (
	opRun     = "run"
	opFinish  = "finish"
	opCleanUp = "clean up"
)

// leaveID marks the ping behind a request to leave; the pings that keep us attached have other IDs (seconds of the
// Unix epoch).
const leaveID = 1

// Conn is what the actor needs of the SSH connection; *sshconn.Conn is one.
type Conn interface {
	Open(ctx context.Context, command string) (*sshconn.Channel, error)
}

// Ledger is the run's durable memory of sessions. Record returns once the record is safe on disk.
type Ledger interface {
	Session(host string) (store.SessionRecord, bool)
	Record(ctx context.Context, host string, record store.SessionRecord) error
	// Fence is the fencing token of this initiator: hosts refuse those with a lower one than they have seen.
	Fence() uint64
}

// Output is where a host's output goes. It is used by one goroutine at a time.
type Output interface {
	// Offset is how far the output is durable.
	Offset() uint64
	// Write makes data durable and shows it to whoever watches; it blocks while that can't take more, at most until
	// ctx ends.
	Write(ctx context.Context, offset uint64, stderr bool, data []byte) error
	// Gap records that output is lost.
	Gap(from, to uint64) error
	// Sync forces what was written to disk.
	Sync() error
}

// Config is what one exec actor is for. The connection is the host actor's, which closes it.
type Config struct {
	Host   string
	Epoch  uint64
	Conn   Conn
	Ledger Ledger
	Output Output
	Shim   []string            // the shim's command on the host
	Record store.SessionRecord // whose session it is: nonce, token, directory
	BootID string              // of the host as it is now; "" where nobody knows
}

// Props makes the actor's props.
func Props(cfg Config) *actor.Props {
	cfg.Output = shifted{cfg.Output, cfg.Record.OutputStart}
	return actor.PropsFromProducer(func() actor.Actor { return &execActor{cfg: cfg} }, actor.WithReceiverMiddleware(restart.Capture))
}

type execActor struct {
	cfg     Config
	work    *worker.Group
	session *attachment // nil until attached
	cleaned bool        // the shim said that its session is removed: the stream's end is expected
}

// attached is what step 5's work returns; the worker group closes the attachment where nobody takes it any more.
type attached struct {
	*attachment
	welcome *wire.Welcome
}

// The stream's goroutine tells these; it ends with streamEnded.
type (
	quietSeen   struct{ quiet bool }
	gapSeen     struct{ from, to uint64 }
	exitSeen    struct{ exit messages.Exit }
	restartSeen struct{ messages.PayloadStartedAgain }
	cleanedSeen struct{ err string }
	leaveSeen   struct{} // the shim has read that it is to end by itself
	streamEnded struct{ err error }
)

func (a *execActor) Receive(ctx actor.Context) {
	message, ok := worker.Receive(ctx, &a.work, a.release)
	if !ok {
		return
	}
	switch m := message.(type) {
	case messages.StartPayload:
		a.work.Go(func(ctx context.Context) any { return a.cfg.attach(ctx, "start") })
	case messages.AttachPayload:
		a.work.Go(func(ctx context.Context) any { return a.cfg.attach(ctx, "attach") })
	case attached:
		a.attached(ctx, m)
	case messages.UseTunnel:
		a.send(&wire.Frame{Kind: &wire.Frame_Tunnel{Tunnel: &wire.Tunnel{Epoch: m.Number, Socket: m.Socket}}})
	case messages.FinishPayload:
		a.send(finish(m.Interrupt, m.Terminate, false))
	case messages.LeaveSession:
		a.leave()
	case messages.CleanUpSession:
		a.send(&wire.Frame{Kind: &wire.Frame_AckExit{AckExit: &wire.AckExit{CleanUp: true}}})
	case quietSeen:
		ctx.Request(ctx.Parent(), messages.PayloadQuiet{Quiet: m.quiet})
	case gapSeen:
		start := a.cfg.Record.OutputStart
		ctx.Request(ctx.Parent(), messages.OutputLost{From: start + m.from, To: start + m.to})
	case restartSeen:
		ctx.Request(ctx.Parent(), m.PayloadStartedAgain)
	case exitSeen:
		a.work.Go(func(ctx context.Context) any { return a.cfg.keepExit(ctx, m.exit) })
	case messages.PayloadExited, messages.SessionCleanedUp:
		ctx.Request(ctx.Parent(), m)
	case leaveSeen:
		ctx.Request(ctx.Parent(), messages.SessionLeft{})
	case cleanedSeen:
		a.cleanedUp(m)
	case streamEnded:
		if !a.cleaned {
			panic(fault.Wrap(fault.Lost, opRun, m.err))
		}
	}
}

func (a *execActor) attached(ctx actor.Context, m attached) {
	a.session = m.attachment
	group, epoch, output := a.work, a.work.Epoch(), a.cfg.Output
	a.work.Go(func(ctx context.Context) any {
		return streamEnded{m.read(ctx, output, func(message any) { group.Tell(epoch, message) })}
	})
	a.work.Go(func(ctx context.Context) any {
		m.write(ctx)
		return nil
	})
	ctx.Request(ctx.Parent(), messages.Attached{
		PayloadPID: int(m.welcome.GetPayloadPid()), StartedNow: m.welcome.GetStartedNow(), Restarts: int(m.welcome.GetRestarts()),
		Ended: m.welcome.GetExit() != nil, Warnings: m.welcome.GetWarnings(),
	})
}

// send queues a frame. Without a session there is nobody to tell: a restarted actor claims it first, and its parent
// says again what is to be done when it hears of that. The queue is never full on a link that lives; where it is, the link is dead and only the
// keepalive has not noticed yet.
func (a *execActor) send(frame *wire.Frame) {
	if a.session == nil {
		return
	}
	if !a.session.queue(frame) {
		panic(fault.New(fault.Lost, opRun, "the host takes no more messages"))
	}
}

// leave tells the shim to end by itself. The pong behind it shows that the shim has read it; until then it might be
// lost with the connection.
func (a *execActor) leave() {
	a.send(finish(5*time.Second, 5*time.Second, true))
	a.send(&wire.Frame{Kind: &wire.Frame_Ping{Ping: &wire.Ping{Id: leaveID}}})
}

func finish(interrupt, terminate time.Duration, cleanUp bool) *wire.Frame {
	return &wire.Frame{Kind: &wire.Frame_Finish{Finish: &wire.Finish{
		IntMs: milliseconds(interrupt), TermMs: milliseconds(terminate), CleanUp: cleanUp,
	}}}
}

func milliseconds(d time.Duration) uint32 { return uint32(min(max(d.Milliseconds(), 0), 1<<31)) }

func (a *execActor) cleanedUp(m cleanedSeen) {
	if m.err != "" {
		panic(fault.New(fault.Environment, opCleanUp, "%s", m.err))
	}
	a.cleaned = true
	a.work.Go(func(ctx context.Context) any {
		if err := a.cfg.record(ctx, store.PhaseCleaned, nil); err != nil {
			return err
		}
		return messages.SessionCleanedUp{}
	})
}

// release gives everything back; it is called on restart and stop alike and never panics.
func (a *execActor) release() {
	a.work.Cancel()
	if s := a.session; s != nil {
		a.session = nil
		// Closing the channel talks to the server, and a turn must not wait for that.
		go func() { _ = s.Close() }()
	}
}
