package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// Owner is who drives a run, or drove it last.
type Owner struct {
	PID     int       `json:"pid"`
	Machine string    `json:"machine"` // its host name
	Since   time.Time `json:"since"`
}

// String names the owner for people.
func (o Owner) String() string { return fmt.Sprintf("process %d on %s", o.PID, o.Machine) }

// Peek is what the disk says about a run, read without its lock: its initiator may go on meanwhile.
type Peek struct {
	ID, Dir  string
	Held     bool  // an initiator of this machine drives it right now
	Owner    Owner // who that is, or who was the last one
	Began    time.Time
	Spec     json.RawMessage // as given to SaveSpec; nil where the run never got that far
	End      json.RawMessage // as given to SaveEnd; nil where it never was
	Sessions map[string]SessionRecord
	Results  map[string]json.RawMessage
}

// Shrunk reports whether only what it was to do and how it ended is left, see Run.Shrink.
func (p Peek) Shrunk() bool {
	_, err := os.Stat(filepath.Join(p.Dir, shrunkFile))
	return err == nil
}

// Finished reports whether nothing of the run is left anywhere: it ended by itself, and only its state was kept.
func (p Peek) Finished() bool {
	for _, rec := range p.Sessions {
		if rec.Phase != PhaseCleaned {
			return false
		}
	}
	return p.Ended()
}

// Ended reports whether every host that the run began with has a result.
func (p Peek) Ended() bool {
	for host := range p.Sessions {
		if _, ok := p.Results[host]; !ok {
			return false
		}
	}
	return len(p.Results) > 0
}

// ListRuns returns all runs below root ("" as in RunOptions), the newest first. A run that can't be read is left out and
// part of the error.
func ListRuns(root string) ([]Peek, error) {
	const op = "list the runs"
	root, err := rootDir(root)
	if err != nil {
		return nil, fault.Wrap(fault.Environment, op, err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fault.Wrap(fault.Environment, op, err)
	}
	var runs []Peek
	var errs []error
	for _, e := range entries {
		if validID(e.Name()) != nil {
			continue
		}
		p, err := PeekRun(root, e.Name())
		switch {
		case err == nil:
			runs = append(runs, p)
		case !errors.Is(err, fs.ErrNotExist): // else it was removed a moment ago
			errs = append(errs, err)
		}
	}
	slices.SortFunc(runs, func(a, b Peek) int {
		if c := b.Began.Compare(a.Began); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return runs, errors.Join(errs...)
}

// PeekRun reads one run's state. Where there is no such run, errors.Is(err, fs.ErrNotExist).
func PeekRun(root, id string) (Peek, error) {
	const op = "read the run's state"
	root, err := rootDir(root)
	if err == nil {
		err = validID(id)
	}
	if err != nil {
		return Peek{}, fault.Wrap(fault.Environment, op, err)
	}
	p, err := peek(filepath.Join(root, id))
	if err != nil {
		return Peek{}, fault.Wrap(fault.Environment, op, fmt.Errorf("run %s: %w", id, err))
	}
	p.ID = id
	return p, nil
}

func peek(dir string) (Peek, error) {
	p := Peek{Dir: dir}
	f, err := os.Open(dir)
	if err != nil {
		return p, err
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		p.Held = true
	case err != nil:
		return p, errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil { // with it goes the lock
		return p, err
	}
	data, err := os.ReadFile(filepath.Join(dir, journalFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	view, _, _, err := parseJournal(data)
	if err != nil {
		return p, err
	}
	p.Sessions, p.Results = view.sessions, view.results
	for _, kept := range []struct {
		name string
		to   *json.RawMessage
	}{{specFile, &p.Spec}, {endFile, &p.End}} {
		if *kept.to, err = os.ReadFile(filepath.Join(dir, kept.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p, err
		}
	}
	var tenure tenure
	if err := readTenure(dir, &tenure); err != nil {
		return p, err
	}
	p.Owner, p.Began = tenure.Owner, tenure.Began
	return p, nil
}
