package host

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// This file is about definitions that change while the payload runs: made the host's own, copied, and told of. Nothing
// here ends the payload, or the host's part of the run: what does not succeed leaves the old definition in force.

// definitionMade is a definition that is ready to be copied.
type definitionMade struct{ messages.CopyDefinition }

// definitionFailed is one that is not, or whose copy did not succeed.
type definitionFailed struct {
	version uint64
	fault   *fault.Fault
}

// request says for whom a plan or a definition is made.
func (cfg Config) request(p prepared, d messages.Definition) payload.Request {
	return payload.Request{
		Run: cfg.Run, Host: cfg.Host.Name, Addr: cfg.Host.Addr, Facts: p.facts, Base: p.record.Base,
		Token: p.record.Token, Nonce: p.record.Nonce, Fence: p.record.Fence,
		Definition: payload.Definition{File: cfg.File, Source: d.Source, Vars: cfg.Vars},
	}
}

// makeDefinition begins to copy the newest definition: what it says may depend on the host.
func (a *hostActor) makeDefinition() {
	cfg, facts, newest := a.cfg, a.facts, a.newest
	a.work.Go(func(context.Context) any {
		file, err := cfg.Payload.Definition(cfg.request(facts, newest))
		if err != nil {
			return definitionFailed{newest.Version, fault.Wrap(fault.Bug, "copy", err)}
		}
		return definitionMade{messages.CopyDefinition{Version: newest.Version, Name: file.Name, Data: file.Data}}
	})
}

// copyDefinition has the sftp actor put it into place, unless it was given up meanwhile.
func (a *hostActor) copyDefinition(ctx actor.Context, m messages.CopyDefinition) {
	if a.machine.CopyingDefinition() == m.Version {
		a.copying = m
		a.kids.tell(ctx, a, kidSFTP, m)
	}
}

func (a *hostActor) definitionCopied(ctx actor.Context, version uint64) lifecycle.Event {
	if a.machine.CopyingDefinition() != version {
		return nil
	}
	a.kids.drop(ctx, kidSFTP)
	a.tell(messages.DefinitionUpdated{At: time.Now(), Host: a.cfg.Host.Name, Epoch: a.begin.Epoch, Version: version})
	return lifecycle.DefinitionCopied{Version: version}
}

func (a *hostActor) definitionNotCopied(m definitionFailed) lifecycle.Event {
	if a.machine.CopyingDefinition() != m.version {
		return nil
	}
	bare := *m.fault
	bare.Host, bare.Remedy = "", "" // they stand beside it
	a.tell(messages.DefinitionNotUpdated{
		At: time.Now(), Host: a.cfg.Host.Name, Epoch: a.begin.Epoch, Version: m.version, Reason: bare.Error(), Remedy: m.fault.Remedy,
	})
	return lifecycle.DefinitionNotCopied{Version: m.version}
}

// noSessionForACopy is about a server whose sessions are all taken while the payload runs.
func (a *hostActor) noSessionForACopy(f *fault.Fault) *fault.Fault {
	enough := 2
	if a.tunnel.Kind == messages.TunnelStdio {
		enough = 3
	}
	return fault.New(fault.Environment, f.Op, "the host has no session for a copy while the payload runs: %w", f.Err).
		WithHost(f.Host).
		WithRemedy("set MaxSessions to %d or more in the host's sshd_config", enough)
}
