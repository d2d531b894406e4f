package fleet

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// RunState is how a run that is on this machine's disk stands.
type RunState string

// The states of a run.
const (
	RunLive        RunState = "running"     // an initiator drives it
	RunInterrupted RunState = "interrupted" // its initiator is gone, and hosts are not done
	RunFinished    RunState = "finished"    // every host has its result; only the state is kept
)

// SavedRun is what this machine's disk says about a run.
type SavedRun struct {
	ID      string            `json:"run"`
	Dir     string            `json:"dir"`
	State   RunState          `json:"state"`
	Began   time.Time         `json:"began"`
	Owner   string            `json:"owner"` // its initiator, or the last one, for people
	Hosts   []string          `json:"hosts"`
	Results []messages.Result `json:"results"` // of hosts that are done, in the order of their names
}

// Runs returns all runs whose state is below stateDir ("" as in Options), the newest first. Those that can't be read
// are part of the error.
func Runs(stateDir string) ([]SavedRun, error) {
	peeks, err := store.ListRuns(stateDir)
	errs := []error{err}
	runs := make([]SavedRun, 0, len(peeks))
	for _, p := range peeks {
		run, err := savedRun(p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		runs = append(runs, run)
	}
	return runs, errors.Join(errs...)
}

func savedRun(p store.Peek) (SavedRun, error) {
	run := SavedRun{
		ID: p.ID, Dir: p.Dir, State: RunInterrupted, Began: p.Began, Owner: p.Owner.String(), Hosts: []string{}, Results: []messages.Result{},
	}
	done, err := decodeResults(p.Results)
	if err != nil {
		return run, damaged(p, err)
	}
	if p.Spec != nil { // else it was killed before it knew what to do
		s, err := parseSpec(p)
		if err != nil {
			return run, err
		}
		for _, h := range s.Hosts {
			run.Hosts = append(run.Hosts, h.Name)
		}
		slices.Sort(run.Hosts)
	}
	for _, name := range run.Hosts {
		if r, ok := done[name]; ok {
			run.Results = append(run.Results, r)
		}
	}
	over := !slices.ContainsFunc(run.Hosts, func(name string) bool { _, ok := done[name]; return !ok })
	switch {
	case p.Held:
		run.State = RunLive
	case over && len(run.Hosts) > 0:
		run.State = RunFinished
	}
	return run, nil
}

// ErrUnfinished tells that a run is not over.
var ErrUnfinished = errors.New("the run is not over")

// EndOf returns the last event of a run whose state was kept. Where hosts are not done, errors.Is(err, ErrUnfinished); where
// there is no such run, errors.Is(err, fs.ErrNotExist).
func EndOf(stateDir, run string) (messages.RunFinished, error) {
	peek, err := store.PeekRun(stateDir, run)
	if err != nil {
		return messages.RunFinished{}, err
	}
	saved, err := savedRun(peek)
	if err != nil {
		return messages.RunFinished{}, err
	}
	if saved.State != RunFinished || peek.End == nil {
		return messages.RunFinished{}, fmt.Errorf("run %s: %w", run, ErrUnfinished)
	}
	event, err := messages.DecodeEvent(peek.End)
	if err != nil {
		return messages.RunFinished{}, damaged(peek, err)
	}
	end, ok := event.(messages.RunFinished)
	if !ok {
		return end, damaged(peek, fmt.Errorf("its end is a %T", event))
	}
	return end, nil
}

// RunDir returns the directory of a run's state; its output is below logs there. Where there is no such run,
// errors.Is(err, fs.ErrNotExist).
func RunDir(stateDir, run string) (string, error) {
	peek, err := store.PeekRun(stateDir, run)
	return peek.Dir, err
}

// Forget removes the state of a run that nobody drives. Sessions that are left on hosts end by themselves after their
// orphan timeout, and nobody can continue them any more.
func Forget(stateDir, run string) error {
	if _, err := store.PeekRun(stateDir, run); err != nil {
		return err
	}
	r, err := store.OpenRun(store.RunOptions{Root: stateDir, ID: run})
	if err != nil {
		return err
	}
	return r.Forget()
}
