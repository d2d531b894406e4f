package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"al.essio.dev/pkg/shellescape"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

const (
	// window is how many bytes of output may be on their way to us: enough for a fast link, and all that a slow
	// reader makes us hold.
	window = 256 << 10
	// pingEvery keeps us attached in the shim's eyes, which wants a frame every 30 seconds.
	pingEvery = 10 * time.Second
	// queueLength is how many frames may wait for the link. They are few and small: a link that does not take them is dead.
	queueLength = 64
)

// attachment is one hold on a session: a channel, and the two goroutines that read and write it.
type attachment struct {
	channel *sshconn.Channel
	conn    *wire.Conn
	out     chan *wire.Frame
	// rebooted: the payload had ended when we attached, and the host was rebooted since it was started.
	rebooted bool
}

// Close ends the hold. The session does not notice more than that nobody is attached.
func (a *attachment) Close() error { return a.conn.Close() }

func (a *attachment) queue(frame *wire.Frame) bool {
	select {
	case a.out <- frame:
		return true
	default:
		return false
	}
}

// attach runs the shim's start or attach command and shakes hands. What is to be started is recorded before it is
// asked for, so that a session that is missing later is never taken for one that was never started.
func (c Config) attach(ctx context.Context, verb string) any {
	if verb == "start" {
		if err := c.record(ctx, store.PhaseStarting, func(r *store.SessionRecord) { r.Shim = c.Shim }); err != nil {
			return err
		}
	}
	marker := wire.NewMarker()
	argv := append(append([]string{}, c.Shim...), verb, c.Record.Dir, marker)
	channel, err := c.Conn.Open(ctx, shellescape.QuoteCommand(argv))
	if err != nil {
		return fault.Wrap(fault.Lost, opRun, err)
	}
	a := &attachment{channel: channel, conn: wire.NewConn(channel), out: make(chan *wire.Frame, queueLength)}
	stop := context.AfterFunc(ctx, func() { _ = a.Close() })
	welcome, err := a.greet(c, marker)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = c.record(ctx, store.PhaseStarted, func(r *store.SessionRecord) { r.BootID = welcome.GetBootId() })
	}
	if err != nil {
		// The channel is of no use any more; what matters is why.
		_ = a.Close()
		return err
	}
	a.rebooted = welcome.GetExit() != nil && c.BootID != "" && welcome.GetBootId() != "" && welcome.GetBootId() != c.BootID
	return attached{attachment: a, welcome: welcome}
}

// greet waits for the shim's marker and exchanges hello and welcome.
func (a *attachment) greet(c Config, marker string) (*wire.Welcome, error) {
	if err := a.conn.SkipTo(marker, wire.MaxNoise); err != nil {
		return nil, a.notStarted(err)
	}
	from := c.Output.Offset()
	hello := &wire.Hello{
		MinVersion: wire.MinVersion, MaxVersion: wire.Version, Token: c.Record.Token, Fence: c.Record.Fence,
		Epoch: c.Epoch, OutputFrom: from, Credit: from + window,
	}
	if err := a.conn.Send(&wire.Frame{Kind: &wire.Frame_Hello{Hello: hello}}); err != nil {
		return nil, fault.Wrap(fault.Lost, opRun, err)
	}
	for {
		frame, err := a.conn.Recv()
		if err != nil {
			return nil, fault.Wrap(fault.Lost, opRun, fmt.Errorf("no answer from the shim: %w", err))
		}
		switch k := frame.GetKind().(type) {
		case *wire.Frame_Welcome:
			return k.Welcome, nil
		case *wire.Frame_Refused:
			return nil, refusal(k.Refused)
		case nil: // a newer shim has something to say that we don't know
		default:
			return nil, fault.New(fault.Environment, opRun, "the shim answered with %T", k)
		}
	}
}

// notStarted explains a start marker that did not come: the link broke, or the host said why on stderr.
func (a *attachment) notStarted(err error) error {
	if !errors.Is(err, io.ErrUnexpectedEOF) { // where the connection says why, its word counts
		return fault.Wrap(fault.Environment, opRun, fmt.Errorf("the shim did not start: %w", err))
	}
	exit := &sshconn.ExitError{}
	if waitErr := a.channel.Wait(); !errors.As(waitErr, &exit) {
		return fault.Wrap(fault.Lost, opRun, errors.Join(waitErr, err))
	}
	return fault.New(fault.Environment, opRun, "the shim did not start: %v %s", exit, a.channel.StderrTail()).
		WithRemedy("check that the directory allows execution (noexec), or choose another with --prefix")
}

// refusal makes a fault of the shim's no.
func refusal(r *wire.Refused) *fault.Fault {
	switch r.GetReason() {
	case wire.Refused_FENCED, wire.Refused_EVICTED:
		return fault.New(fault.Canceled, opRun, "%w (%s)", fault.ErrTakenOver, r.GetText())
	case wire.Refused_VERSION:
		return fault.New(fault.Environment, opRun, "the session's shim speaks another protocol version: %s", r.GetText()).
			WithRemedy("finish the run with the version of mgmt-remote that started it")
	case wire.Refused_NO_SESSION:
		return fault.New(fault.Environment, opRun, "the session is gone: %s", r.GetText())
	default:
		return fault.New(fault.Environment, opRun, "the shim refused (%v): %s", r.GetReason(), r.GetText())
	}
}

// read takes frames until the stream ends and returns why it did. Output is made durable right here; tell hands
// everything else to the actor.
func (a *attachment) read(ctx context.Context, output Output, tell func(any)) error {
	limit := output.Offset() + window
	for {
		frame, err := a.conn.Recv()
		if err != nil {
			return fmt.Errorf("the session's stream ended: %w", err)
		}
		switch k := frame.GetKind().(type) {
		case *wire.Frame_Output:
			if err := output.Write(ctx, k.Output.GetOffset(), k.Output.GetStderr(), k.Output.GetData()); err != nil {
				return fault.Wrap(fault.Environment, opRun, err)
			}
		case *wire.Frame_Gap:
			if err := output.Gap(k.Gap.GetFrom(), k.Gap.GetTo()); err != nil {
				return fault.Wrap(fault.Environment, opRun, err)
			}
			tell(gapSeen{k.Gap.GetFrom(), k.Gap.GetTo()})
		case *wire.Frame_Exit:
			exit := exitOf(k.Exit)
			if a.rebooted && exit.Error != "" { // else it had come to its end before
				exit.Cause = messages.CauseReboot
			}
			tell(exitSeen{exit})
		case *wire.Frame_Restarted:
			r := k.Restarted
			tell(restartSeen{messages.PayloadStartedAgain{Count: int(r.GetCount()), PID: int(r.GetPayloadPid()), Exit: exitOf(r.GetExit())}})
		case *wire.Frame_Quiet:
			tell(quietSeen{k.Quiet.GetQuiet()})
		case *wire.Frame_Pong:
			if k.Pong.GetId() == leaveID {
				tell(leaveSeen{})
			}
		case *wire.Frame_CleanedUp:
			tell(cleanedSeen{k.CleanedUp.GetError()})
		case *wire.Frame_Refused:
			return refusal(k.Refused)
		}
		if have := output.Offset(); limit-have < window/2 || have > limit {
			// What is acknowledged is forgotten on the host: it must survive a power cut here first.
			if err := output.Sync(); err != nil {
				return fault.Wrap(fault.Environment, opRun, err)
			}
			limit = have + window
			if err := a.grant(ctx, have, limit); err != nil {
				return err
			}
		}
	}
}

func exitOf(e *wire.Exit) messages.Exit {
	exit := messages.Exit{Code: int(e.GetCode()), Signal: int(e.GetSignal()), Error: e.GetError()}
	if e.GetShutDown() {
		exit.Cause = messages.CauseShutdown
	}
	return exit
}

// grant acknowledges what is durable and allows the next window.
func (a *attachment) grant(ctx context.Context, have, limit uint64) error {
	for _, frame := range []*wire.Frame{
		{Kind: &wire.Frame_Ack{Ack: &wire.Ack{Offset: have}}},
		{Kind: &wire.Frame_Credit{Credit: &wire.Credit{Limit: limit}}},
	} {
		select {
		case a.out <- frame:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// write sends what is queued, and pings in between, until ctx ends or the link does. A failed send closes the
// attachment, so that the reader ends and tells.
func (a *attachment) write(ctx context.Context) {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	stop := context.AfterFunc(ctx, func() { _ = a.Close() })
	defer stop()
	for {
		var next *wire.Frame
		select {
		case next = <-a.out:
		case now := <-ping.C:
			next = &wire.Frame{Kind: &wire.Frame_Ping{Ping: &wire.Ping{Id: uint64(now.Unix())}}}
		case <-ctx.Done():
			return
		}
		if err := a.conn.Send(next); err != nil {
			_ = a.Close()
			return
		}
	}
}

// keepExit makes the payload's end and all its output durable before anybody is told.
func (c Config) keepExit(ctx context.Context, exit messages.Exit) any {
	if err := c.Output.Sync(); err != nil {
		return fault.Wrap(fault.Environment, opRun, err)
	}
	keep := func(r *store.SessionRecord) {
		r.Exit = &store.ExitRecord{Code: exit.Code, Signal: exit.Signal, Error: exit.Error, Cause: string(exit.Cause)}
	}
	if err := c.record(ctx, store.PhaseFinished, keep); err != nil {
		return err
	}
	return messages.PayloadExited{Exit: exit}
}

// rank orders the phases; a record without one comes first.
func rank(p store.SessionPhase) int {
	return slices.Index([]store.SessionPhase{store.PhaseStarting, store.PhaseStarted, store.PhaseFinished, store.PhaseCleaned}, p)
}

// record moves the session's record to a phase. Phases only grow: an attach to a finished session does not un-finish it.
func (c Config) record(ctx context.Context, phase store.SessionPhase, change func(*store.SessionRecord)) error {
	r, ok := c.Ledger.Session(c.Host)
	if !ok || r.Nonce != c.Record.Nonce {
		r = c.Record
	}
	if rank(r.Phase) >= rank(phase) && change == nil {
		return nil
	}
	if rank(phase) > rank(r.Phase) {
		r.Phase = phase
	}
	r.Epoch = c.Epoch
	if change != nil {
		change(&r)
	}
	if err := c.Ledger.Record(ctx, c.Host, r); err != nil {
		return fault.Wrap(fault.Environment, "record", err)
	}
	return nil
}
