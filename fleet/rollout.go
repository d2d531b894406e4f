package fleet

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mgmt-remote/mgmt-remote/actors/supervisor"
	"github.com/mgmt-remote/mgmt-remote/internal/rollout"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Amount is a number of hosts, or a percentage of some.
type Amount = rollout.Amount

// ParseAmount reads "20" or "10%".
func ParseAmount(text string) (Amount, error) { return rollout.ParseAmount(text) }

// ParseAmounts reads amounts with commas between them, none of which is nothing.
func ParseAmounts(text string) ([]Amount, error) { return rollout.ParseAmounts(text) }

// Rollout says in which order hosts begin, and when no more do. The zero value begins all hosts in the order in which they are given,
// and never stops because of hosts that fail.
//
// A wave is over when all its hosts are done. So payloads must end by themselves, or with ConvergedTimeout; hosts then end on their
// own convergence. A wave of which hosts failed and none succeeded is the last one.
type Rollout struct {
	// Serial has the sizes of waves, percentages being of all hosts; the last size is repeated. Empty = one wave.
	Serial []Amount `json:"serial,omitempty"`
	// Canary are the hosts of a wave before all others. It tolerates no failure and no unreachable host unless bounds are given.
	Canary []string `json:"canary,omitempty"`

	PauseBetween time.Duration `json:"pause_between_ns,omitempty"` // between waves; Continue ends it early
	Confirm      bool          `json:"confirm,omitempty"`          // pause the run after each wave, until Continue

	// Where more hosts of a wave, or of all, fail than these, no more begin, and those are skipped. Nil = no bound. Percentages are
	// of the wave's hosts, or of all.
	MaxFailures         *Amount `json:"max_failures,omitempty"`
	MaxUnreachable      *Amount `json:"max_unreachable,omitempty"`
	MaxFailuresTotal    *Amount `json:"max_failures_total,omitempty"`
	MaxUnreachableTotal *Amount `json:"max_unreachable_total,omitempty"`
	StopOnExceeded      bool    `json:"stop_on_exceeded,omitempty"` // then end those in work, too
}

// waves plans the rollout of the hosts that are known. It is called with the lock held.
func (f *Fleet) waves() [][]string {
	return rollout.Waves(f.order, f.opts.Rollout.Serial, f.opts.Rollout.Canary)
}

// checkRollout refuses what would never end, or begin.
func (f *Fleet) checkRollout() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.opts
	for _, name := range o.Rollout.Canary {
		if _, there := f.hosts[name]; !there {
			return fmt.Errorf("the canary %s is no host of this run", name)
		}
	}
	if o.Rollout.PauseBetween < 0 {
		return fmt.Errorf("the pause between waves is %v", o.Rollout.PauseBetween)
	}
	waves := len(f.waves())
	if waves <= 1 {
		return nil
	}
	ends := len(o.Payload.Command) > 0 && o.Payload.Restart != RestartAlways || o.ConvergedTimeout > 0
	switch {
	case o.Converge == ConvergeGroup:
		return fmt.Errorf("a group converges only while all its hosts run, and they are to run in %d waves: have each host end on its own convergence", waves)
	case !ends:
		return errors.New("a wave is over when its payloads have ended, and these never would: give a time for convergence")
	case o.Stay:
		return errors.New("a wave is over when all its hosts are done, and a run that stays never gives a host up: leave that out")
	}
	return nil
}

// rollout is what the supervisor does of it, and what earlier initiators did.
func (r *running) rollout(waves [][]string) rollout.Options {
	o := r.fleet.opts.Rollout
	plan := rollout.Options{
		Waves: waves, Canary: len(o.Canary) > 0, Rest: o.PauseBetween, Ask: o.Confirm,
		Failures: o.MaxFailures, Unreachable: o.MaxUnreachable, TotalFailures: o.MaxFailuresTotal, TotalUnreachable: o.MaxUnreachableTotal,
		Ended: map[string]rollout.Outcome{},
	}
	for _, name := range slices.Concat(waves...) {
		if result, done := r.results.earlier[name]; done {
			plan.Ended[name] = supervisor.RolledOut(result.Outcome)
		} else if r.traceOf(name) == messages.TraceSession {
			plan.Begun = append(plan.Begun, name)
		}
	}
	return plan
}
