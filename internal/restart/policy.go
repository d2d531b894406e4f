// Package restart decides what happens to a child that failed: restart it (after how long) or stop it.
//
// The policy is pure: no clock, no goroutines, and the randomness is handed in. The fault's kind, the time and the
// child's own history are all it looks at. Waiting is not done here: a child is restarted at once and spends the delay
// in a state in which it answers. adapter.go connects the policy to protoactor.
package restart

import (
	"fmt"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// Policy bounds the restarts of one kind of child. The zero value is not usable; see Default.
type Policy struct {
	First  time.Duration // upper bound of the first delay
	Busy   time.Duration // the same after a Busy fault: the host asked for patience
	Factor float64       // each following bound is so many times the one before
	Cap    time.Duration // bound of all bounds
	Budget time.Duration // all attempts since things last were well; 0 = for ever, Once = no second attempt
	Stable time.Duration // a child that ran that long starts over with First and a full Budget

	// Slow is how long to wait, at most, where trying again would not help a child that never was well, but this one
	// was: a locked agent, an address that another machine has for a while, a full disk. At least half of it is waited
	// for, so that no account is hammered. 0 = such a failure is final here, too.
	Slow time.Duration

	Bugs      int           // so many Bug faults
	BugWindow time.Duration // within this time are forgiven
}

// Default is the policy of a batch run with the given time for all attempts (0 = for ever).
func Default(budget time.Duration) Policy {
	return Policy{
		First: 500 * time.Millisecond, Busy: 2 * time.Second, Factor: 2, Cap: 30 * time.Second, Budget: budget,
		Stable: time.Minute, Bugs: 3, BugWindow: time.Minute,
	}
}

// Stay is the policy of a run that never gives up by itself.
func Stay() Policy {
	p := Default(0)
	p.Slow = 5 * time.Minute
	return p
}

// Decision is what the policy says about one failure.
type Decision struct {
	Restart bool
	Delay   time.Duration // how long the restarted child waits; 0 where it is stopped
	Why     string        // for the person who reads why a host was given up; empty where Restart
}

// Tracker is the history of one child. It is owned by the child's supervisor and not safe for concurrent use.
type Tracker struct {
	policy  Policy
	random  func() float64 // in [0, 1)
	trouble time.Time      // when the present row of failures began; zero while all is well
	row     int            // failures in it
	well    time.Time      // when the child last said that it works; zero while it does not
	proven  bool           // it ever did
	bugs    []time.Time
}

// NewTracker starts a history. random returns numbers in [0, 1), as math/rand/v2.Float64 does.
func NewTracker(policy Policy, random func() float64) *Tracker {
	return &Tracker{policy: policy, random: random}
}

// Well tells that the child works since now. After Policy.Stable of that the next failure starts a new row.
func (t *Tracker) Well(now time.Time) {
	t.proven = true
	if t.well.IsZero() {
		t.well = now
	}
}

// Once, as a Budget, gives a child one attempt.
const Once = time.Nanosecond

// Failed decides about a failure of the given kind.
func (t *Tracker) Failed(kind fault.Kind, now time.Time) Decision {
	if !t.well.IsZero() && now.Sub(t.well) >= t.policy.Stable {
		t.trouble, t.row = time.Time{}, 0
	}
	t.well = time.Time{}
	switch kind {
	case fault.Lost, fault.Unreachable, fault.Busy:
		return t.again(kind, now)
	case fault.Bug, fault.Unknown:
		return t.bug(now)
	case fault.Denied, fault.Untrusted, fault.Environment:
		if t.proven && t.policy.Slow > 0 {
			return Decision{Restart: true, Delay: t.policy.Slow/2 + time.Duration(float64(t.policy.Slow/2)*t.random())}
		}
		fallthrough
	default:
		return Decision{Why: "trying again would not help"}
	}
}

// again restarts with exponential backoff and full jitter: anything between nothing and the bound, so that hosts
// that were lost together don't come back together.
func (t *Tracker) again(kind fault.Kind, now time.Time) Decision {
	if t.trouble.IsZero() {
		t.trouble = now
	}
	first := t.policy.First
	if kind == fault.Busy {
		first = t.policy.Busy
	}
	bound := float64(first)
	for range t.row {
		if bound *= t.policy.Factor; bound >= float64(t.policy.Cap) {
			break
		}
	}
	t.row++
	delay := time.Duration(min(bound, float64(t.policy.Cap)) * t.random())
	if t.policy.Budget == Once {
		return Decision{Why: "the only attempt"}
	}
	if t.policy.Budget > 0 {
		left := t.policy.Budget - now.Sub(t.trouble)
		if left <= 0 {
			return Decision{Why: fmt.Sprintf("%d attempts within %v, the time for all attempts", t.row, t.policy.Budget)}
		}
		// The last attempt is made at the end of the budget rather than never.
		delay = min(delay, left)
	}
	return Decision{Restart: true, Delay: delay}
}

func (t *Tracker) bug(now time.Time) Decision {
	recent := t.bugs[:0]
	for _, at := range t.bugs {
		if now.Sub(at) < t.policy.BugWindow {
			recent = append(recent, at)
		}
	}
	t.bugs = append(recent, now)
	if len(t.bugs) > t.policy.Bugs {
		return Decision{Why: fmt.Sprintf("%d internal errors within %v", len(t.bugs), t.policy.BugWindow)}
	}
	return Decision{Restart: true}
}
