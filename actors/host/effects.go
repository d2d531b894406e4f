package host

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// perform carries out one effect.
func (a *hostActor) perform(ctx actor.Context, effect lifecycle.Effect) {
	switch e := effect.(type) {
	case lifecycle.Enter:
		a.entered(e.State)
	case lifecycle.Wait:
		a.work.After(a.begin.Delay, delayOver{})
	case lifecycle.AskPermit:
		a.send(messages.AskPermit{Host: a.cfg.Host.Name, Epoch: a.begin.Epoch, Kind: e.Kind, Through: a.cfg.Host.Route()})
	case lifecycle.ReturnPermit:
		a.send(messages.ReturnPermit{Host: a.cfg.Host.Name, Kind: e.Kind})
	case lifecycle.Connect:
		a.dial()
	case lifecycle.CancelConnect:
		a.cancel()
	case lifecycle.Preview:
		a.tell(a.planned(e.Next))
	case lifecycle.Probe:
		a.kids.dropAll(ctx)
		a.work.GoWithin(a.cfg.Deadlines.Step, probeWith(a.cfg, a.conn, a.newest))
	case lifecycle.Rerun:
		a.tell(messages.PayloadRerun{At: time.Now(), Host: a.cfg.Host.Name, Epoch: a.begin.Epoch, Count: a.facts.record.Reruns})
	case lifecycle.Warn:
		a.tell(messages.HostWarned{
			At: time.Now(), Host: a.cfg.Host.Name, Text: "what the payload said last before the reboot is lost: " + e.Fault.Error(),
		})
	case lifecycle.MakeDirectory:
		a.kids.tell(ctx, a, kidSFTP, messages.MakeDirectory{})
	case lifecycle.Copy:
		a.kids.tell(ctx, a, kidSFTP, messages.Copy{})
	case lifecycle.RemoveSession:
		a.kids.tell(ctx, a, kidSFTP, messages.RemoveSession{})
	case lifecycle.CopyDefinition:
		a.makeDefinition()
	case lifecycle.AbandonDefinition:
		a.kids.drop(ctx, kidSFTP)
	case lifecycle.OpenTunnel:
		a.kids.tell(ctx, a, kidTunnel, a.nextTunnel())
	case lifecycle.CloseTunnel:
		a.kids.tell(ctx, a, kidTunnel, messages.CloseTunnel{})
	case lifecycle.UseTunnel:
		a.kids.tell(ctx, a, kidExec, messages.UseTunnel{Number: a.tunnel.Number, Socket: a.tunnel.Socket})
	case lifecycle.Start:
		a.kids.tell(ctx, a, kidExec, messages.StartPayload{})
	case lifecycle.Attach:
		a.kids.tell(ctx, a, kidExec, messages.AttachPayload{})
	case lifecycle.FinishPayload:
		a.finishPayload(ctx, e.Level)
	case lifecycle.Leave:
		a.kids.tell(ctx, a, kidExec, messages.LeaveSession{})
	case lifecycle.CleanUpSession:
		a.kids.tell(ctx, a, kidExec, messages.CleanUpSession{})
	case lifecycle.Disconnect:
		a.disconnect(ctx)
	case lifecycle.Fail:
		panic(e.Fault)
	case lifecycle.Conclude:
		a.conclude()
	}
}

func (a *hostActor) dial() {
	dial, cancel := context.WithCancel(a.work.Context())
	a.cancel = cancel
	a.work.Go(func(context.Context) any {
		defer cancel()
		if err := a.cfg.Password.Ask(dial); err != nil {
			return err
		}
		conn, err := a.cfg.Dialer.Dial(dial, a.cfg.Host)
		if err != nil {
			return err
		}
		return connected{conn}
	})
}

// tunnelsPerEpoch leaves room for tunnels that are opened again on the same connection: sshd never removes a socket,
// so each needs a number, and with it a path, of its own.
const tunnelsPerEpoch = 100

func (a *hostActor) nextTunnel() messages.OpenTunnel {
	number := a.begin.Epoch*tunnelsPerEpoch + a.digs
	a.digs++
	return messages.OpenTunnel{Number: number, Socket: fmt.Sprintf("%s/etcd.%d.sock", a.facts.plan.Dir, number)}
}

func (a *hostActor) finishPayload(ctx actor.Context, level messages.StopLevel) {
	m := messages.FinishPayload{Interrupt: a.cfg.Deadlines.Interrupt, Terminate: a.cfg.Deadlines.Terminate}
	if level >= messages.StopNow {
		m = messages.FinishPayload{}
	}
	a.kids.tell(ctx, a, kidExec, m)
}

// disconnect ends the children first: what they hold is on the connection.
func (a *hostActor) disconnect(ctx actor.Context) {
	a.kids.dropAll(ctx)
	conn, clean := a.conn, a.machine.Trace() == messages.TraceNone
	a.conn = nil
	a.work.Go(func(ctx context.Context) any {
		if conn != nil {
			// A connection that can't be closed in order is gone all the same.
			_ = conn.Close()
		}
		if clean {
			if err := a.cfg.recordCleaned(ctx); err != nil {
				return err
			}
		}
		return disconnected{}
	})
}

// recordCleaned completes the record of a session that ended without its shim's help.
func (cfg Config) recordCleaned(ctx context.Context) error {
	record, ok := cfg.Ledger.Session(cfg.Host.Name)
	if !ok || record.Phase == store.PhaseCleaned {
		return nil
	}
	record.Phase = store.PhaseCleaned
	return cfg.Ledger.Record(ctx, cfg.Host.Name, record)
}

// conclude says the actor's last word.
func (a *hostActor) conclude() {
	r := a.machine.Result()
	r.Host = a.cfg.Host.Name
	if last := a.begin.Last; last != nil && r.Outcome == messages.OutcomeCanceled && a.machine.Finished() {
		// Nobody canceled this host: the others were done while it could not be reached.
		r.Outcome, r.Fault = messages.OutcomeUnreachable, last
	}
	a.send(messages.HostDone{Result: r})
}

// entered tells about the new state, begins and ends steps, and begins to expect a sign of life.
func (a *hostActor) entered(state lifecycle.State) {
	now := time.Now()
	a.expect(state)
	for _, event := range a.steps.entered(now, a, state) {
		a.tell(event)
	}
	a.tell(messages.StateChanged{At: now, Host: a.cfg.Host.Name, Epoch: a.begin.Epoch, State: state.String()})
	if state == lifecycle.Running {
		a.tell(messages.PayloadStarted{
			At: now, Host: a.cfg.Host.Name, Epoch: a.begin.Epoch, PID: a.steps.attached.PayloadPID, Reattached: !a.steps.attached.StartedNow,
			Restarts: a.steps.attached.Restarts,
		})
	}
}

// expect bounds how long the host may be silent in a state in which it owes an answer. Connecting and Probing have
// bounds of their own, and a payload may run and end as long as it likes: its deadlines are kept by the shim.
func (a *hostActor) expect(state lifecycle.State) {
	if a.silent != nil {
		a.silent()
		a.silent = nil
		a.expected++ // its message may be on the way
	}
	limit := a.cfg.Deadlines.Step
	switch state {
	case lifecycle.MakingDirectory, lifecycle.Copying, lifecycle.OpeningTunnel, lifecycle.Starting, lifecycle.Attaching,
		lifecycle.Rejoining, lifecycle.ClosingTunnel, lifecycle.CleaningUp, lifecycle.Disconnecting:
	case lifecycle.Finishing:
		limit += a.cfg.Deadlines.Interrupt + a.cfg.Deadlines.Terminate
	default:
		return
	}
	over, cancel := context.WithCancel(a.work.Context())
	a.expected++
	a.silent = cancel
	overdue := stepOverdue{a.expected}
	a.work.Go(func(context.Context) any {
		t := time.NewTimer(limit)
		defer t.Stop()
		select {
		case <-t.C:
			return overdue
		case <-over.Done():
			return nil
		}
	})
}

// aliveIn begins the state's deadline anew.
func (a *hostActor) aliveIn(state lifecycle.State) {
	if a.machine.State() == state {
		a.expect(state)
	}
}

// randomText is unguessable (crypto/rand.Text has at least 128 bits) and made of letters and digits only.
func randomText() string { return rand.Text() }
