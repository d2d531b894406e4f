// Package host is the actor of one remote machine: it owns the SSH connection and walks the nine steps.
//
// What happens when is decided by the pure machine in package lifecycle; this package carries the machine's effects out
// (effects.go), decides what a child's failure means (children.go) and tells the supervisor what there is to see
// (events.go). It fails only by panicking with a fault. One instance makes at most one connection: after a loss the
// supervisor restarts the actor, and the new instance begins with the same first step.
package host

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/actors/exec"
	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/actors/tunnel"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/become"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
	"github.com/mgmt-remote/mgmt-remote/internal/worker"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Dialer makes the connection; *sshconn.Dialer is one.
type Dialer interface {
	Dial(ctx context.Context, host inventory.Host) (*sshconn.Conn, error)
}

// Planner says what a host is to run; *payload.Payload is one.
type Planner interface {
	Plan(request payload.Request) (payload.Plan, error)
	// Definition makes the file that a running payload follows. It is called for hosts that were given a definition.
	Definition(request payload.Request) (transfer.File, error)
}

// Deadlines bound a payload's end and each step's silence.
type Deadlines struct {
	Interrupt time.Duration // from SIGINT to SIGTERM
	Terminate time.Duration // from SIGTERM to SIGKILL
	Step      time.Duration // how long a step may take without a sign of life
}

// DefaultDeadlines are those of a run that sets none.
var DefaultDeadlines = Deadlines{Interrupt: 10 * time.Second, Terminate: 5 * time.Second, Step: 30 * time.Second}

// Config is what a host actor is for. Everything in it is shared with the other hosts or immutable. Definitions change,
// so they come in messages.
type Config struct {
	Run       string
	Host      inventory.Host
	File      string            // what the definition is called; see payload.Definition
	Vars      map[string]string // of the definition, where it is a template
	Payload   Planner
	Dialer    Dialer
	Become    become.Target    // the effective user; zero = who logs in
	Password  *become.Password // to become that; nil = none
	Gateway   tunnel.Gateway
	Ledger    exec.Ledger
	Output    exec.Output
	OnReboot  lifecycle.OnReboot
	Deadlines Deadlines // zero = DefaultDeadlines
	DryRun    bool      // look, say what would be done, and leave
}

// Props makes the actor's props.
func Props(cfg Config) *actor.Props {
	if cfg.Deadlines == (Deadlines{}) {
		cfg.Deadlines = DefaultDeadlines
	}
	return actor.PropsFromProducer(func() actor.Actor { return &hostActor{cfg: cfg} }, actor.WithReceiverMiddleware(restart.Capture))
}

type hostActor struct {
	cfg     Config
	self    *actor.PID
	parent  *actor.PID
	work    *worker.Group
	machine lifecycle.Machine
	steps   steps
	begin   messages.Begin
	carry   messages.Carry
	bugs    *restart.Tracker // of the children

	conn     *sshconn.Conn // from step 1 to step 9
	facts    prepared      // what the probe told and what follows from it
	newest   messages.Definition
	copying  messages.CopyDefinition // on its way to the running payload
	tunnel   messages.TunnelOpened
	digs     uint64 // tunnels asked for on this connection
	kids     children
	cancel   context.CancelFunc // of a dial in flight
	silent   context.CancelFunc // of the present step's deadline
	expected uint64             // counts those deadlines
}

// The results of the actor's own work.
type (
	connected    struct{ *sshconn.Conn }
	disconnected struct{}
	delayOver    struct{}
	stepOverdue  struct{ expected uint64 }
	connLost     struct{ err error }
)

func (a *hostActor) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started:
		a.self, a.parent, a.work = ctx.Self(), ctx.Parent(), worker.New(ctx)
		a.bugs = restart.NewTracker(restart.Default(0), func() float64 { return 0 })
		return
	case *actor.Restarting, *actor.Stopping:
		a.release()
		return
	}
	if from := ctx.Sender(); from != nil {
		if _, ours := a.kids.named(from); !ours {
			return // a child of an earlier instance, or one that was given up
		}
	}
	message, ok := a.work.Take(ctx.Message())
	if !ok {
		return
	}
	if event := a.understand(ctx, message); event != nil {
		a.step(ctx, event)
	}
}

// understand keeps what a message brings and returns what it means to the machine; nil for nothing.
func (a *hostActor) understand(ctx actor.Context, message any) lifecycle.Event {
	switch m := message.(type) {
	case messages.Begin:
		a.begin, a.carry, a.newest = m, m.Carry, m.Definition
		return lifecycle.Begun{
			Wait: m.Delay > 0, Trace: m.Carry.Trace, Stop: m.Stop, Finish: m.Finish, Newest: m.Definition.Version, There: m.Carry.Definition,
			Stay: m.Stay, Reboot: a.cfg.OnReboot, Dry: a.cfg.DryRun,
		}
	case messages.StopHost:
		return lifecycle.Stop{Level: m.Level}
	case messages.FinishHost:
		return lifecycle.Finish{Reason: m.Reason}
	case messages.UpdateDefinition:
		if m.Definition.Version <= a.newest.Version {
			return nil
		}
		a.newest = m.Definition
		return lifecycle.DefinitionChanged{Version: m.Definition.Version}
	case messages.RetryNow, delayOver:
		return lifecycle.DelayOver{}
	case messages.PermitGranted:
		if m.Epoch != a.begin.Epoch {
			return nil // an earlier instance asked; it lost the permit with its restart
		}
		return lifecycle.Permitted{Kind: m.Kind}
	case connected:
		a.conn = m.Conn
		a.watchConn()
		return lifecycle.Connected{}
	case prepared:
		a.facts = m
		if m.exit != nil {
			// It may have been recorded by an instance that ended before it could tell.
			a.tell(messages.PayloadEnded{At: time.Now(), Host: a.cfg.Host.Name, Exit: *m.exit})
		}
		if a.carry.Reruns != m.record.Reruns {
			a.carry.Reruns = m.record.Reruns
			a.send(messages.Carried{Host: a.cfg.Host.Name, Carry: a.carry})
		}
		return lifecycle.Probed{Found: m.found, Upload: m.plan.Upload, Exit: m.exit}
	case messages.DirectoryMade:
		return lifecycle.DirectoryMade{}
	case messages.CopyProgressed:
		a.aliveIn(lifecycle.Copying)
		a.tell(messages.Progressed{At: time.Now(), Host: a.cfg.Host.Name, Sent: m.Sent, Total: m.Total})
	case messages.Copied:
		a.carry.BytesSent += m.Sent
		a.carry.BytesSkipped += m.Skipped
		a.steps.copied = m
		a.send(messages.Carried{Host: a.cfg.Host.Name, Carry: a.carry})
		if a.machine.State() == lifecycle.Copying { // else it was stopped meanwhile, and is to remove what it copied
			a.kids.drop(ctx, kidSFTP)
		}
		return lifecycle.Copied{}
	case definitionMade:
		a.copyDefinition(ctx, m.CopyDefinition)
	case definitionFailed:
		return a.definitionNotCopied(m)
	case messages.DefinitionCopied:
		return a.definitionCopied(ctx, m.Version)
	case messages.TunnelOpened:
		a.tunnel = m
		return lifecycle.TunnelOpened{}
	case messages.Attached:
		a.steps.attached = m
		if m.StartedNow { // a shim repeats them to whoever attaches
			for _, text := range m.Warnings {
				a.tell(messages.HostWarned{At: time.Now(), Host: a.cfg.Host.Name, Text: text})
			}
		}
		return lifecycle.Attached{Ended: m.Ended}
	case messages.PayloadExited:
		if !a.machine.Reruns(m.Exit) {
			a.tell(messages.PayloadEnded{At: time.Now(), Host: a.cfg.Host.Name, Exit: m.Exit})
		}
		return lifecycle.PayloadExited{Exit: m.Exit}
	case messages.PayloadStartedAgain:
		a.tell(messages.PayloadRestarted{
			At: time.Now(), Host: a.cfg.Host.Name, Epoch: a.begin.Epoch, Count: m.Count, PID: m.PID, Exit: m.Exit,
		})
	case messages.PayloadQuiet:
		a.send(messages.ReportQuiet{Host: a.cfg.Host.Name, Quiet: m.Quiet})
	case messages.OutputLost:
		a.tell(messages.OutputDropped{At: time.Now(), Host: a.cfg.Host.Name, From: m.From, To: m.To})
	case messages.SessionLeft:
		return lifecycle.Left{}
	case messages.TunnelClosed:
		a.kids.drop(ctx, kidTunnel)
		return lifecycle.TunnelClosed{}
	case messages.SessionCleanedUp, messages.SessionRemoved:
		return lifecycle.CleanedUp{}
	case disconnected:
		return lifecycle.Disconnected{}
	case connLost:
		if a.conn == nil {
			return nil // let go of already
		}
		return lifecycle.Failed{Fault: fault.Wrap(fault.Lost, "connection", m.err).WithHost(a.cfg.Host.Name)}
	case stepOverdue:
		if m.expected == a.expected {
			return lifecycle.Failed{Fault: fault.New(fault.Lost, a.steps.words(), "no answer within %v", a.cfg.Deadlines.Step).WithHost(a.cfg.Host.Name)}
		}
	case childFailed:
		if m.fault.Kind == fault.Bug {
			return lifecycle.Defeated{Fault: m.fault, Exec: m.name == kidExec}
		}
		return lifecycle.Failed{Fault: m.fault}
	case error:
		return lifecycle.Failed{Fault: fault.Wrap(fault.Bug, a.steps.words(), m).WithHost(a.cfg.Host.Name)}
	}
	return nil
}

// step gives the machine an event and carries out what it says.
func (a *hostActor) step(ctx actor.Context, event lifecycle.Event) {
	effects := a.machine.Step(event)
	carry := a.carry
	carry.Definition = a.machine.Definition()
	if a.machine.State() != lifecycle.Disconnecting { // where it is put on record first that nothing is left
		carry.Trace = a.machine.Trace()
	}
	if carry != a.carry {
		a.carry = carry
		a.send(messages.Carried{Host: a.cfg.Host.Name, Carry: a.carry})
	}
	for _, effect := range effects {
		a.perform(ctx, effect)
	}
}

// watchConn has the actor told when the connection dies, also while no step waits for it.
func (a *hostActor) watchConn() {
	conn := a.conn
	a.work.Go(func(ctx context.Context) any {
		select {
		case <-conn.Done():
			if err := conn.Err(); err != nil {
				return connLost{err}
			}
			return nil // we closed it
		case <-ctx.Done():
			return nil
		}
	})
}

// release gives everything back; it is called on restart and stop alike and never panics.
func (a *hostActor) release() {
	a.work.Cancel()
	a.kids = nil // they end with this instance, and none is restarted any more
	a.facts = prepared{}
	if conn := a.conn; conn != nil {
		a.conn = nil
		// Closing may have to wait for a slow link, and a turn must not.
		go func() { _ = conn.Close() }()
	}
}

// send tells the supervisor something.
func (a *hostActor) send(message any) { a.work.Root().Send(a.parent, message) }

func (a *hostActor) tell(event messages.Event) { a.send(event) }

// newSession is the record of a session that does not exist yet.
func newSession(base, dir, bootID string) store.SessionRecord {
	return store.SessionRecord{Nonce: randomText(), Token: randomText(), Base: base, Dir: dir, BootID: bootID}
}
