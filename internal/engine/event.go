package engine

import (
	"fmt"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// Status says how the whole definition stands.
type Status uint8

// The statuses. An engine starts Busy, and that is not told.
const (
	// Busy: something has not been checked yet, is being applied or waits for its next attempt.
	Busy Status = iota
	// Quiet: everything is as declared. A check that finds nothing to do does not interrupt it.
	Quiet
	// Stuck: something failed for good, and nothing else is left to do. Events can still change that.
	Stuck
)

// String returns the status as one word.
func (s Status) String() string {
	switch s {
	case Busy:
		return "busy"
	case Quiet:
		return "quiet"
	case Stuck:
		return "stuck"
	default:
		return fmt.Sprintf("status(%d)", uint8(s))
	}
}

// EventKind says what happened to a resource.
type EventKind uint8

// The kinds of events.
const (
	Checked    EventKind = iota // looked at, nothing to do
	WouldApply                  // not as declared, but noop
	Applied                     // changed
	Retrying                    // failed; another attempt comes after Delay
	Failed                      // failed for good: no attempt is left
	WatchEnded                  // what tells of its changes ended, for example a watch command; it starts again after Delay
	Released                    // not in the definition any more, and no work on it is under way; nothing was undone
)

// String returns the kind in the words people see.
func (k EventKind) String() string {
	switch k {
	case Checked:
		return "checked"
	case WouldApply:
		return "would apply"
	case Applied:
		return "applied"
	case Retrying:
		return "retrying"
	case Failed:
		return "failed"
	case WatchEnded:
		return "not watching"
	case Released:
		return "no longer managed"
	default:
		return fmt.Sprintf("event(%d)", uint8(k))
	}
}

// Event is something that happened to one resource.
type Event struct {
	ID     graph.ID
	Kind   EventKind
	Change string        // WouldApply, Applied: what is different, in words; never the content of a file
	Diff   string        // WouldApply: a unified diff, or one line that says why there is none; empty = none was asked for
	Output string        // what a command printed, its last 16 KiB
	Err    error         // Retrying, Failed, WatchEnded
	Delay  time.Duration // Retrying, WatchEnded
}

// Observer is told what happens, one event at a time, from the goroutine of Run. It should return quickly: the engine
// waits for it.
type Observer interface {
	Observe(Event)
}

// ObserverFunc makes an Observer of a function.
type ObserverFunc func(Event)

// Observe calls f.
func (f ObserverFunc) Observe(ev Event) { f(ev) }
