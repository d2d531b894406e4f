package messages

import (
	"fmt"
	"slices"
)

// Step is one of the nine steps that every host goes through.
type Step uint8

// The nine steps, in order.
const (
	StepConnect Step = iota + 1
	StepMakeDirectory
	StepCopy
	StepTunnel
	StepRun
	StepFinish
	StepCloseTunnel
	StepCleanUp
	StepDisconnect
)

var stepNames = [...]string{"", "connect", "make directory", "copy", "tunnel", "run", "finish", "close tunnel", "clean up", "disconnect"}

// String returns the step's name as people see it. Faults use the same words as their operation.
func (s Step) String() string {
	if s >= StepConnect && int(s) < len(stepNames) {
		return stepNames[s]
	}
	return fmt.Sprintf("step(%d)", uint8(s))
}

// MarshalText makes steps readable in JSON events.
func (s Step) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (s *Step) UnmarshalText(text []byte) error {
	i := slices.Index(stepNames[:], string(text))
	if i < int(StepConnect) {
		return fmt.Errorf("unknown step %q", text)
	}
	*s = Step(i)
	return nil
}

// StopLevel says how hard a stop is asked for. Levels only grow.
type StopLevel uint8

const (
	// StopNone: nobody asked for a stop.
	StopNone StopLevel = iota
	// StopFinish: end the payload properly (SIGINT, deadlines), then clean up.
	StopFinish
	// StopNow: do not wait for the payload (SIGKILL at once), but clean up.
	StopNow
	// StopLeave: tell the shim to end and clean up by itself, and leave without waiting.
	StopLeave
)

var stopNames = [...]string{"none", "finish", "now", "leave"}

// String returns the level as one word.
func (l StopLevel) String() string {
	if int(l) < len(stopNames) {
		return stopNames[l]
	}
	return fmt.Sprintf("stop(%d)", uint8(l))
}

// Outcome is how a host's part of the run ended.
type Outcome uint8

const (
	// OutcomeSucceeded: the payload ended well, or the group or host converged and was finished.
	OutcomeSucceeded Outcome = iota + 1
	// OutcomePayloadFailed: the payload ran and ended badly.
	OutcomePayloadFailed
	// OutcomeFailed: we could not do our part (see the fault).
	OutcomeFailed
	// OutcomeUnreachable: no connection, or none any more, within the time for all attempts.
	OutcomeUnreachable
	// OutcomeCanceled: somebody stopped the run before this host was done.
	OutcomeCanceled
	// OutcomeTakenOver: another initiator drives this run now.
	OutcomeTakenOver
	// OutcomeSkipped: it never began, because too many others had failed by then.
	OutcomeSkipped
)

var outcomeNames = [...]string{"", "ok", "payload failed", "failed", "unreachable", "canceled", "taken over", "skipped"}

// String returns the outcome in the words of the final table.
func (o Outcome) String() string {
	if o >= OutcomeSucceeded && int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// MarshalText makes outcomes readable in JSON events.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (o *Outcome) UnmarshalText(text []byte) error {
	i := slices.Index(outcomeNames[:], string(text))
	if i < int(OutcomeSucceeded) {
		return fmt.Errorf("unknown outcome %q", text)
	}
	*o = Outcome(i)
	return nil
}
