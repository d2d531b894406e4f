package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// patience is how long a test waits for what must happen; it is only used up by a failing test.
const patience = time.Minute

// run is an engine at work. It records every event and status.
type run struct {
	t       testing.TB
	e       *Engine
	cancel  context.CancelFunc
	done    chan error
	changed chan struct{} // has an element after something was recorded

	mu       sync.Mutex
	events   []Event
	statuses []Status
}

func parse(t testing.TB, format string, args ...any) *graph.Definition {
	t.Helper()
	def, err := graph.Parse("test.yaml", fmt.Appendf(nil, format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return def
}

// start runs def until stop or the end of the test.
func start(t testing.TB, def *graph.Definition, opts Options) *run {
	t.Helper()
	r := prepare(t, def, opts)
	r.begin()
	return r
}

// prepare makes an engine for def, whose observer and status it sets.
func prepare(t testing.TB, def *graph.Definition, opts Options) *run {
	t.Helper()
	r := &run{t: t, done: make(chan error, 1), changed: make(chan struct{}, 1)}
	opts.Observer = ObserverFunc(func(ev Event) { r.record(func() { r.events = append(r.events, ev) }) })
	opts.Status = func(s Status) { r.record(func() { r.statuses = append(r.statuses, s) }) }
	e, err := New(def, opts)
	if err != nil {
		t.Fatal(err)
	}
	r.e = e
	return r
}

// begin runs the engine.
func (r *run) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.e.Run(ctx) }()
}

// update moves the engine to another definition.
func (r *run) update(def *graph.Definition) {
	r.t.Helper()
	if err := r.e.Update(def); err != nil {
		r.t.Fatal(err)
	}
}

// forget drops what was recorded.
func (r *run) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events, r.statuses = nil, nil
}

func (r *run) record(f func()) {
	r.mu.Lock()
	f()
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// until waits until cond holds; it looks again after everything that the engine says, and now and then, since not all
// that happens is told.
func (r *run) until(what string, cond func() bool) {
	r.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-r.changed:
		case <-tick.C:
		case <-deadline.C:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("waited in vain for %s; events %+v, statuses %v", what, r.events, r.statuses)
		}
	}
}

func (r *run) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.statuses) == 0 {
		return Busy
	}
	return r.statuses[len(r.statuses)-1]
}

func (r *run) untilStatus(s Status) {
	r.t.Helper()
	r.until(s.String(), func() bool { return r.status() == s })
}

// count says how often a resource, named as in "file[a]", had an event of a kind.
func (r *run) count(id string, kind EventKind) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, ev := range r.events {
		if ev.ID.String() == id && ev.Kind == kind {
			n++
		}
	}
	return n
}

func (r *run) untilCount(id string, kind EventKind, n int) {
	r.t.Helper()
	r.until(fmt.Sprintf("%s %s %d times", id, kind, n), func() bool { return r.count(id, kind) >= n })
}

// nth returns an event of a resource and kind, counted from 1.
func (r *run) nth(id string, kind EventKind, n int) Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range r.events {
		if ev.ID.String() != id || ev.Kind != kind {
			continue
		}
		if n--; n == 0 {
			return ev
		}
	}
	return Event{}
}

// all returns the events so far.
func (r *run) all() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// last returns the newest event of a resource and kind.
func (r *run) last(id string, kind EventKind) Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.events) - 1; i >= 0; i-- {
		if r.events[i].ID.String() == id && r.events[i].Kind == kind {
			return r.events[i]
		}
	}
	return Event{}
}

// stop ends the engine and waits for it.
func (r *run) stop() {
	r.t.Helper()
	r.cancel()
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Fatalf("Run: %v", err)
		}
	case <-time.After(patience):
		r.t.Fatal("the engine does not end")
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read returns a file's content, or "-" if it is not there.
func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func lines(t testing.TB, path string) []string { return strings.Fields(read(t, path)) }

func in(dir, name string) string { return filepath.Join(dir, name) }
