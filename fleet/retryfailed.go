package fleet

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// ErrNothingFailed tells that every host of a run succeeded.
var ErrNothingFailed = errors.New("every host succeeded")

// RetryFailed returns the options of a finished run for a new one on those of its hosts that did not succeed, for whatever reason, in
// the order in which they were given. What the caller adds is what it adds to those of Saved. Where every host succeeded,
// errors.Is(err, ErrNothingFailed); where sessions may be left on hosts, errors.Is(err, ErrUnfinished): whoever continues that run
// looks after them; where there is no such run, errors.Is(err, fs.ErrNotExist).
func RetryFailed(stateDir, run string) (Options, error) {
	peek, err := store.PeekRun(stateDir, run)
	if err != nil {
		return Options{}, err
	}
	saved, err := savedRun(peek)
	if err != nil {
		return Options{}, err
	}
	switch saved.State {
	case RunLive:
		return Options{}, fmt.Errorf("run %s goes on, driven by %s: %w", run, saved.Owner, ErrUnfinished)
	case RunInterrupted:
		return Options{}, fmt.Errorf("sessions of run %s may be left on hosts, `mgmt-remote resume %s` looks after them: %w", run, run, ErrUnfinished)
	}
	o, err := Saved(stateDir, run)
	if err != nil {
		return Options{}, err
	}
	succeeded := make(map[string]bool, len(saved.Results))
	for _, r := range saved.Results {
		succeeded[r.Host] = r.Outcome == messages.OutcomeSucceeded
	}
	ok := func(name string) bool { return succeeded[name] }
	o.Run = ""
	o.Hosts = slices.DeleteFunc(o.Hosts, func(h Host) bool { return ok(h.Name) })
	o.Rollout.Canary = slices.DeleteFunc(o.Rollout.Canary, ok)
	if len(o.Hosts) == 0 {
		return Options{}, fmt.Errorf("run %s: %w", run, ErrNothingFailed)
	}
	return o, nil
}

// isForRetry reports whether somebody may want this run again on the hosts that did not succeed. A run that was stopped before it had
// got anywhere, or when all its payloads ran, is not: the same command line does the same.
func isForRetry(report Report) bool {
	some := func(is func(messages.Result) bool) bool { return slices.ContainsFunc(report.Results, is) }
	succeeded := some(func(m messages.Result) bool { return m.Outcome == messages.OutcomeSucceeded })
	failed := some(func(m messages.Result) bool {
		return m.Outcome != messages.OutcomeSucceeded && m.Outcome != messages.OutcomeCanceled
	})
	stopped := some(func(m messages.Result) bool { return m.Outcome == messages.OutcomeCanceled && m.Exit == nil })
	return failed || report.TimedOut || succeeded && stopped
}

// keptForRetry is how many finished runs are kept only because hosts of them did not succeed.
const keptForRetry = 10

// keepForRetry keeps of a finished run what RetryFailed needs, and closes it. Of those that were kept before, the oldest go.
func (r *running) keepForRetry() error {
	stateDir := r.fleet.opts.StateDir
	errs := []error{r.saveEnd(), r.run.Shrink(), r.run.Close()}
	peeks, err := store.ListRuns(stateDir)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	kept := 0
	for _, p := range peeks { // the newest first
		if p.Held || !p.Finished() || !p.Shrunk() {
			continue
		}
		if kept++; kept > keptForRetry {
			errs = append(errs, Forget(stateDir, p.ID))
		}
	}
	return errors.Join(errs...)
}
