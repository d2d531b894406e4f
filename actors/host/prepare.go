package host

import (
	"context"

	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/become"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// prepared is what the probe found and what follows from it for this host.
type prepared struct {
	way    become.Way // what everything on the host goes through from now on
	facts  probe.Facts
	found  lifecycle.Found
	record store.SessionRecord
	plan   payload.Plan
	exit   *messages.Exit // recorded earlier, where only the cleaning up was left
}

// probeWith returns the work of the probe.
func probeWith(cfg Config, conn *sshconn.Conn, newest messages.Definition) func(context.Context) any {
	return func(ctx context.Context) any {
		p, err := cfg.prepare(ctx, conn, newest)
		if err != nil {
			return err
		}
		return p
	}
}

// prepare asks the host what is there, holds it against what was recorded, and makes the plan.
func (cfg Config) prepare(ctx context.Context, conn *sshconn.Conn, newest messages.Definition) (prepared, error) {
	way, err := become.Enter(ctx, conn, become.Options{
		Host: cfg.Host.Name, Target: cfg.Become, Password: cfg.Password,
		Again: func(ctx context.Context) (*sshconn.Conn, error) { return cfg.Dialer.Dial(ctx, cfg.Host) },
	})
	if err != nil {
		return prepared{}, err
	}
	facts, err := probe.Run(ctx, way, probe.Request{Prefix: cfg.Host.Prefix, Run: cfg.Run, Host: cfg.Host.Name})
	if err != nil {
		return prepared{}, err
	}
	record, recorded := cfg.Ledger.Session(cfg.Host.Name)
	p := prepared{way: way, facts: facts, record: record}
	session := facts.Session()
	if recorded && record.Exit != nil && !interrupted(record, facts.BootID) {
		p.exit = &messages.Exit{
			Code: record.Exit.Code, Signal: record.Exit.Signal, Error: record.Exit.Error, Cause: messages.Cause(record.Exit.Cause),
		}
	}
	p.found = compare(session.State, record, recorded, facts.BootID)
	switch {
	case p.found == lifecycle.FoundMissing || p.found == lifecycle.FoundForeign:
		return p, nil
	case p.found == lifecycle.FoundRebooted:
		if cfg.OnReboot != lifecycle.RebootReruns {
			return p, nil
		}
		if p.record, err = cfg.again(facts, record); err != nil {
			return prepared{}, err
		}
	case !recorded && session.State == probe.SessionPrepared:
		p.record = newSession(session.Base, session.Dir, facts.BootID)
	case !recorded || p.found == lifecycle.FoundNothing:
		if err := facts.Usable(); err != nil && p.exit == nil {
			return prepared{}, err
		}
		p.record = newSession(facts.Base, probe.SessionDir(facts.Base, cfg.Run, cfg.Host.Name), facts.BootID)
	}
	p.record.Fence = max(p.record.Fence, cfg.Ledger.Fence())
	if p.found == lifecycle.FoundNothing && p.exit != nil {
		return p, nil // done before, and nothing left: no plan is needed
	}
	there := p.found == lifecycle.FoundSession || p.found == lifecycle.FoundRemains
	if there {
		newest = messages.Definition{} // it goes on with what it has, whatever is wrong with a newer one
	}
	p.plan, err = cfg.Payload.Plan(cfg.request(p, newest))
	if there && len(record.Shim) > 0 {
		p.plan.Shim = record.Shim // the initiator that began it may have had another program, and ours was never copied there
	}
	return p, err
}

// again makes the record of the session that is started where a reboot ended the one before. What that one had said is in the
// log for good, so that the new one's output follows it.
func (cfg Config) again(facts probe.Facts, before store.SessionRecord) (store.SessionRecord, error) {
	if err := facts.Usable(); err != nil {
		return store.SessionRecord{}, err
	}
	if err := cfg.Output.Sync(); err != nil {
		return store.SessionRecord{}, fault.Wrap(fault.Environment, "run", err)
	}
	record := newSession(facts.Base, probe.SessionDir(facts.Base, cfg.Run, cfg.Host.Name), facts.BootID)
	record.Reruns, record.OutputStart = before.Reruns+1, cfg.Output.Offset()
	return record, nil
}

// compare reads the probe's word together with the record. The shim has the last word at the attach.
func compare(state probe.SessionState, record store.SessionRecord, recorded bool, boot string) lifecycle.Found {
	missing := lifecycle.FoundMissing
	if recorded && rebooted(record, boot) {
		missing = lifecycle.FoundRebooted
	}
	switch state {
	case probe.SessionLive:
		if !recorded {
			return lifecycle.FoundForeign
		}
		return lifecycle.FoundSession
	case probe.SessionStarted:
		switch {
		case !recorded:
			return lifecycle.FoundForeign
		case missing == lifecycle.FoundRebooted:
			return lifecycle.FoundRemains
		}
		return lifecycle.FoundSession
	case probe.SessionPrepared:
		switch {
		case !recorded:
			return lifecycle.FoundDirectory
		case interrupted(record, boot):
			return lifecycle.FoundRebooted
		case record.Phase == store.PhaseStarting:
			return lifecycle.FoundDirectory
		}
		// A session that was started leaves its record in the directory; this one was wiped and made anew.
		return missing
	default:
		switch {
		case !recorded:
			return lifecycle.FoundNothing
		case interrupted(record, boot):
			return lifecycle.FoundRebooted
		case record.Phase == store.PhaseCleaned || record.Phase == store.PhaseFinished:
			return lifecycle.FoundNothing
		}
		return missing
	}
}

// rebooted reports whether the host was rebooted since the session was started. Where no boot ID can be had, nobody knows.
func rebooted(record store.SessionRecord, boot string) bool {
	return record.BootID != "" && boot != "" && record.BootID != boot
}

// interrupted reports whether the end on record is a reboot's, or became one's: a payload that its host told to end had not come to
// its end if the host went down then.
func interrupted(record store.SessionRecord, boot string) bool {
	if record.Exit == nil {
		return false
	}
	cause := messages.Cause(record.Exit.Cause)
	return cause == messages.CauseReboot || cause == messages.CauseShutdown && rebooted(record, boot)
}
