package lifecycle

import (
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// This file is about hosts that were rebooted since their session was started. What is left of the session is fetched and removed, and
// then the host has failed, or the payload is started again: the clean-up leads back to the probe, which finds nothing.

// endedBy is whose work the end of the session is that is on the host.
type endedBy uint8

const (
	endedByPayload endedBy = iota // or by us, or it has not ended
	endedByReboot                 // the probe says so: what the payload had said is still to be had
	endedForRerun                 // that is done, or is not to be had: once nothing is left, the payload is started again
)

// rebooted is about a host on which nothing is left of the session.
func (m *Machine) rebooted() {
	m.trace = messages.TraceNone
	switch {
	case m.Stopping() || m.exit != nil:
		m.becomeDisconnecting()
	case m.reboot == RebootReruns:
		m.trace = messages.TraceDirectory
		m.do(Rerun{})
		m.enter(MakingDirectory, MakeDirectory{})
	default:
		m.fault = rebootFault()
		m.becomeDisconnecting()
	}
}

func rebootFault() *fault.Fault {
	return fault.New(fault.Environment, "run", "the host was rebooted while the payload ran").
		WithRemedy("run it again if it may run twice; with --on-reboot=rerun that is done at once")
}

// Reruns reports whether a payload that ended so is to be started again, so that its end is no news.
func (m *Machine) Reruns(exit messages.Exit) bool {
	if m.reboot != RebootReruns || m.Stopping() || m.exit != nil {
		return false
	}
	return exit.Cause == messages.CauseReboot || exit.Cause == messages.CauseShutdown
}

func (m *Machine) rerunning() bool { return m.ended == endedForRerun && !m.Stopping() }

// takeExit takes the payload's end and reports whether the tear-down follows.
func (m *Machine) takeExit(exit messages.Exit) bool {
	switch {
	case !m.Reruns(exit):
		if m.exit == nil {
			m.exit, m.asked = &exit, m.Stopping()
		}
		if exit.Cause == messages.CauseReboot && !m.Stopping() && m.fault == nil {
			m.fault = rebootFault()
		}
	case exit.Cause == messages.CauseReboot:
		m.ended = endedForRerun
	default:
		// What follows is a reboot, or not: a later connection tells. Where it finds the same boot, the end that is on record
		// by then is the payload's.
		m.do(Fail{fault.New(fault.Busy, "run", "the host ended the session: it may be about to reboot")})
		return false
	}
	return true
}

// lostRemains reports whether a fault means that what the payload had said last can't be fetched, where it is to be started again: it
// is given up.
func (m *Machine) lostRemains(f *fault.Fault) bool {
	if m.state != Attaching || m.ended != endedByReboot || f.Kind != fault.Environment || !m.Reruns(messages.Exit{Cause: messages.CauseReboot}) {
		return false
	}
	m.ended, m.trace = endedForRerun, messages.TraceDirectory
	m.do(Warn{f})
	return true
}
