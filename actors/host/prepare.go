package host

import (
	"context"

	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// prepared is what the probe found and what follows from it for this host.
type prepared struct {
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
	facts, err := probe.Run(ctx, conn, probe.Request{Prefix: cfg.Host.Prefix, Run: cfg.Run, Host: cfg.Host.Name})
	if err != nil {
		return prepared{}, err
	}
	record, recorded := cfg.Ledger.Session(cfg.Host.Name)
	p := prepared{facts: facts, record: record}
	session := facts.Session()
	if recorded && record.Exit != nil {
		p.exit = &messages.Exit{Code: record.Exit.Code, Signal: record.Exit.Signal, Error: record.Exit.Error}
	}
	p.found = compare(session.State, record, recorded)
	switch {
	case p.found == lifecycle.FoundMissing || p.found == lifecycle.FoundForeign:
		return p, nil
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
	if p.found == lifecycle.FoundSession {
		newest = messages.Definition{} // it goes on with what it has, whatever is wrong with a newer one
	}
	p.plan, err = cfg.Payload.Plan(cfg.request(p, newest))
	return p, err
}

// compare reads the probe's word together with the record. The shim has the last word at the attach.
func compare(state probe.SessionState, record store.SessionRecord, recorded bool) lifecycle.Found {
	switch state {
	case probe.SessionLive, probe.SessionStarted:
		if !recorded {
			return lifecycle.FoundForeign
		}
		return lifecycle.FoundSession
	case probe.SessionPrepared:
		if recorded && record.Phase != store.PhaseStarting {
			// A session that was started leaves its record in the directory; this one was wiped and made anew.
			return lifecycle.FoundMissing
		}
		return lifecycle.FoundDirectory
	default:
		if !recorded || record.Phase == store.PhaseCleaned || record.Phase == store.PhaseFinished {
			return lifecycle.FoundNothing
		}
		return lifecycle.FoundMissing
	}
}
