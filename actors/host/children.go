package host

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/actors/exec"
	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/actors/sftp"
	"github.com/mgmt-remote/mgmt-remote/actors/tunnel"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// kid names one of the three child actors.
type kid string

const (
	kidSFTP   kid = "sftp"
	kidTunnel kid = "tunnel"
	kidExec   kid = "exec"
)

// children are the child actors that live, made when they are first told something.
type children map[kid]*actor.PID

// childFailed is how a child's failure reaches the actor's next turn: an effect may end this instance, which a
// supervisor strategy must not do while it is deciding.
type childFailed struct {
	name  kid
	fault *fault.Fault
}

// tell sends a command to a child and makes it first where it isn't there. An exec actor that replaces one that was
// given up has to claim the session first; what it is to do, the machine says when it hears that it is attached.
func (c *children) tell(ctx actor.Context, a *hostActor, name kid, message any) {
	if *c == nil {
		*c = children{}
	}
	pid := (*c)[name]
	if pid == nil {
		pid = ctx.SpawnPrefix(a.props(name), string(name))
		(*c)[name] = pid
		if name == kidExec && message != (messages.StartPayload{}) {
			message = messages.AttachPayload{}
		}
	}
	ctx.Send(pid, message)
}

func (c children) drop(ctx actor.Context, name kid) {
	if pid := c[name]; pid != nil {
		ctx.Stop(pid)
		delete(c, name)
	}
}

func (c children) dropAll(ctx actor.Context) {
	for name := range c {
		c.drop(ctx, name)
	}
}

func (c children) named(pid *actor.PID) (kid, bool) {
	for name, p := range c {
		if p.Equal(pid) {
			return name, true
		}
	}
	return "", false
}

func (a *hostActor) props(name kid) *actor.Props {
	switch name {
	case kidSFTP:
		return sftp.Props(sftp.Config{Conn: a.facts.way, Session: a.facts.plan.Session, Copy: a.facts.plan.Copy, Limit: a.cfg.Deadlines.Step})
	case kidTunnel:
		return tunnel.Props(tunnel.Config{
			Host: a.cfg.Host.Name, Conn: a.facts.way, Gateway: a.cfg.Gateway, Shim: a.facts.plan.Shim, Dir: a.facts.plan.Dir,
		})
	default:
		return exec.Props(exec.Config{
			Host: a.cfg.Host.Name, Epoch: a.begin.Epoch, Conn: a.facts.way, Ledger: a.cfg.Ledger, Output: a.cfg.Output,
			Shim: a.facts.plan.Shim, Record: a.facts.record, BootID: a.facts.facts.BootID,
		})
	}
}

// HandleFailure implements actor.SupervisorStrategy; protoactor calls it in the actor's own turn. A bug in a child
// restarts that child alone; everything else is the machine's to decide.
func (a *hostActor) HandleFailure(_ *actor.ActorSystem, self actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	name, known := a.kids.named(child)
	if !known {
		self.StopChildren(child) // given up already
		return
	}
	f := restart.FaultOf(reason).WithHost(a.cfg.Host.Name)
	if f.Kind == fault.Bug && a.bugs.Failed(f.Kind, time.Now()).Restart {
		self.RestartChildren(child)
		a.again(name, child)
		return
	}
	delete(a.kids, name)
	self.StopChildren(child)
	if version := a.machine.CopyingDefinition(); name == kidSFTP && version != 0 {
		if f.Kind == fault.Busy {
			f = a.noSessionForACopy(f)
		}
		a.work.Tell(a.work.Epoch(), definitionFailed{version, f})
		return
	}
	if name == kidExec && f.Kind == fault.Busy && a.tunnel.Kind == messages.TunnelStdio {
		f = a.noSecondSession(f)
	}
	a.work.Tell(a.work.Epoch(), childFailed{name, f})
}

// noSecondSession is about a server that has a session for the tunnel but none for the payload, where no Unix socket can be forwarded.
// Trying again finds the same.
func (a *hostActor) noSecondSession(f *fault.Fault) *fault.Fault {
	if user := a.cfg.Become.User; user != "" {
		return fault.New(fault.Environment, f.Op, "the tunnel takes a session of its own where everything runs as %s, and the host has no other one: %w", user, f.Err).
			WithHost(f.Host).
			WithRemedy("set MaxSessions to 2 or more in the host's sshd_config, or log in as %s", user)
	}
	return fault.New(fault.Environment, f.Op, "the tunnel takes a session where Unix sockets are not forwarded, and the host has no other one: %w", f.Err).
		WithHost(f.Host).
		WithRemedy("set MaxSessions to 2 or more, or AllowStreamLocalForwarding to yes, in the host's sshd_config")
}

// again tells a restarted child what its predecessor had been told, as far as the present state needs it.
func (a *hostActor) again(name kid, child *actor.PID) {
	root, state := a.work.Root(), a.machine.State()
	switch name {
	case kidSFTP:
		switch state {
		case lifecycle.MakingDirectory:
			root.Send(child, messages.MakeDirectory{})
		case lifecycle.Copying:
			root.Send(child, messages.Copy{})
		case lifecycle.Running:
			root.Send(child, a.copying)
		case lifecycle.CleaningUp:
			root.Send(child, messages.RemoveSession{})
		}
	case kidTunnel:
		switch state {
		case lifecycle.ClosingTunnel:
			root.Send(child, messages.CloseTunnel{})
		default:
			root.Send(child, a.nextTunnel())
		}
	case kidExec:
		switch state {
		case lifecycle.Starting:
			root.Send(child, messages.StartPayload{})
		default:
			root.Send(child, messages.AttachPayload{})
		}
	}
}
