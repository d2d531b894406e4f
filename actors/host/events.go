package host

import (
	"fmt"
	"time"

	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// steps makes the nine steps' events of the states that the machine enters.
type steps struct {
	current  messages.Step // 0: none
	since    time.Time
	copied   messages.Copied
	attached messages.Attached
}

// stepOf says which step a state belongs to; 0 for none.
func stepOf(state lifecycle.State) messages.Step {
	switch state {
	case lifecycle.Connecting, lifecycle.Probing:
		return messages.StepConnect
	case lifecycle.MakingDirectory:
		return messages.StepMakeDirectory
	case lifecycle.AwaitingUpload, lifecycle.Copying:
		return messages.StepCopy
	case lifecycle.OpeningTunnel, lifecycle.Rejoining:
		return messages.StepTunnel
	case lifecycle.Starting, lifecycle.Attaching, lifecycle.Running:
		return messages.StepRun
	case lifecycle.Finishing:
		return messages.StepFinish
	case lifecycle.ClosingTunnel:
		return messages.StepCloseTunnel
	case lifecycle.CleaningUp:
		return messages.StepCleanUp
	case lifecycle.Disconnecting:
		return messages.StepDisconnect
	}
	return 0
}

// words is what a fault names as its operation.
func (s *steps) words() string {
	if s.current == 0 {
		return messages.StepConnect.String()
	}
	return s.current.String()
}

// entered returns the events of a change of state: the end of one step, the beginning of another.
func (s *steps) entered(now time.Time, a *hostActor, state lifecycle.State) []messages.Event {
	next := stepOf(state)
	if next == s.current {
		return nil
	}
	var events []messages.Event
	if s.current != 0 && s.completed(next, a.machine.Trace()) {
		events = append(events, messages.StepDone{
			At: now, Host: a.cfg.Host.Name, Epoch: a.begin.Epoch, Step: s.current, Took: now.Sub(s.since), Detail: s.detail(a),
		})
	}
	s.current, s.since = next, now
	if next != 0 {
		events = append(events, messages.StepStarted{At: now, Host: a.cfg.Host.Name, Epoch: a.begin.Epoch, Step: next})
	}
	return events
}

// completed reports whether the step that ends was done, rather than given up on the way out.
func (s *steps) completed(next messages.Step, trace messages.Trace) bool {
	switch s.current {
	case messages.StepMakeDirectory, messages.StepCopy, messages.StepTunnel, messages.StepRun:
		return next == s.current+1
	case messages.StepCleanUp:
		return trace == messages.TraceNone
	}
	return true
}

// detail is what a person may want to know of the step that ends.
func (s *steps) detail(a *hostActor) string {
	switch s.current {
	case messages.StepConnect:
		return a.facts.facts.OS + "/" + a.facts.facts.Arch
	case messages.StepMakeDirectory:
		return a.facts.plan.Dir
	case messages.StepCopy:
		if s.copied.Sent == 0 {
			return "cached"
		}
		return size(s.copied.Sent)
	case messages.StepTunnel:
		return a.tunnel.Kind.String()
	case messages.StepRun:
		if s.attached.PayloadPID == 0 {
			return "not started"
		}
		return fmt.Sprintf("pid %d", s.attached.PayloadPID)
	}
	return ""
}

// size shows a number of bytes as people say it.
func size(bytes int64) string {
	if bytes < 1_000_000 {
		return fmt.Sprintf("%.1f kB", float64(bytes)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}
