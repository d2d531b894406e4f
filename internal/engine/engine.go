// Package engine makes this machine look as a definition says, and keeps it so.
//
//	e, err := engine.New(def, engine.Options{Observer: o})
//	err = e.Run(ctx) // until ctx ends
//
// Every resource is checked, applied if it is not as declared, and watched: what drifts is applied again. A resource waits
// for those that edges put before it; all others run in parallel. A failed one is tried again as its meta parameters say,
// and after that whenever something about it changes. It never stops the others, except those that wait for it.
//
// One goroutine, the loop in Run, owns all state and calls the observer; workers only check and apply, and report. The
// engine knows nothing of etcd or other hosts. With Noop it changes nothing: it only runs what a definition itself calls
// a question (ifcmd, watchcmd).
package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

const (
	// defaultParallel is how many resources are worked on at once: many, because commands mostly wait; not without
	// limit, because each costs file descriptors.
	defaultParallel = 64
	// minRetryDelay separates attempts even where the definition gives no delay, so that `retry: -1` is no busy loop.
	minRetryDelay = 100 * time.Millisecond
	// failedHold is how long events about a failed resource are gathered before it is tried again.
	failedHold = 250 * time.Millisecond
	// fallbackPoll replaces watching where the system does not let us watch.
	fallbackPoll = 10 * time.Second
)

// Options of an engine. The zero value works.
type Options struct {
	Noop     bool         // only say what would change
	Observer Observer     // told what happens; nil = nobody
	Status   func(Status) // told about each change of the status, from Run's goroutine; must not block; nil = nobody
	Parallel int          // how many resources are worked on at once; 0 = 64
	World    World        // for kv and exported resources; nil = this machine is alone. The caller's, used until Run returns
}

// Engine applies one definition. Use it for one Run.
type Engine struct {
	opts     Options
	vertices []*vertex
	ready    []int // queued vertices that may start, in order; may hold outdated ones
	timers   timers
	running  int // workers at work
	notOK    int // vertices whose verdict is not ok
	failed   int // vertices whose verdict is failed
	active   int // vertices without verdict that are not merely blocked
	status   Status
	reports  chan report
	marks    chan []int // from watchers: look at these again
	notes    chan Event // from watchers: for the observer
}

// New prepares an engine for def, which must come from graph.Parse. It touches nothing yet.
func New(def *graph.Definition, opts Options) (*Engine, error) {
	if opts.Parallel < 0 {
		return nil, errors.New("engine: Parallel is negative")
	}
	if opts.Parallel == 0 {
		opts.Parallel = defaultParallel
	}
	if opts.Observer == nil {
		opts.Observer = ObserverFunc(func(Event) {})
	}
	if opts.Status == nil {
		opts.Status = func(Status) {}
	}
	e := &Engine{opts: opts, reports: make(chan report), marks: make(chan []int), notes: make(chan Event)}
	for i := range def.Resources {
		r := &def.Resources[i]
		impl, err := newResource(r, opts.World)
		if err != nil {
			return nil, err
		}
		e.vertices = append(e.vertices, &vertex{id: r.ID, meta: r.Meta, impl: impl})
	}
	index := def.Index()
	edges := make([]edge, 0, len(def.Edges))
	for _, d := range def.Edges {
		edges = append(edges, edge{from: index[d.From], to: index[d.To], notify: d.Notify})
	}
	for _, d := range append(edges, directoryEdges(def, edges)...) {
		e.vertices[d.from].next = append(e.vertices[d.from].next, d)
		e.vertices[d.to].blockers++
	}
	return e, nil
}

// Run applies and watches until ctx ends, then waits until all work ended and returns nil. An error means that the
// engine could not start. Commands that run when ctx ends get SIGTERM, and SIGKILL two seconds later.
func (e *Engine) Run(ctx context.Context) error {
	var watchers sync.WaitGroup
	defer watchers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := e.watch(ctx, &watchers); err != nil {
		return err
	}
	now := time.Now()
	for i, v := range e.vertices {
		e.notOK++
		v.want++
		if v.poll == 0 || v.meta.Poll > 0 && v.meta.Poll < v.poll {
			v.poll = v.meta.Poll
		}
		if v.poll > 0 {
			e.timers.add(now.Add(v.poll), i, timerPoll)
		}
		e.enqueue(i)
	}
	e.loop(ctx)
	for e.running > 0 { // workers obey ctx; what they say no longer matters
		if r := <-e.reports; r.what != reportApplying {
			e.running--
		}
	}
	return nil
}

func (e *Engine) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		e.dispatch(ctx)
		e.publish()
		timer.Reset(e.timers.next())
		select {
		case <-ctx.Done():
			return
		case r := <-e.reports:
			if ctx.Err() != nil { // a command that we killed did not fail
				if r.what != reportApplying {
					e.running--
				}
				return
			}
			e.handle(r)
		case list := <-e.marks:
			for _, i := range list {
				e.mark(i)
			}
		case ev := <-e.notes:
			e.opts.Observer.Observe(ev)
		case <-timer.C:
			e.expire(time.Now())
		}
	}
}

// dispatch starts workers for what is ready.
func (e *Engine) dispatch(ctx context.Context) {
	for len(e.ready) > 0 && e.running < e.opts.Parallel {
		i := e.ready[0]
		e.ready = e.ready[1:]
		v := e.vertices[i]
		if v.step != queued || v.blockers > 0 {
			continue
		}
		v.seen = v.want
		e.set(i, v.verdict, checking)
		e.running++
		go e.work(ctx, i, v.impl, e.opts.Noop || v.meta.Noop)
	}
}

// work is a worker: it checks one vertex, applies it if needed, and reports. It ends with exactly one final report.
func (e *Engine) work(ctx context.Context, i int, impl resource, noop bool) {
	change, err := impl.check(ctx)
	switch {
	case err != nil:
		e.reports <- report{vertex: i, what: reportFailed, err: err}
	case change == "":
		e.reports <- report{vertex: i, what: reportClean}
	case noop:
		e.reports <- report{vertex: i, what: reportWould, change: change}
	default:
		e.reports <- report{vertex: i, what: reportApplying}
		output, err := impl.apply(ctx)
		r := report{vertex: i, what: reportApplied, change: change, output: output, err: err}
		if err != nil {
			r.what = reportFailed
		}
		e.reports <- r
	}
}

func (e *Engine) handle(r report) {
	v := e.vertices[r.vertex]
	if r.what == reportApplying {
		verdict := v.verdict
		if verdict == ok {
			verdict = unknown
		}
		e.set(r.vertex, verdict, applying)
		return
	}
	e.running--
	switch r.what {
	case reportFailed:
		e.fail(r)
		return
	case reportClean:
		e.opts.Observer.Observe(Event{ID: v.id, Kind: Checked})
	case reportWould:
		e.opts.Observer.Observe(Event{ID: v.id, Kind: WouldApply, Change: r.change})
	case reportApplied:
		e.opts.Observer.Observe(Event{ID: v.id, Kind: Applied, Change: r.change, Output: r.output})
		for _, d := range v.next {
			if d.notify {
				e.mark(d.to)
			}
		}
	}
	v.attempts = 0
	e.set(r.vertex, ok, idle)
	if v.seen != v.want {
		e.enqueue(r.vertex)
	}
}

// fail decides what a failure means: nothing yet if something before the vertex broke as well, another attempt, or
// failed until an event.
func (e *Engine) fail(r report) {
	v := e.vertices[r.vertex]
	if v.blockers > 0 {
		e.set(r.vertex, v.verdict, queued)
		return
	}
	event := Event{ID: v.id, Kind: Failed, Err: r.err, Output: r.output}
	v.attempts++
	if v.meta.Retry < 0 || v.attempts <= v.meta.Retry {
		event.Kind, event.Delay = Retrying, max(v.meta.Delay, minRetryDelay)
		e.opts.Observer.Observe(event)
		if v.verdict == ok {
			e.set(r.vertex, unknown, waiting)
		} else {
			e.set(r.vertex, v.verdict, waiting)
		}
		e.timers.add(time.Now().Add(event.Delay), r.vertex, timerRetry)
		return
	}
	v.attempts = 0
	e.opts.Observer.Observe(event)
	e.set(r.vertex, failed, idle)
	if v.seen != v.want {
		e.hold(r.vertex)
	}
}

// mark notes that a vertex has to be looked at (again).
func (e *Engine) mark(i int) {
	v := e.vertices[i]
	v.want++
	if v.step != idle {
		return // it is looked at later, or once more
	}
	if v.verdict == failed {
		e.hold(i)
	} else {
		e.enqueue(i)
	}
}

func (e *Engine) hold(i int) {
	e.set(i, e.vertices[i].verdict, waiting)
	e.timers.add(time.Now().Add(failedHold), i, timerRetry)
}

func (e *Engine) enqueue(i int) {
	e.set(i, e.vertices[i].verdict, queued)
}

func (e *Engine) expire(now time.Time) {
	for {
		t, due := e.timers.pop(now)
		if !due {
			return
		}
		switch v := e.vertices[t.vertex]; t.kind {
		case timerPoll:
			e.mark(t.vertex)
			e.timers.add(now.Add(v.poll), t.vertex, timerPoll)
		case timerRetry:
			e.enqueue(t.vertex)
		}
	}
}

// publish reports the status if it changed.
func (e *Engine) publish() {
	s := Busy
	switch {
	case e.notOK == 0:
		s = Quiet
	case e.failed > 0 && e.active == 0:
		s = Stuck
	}
	if s != e.status {
		e.status = s
		e.opts.Status(s)
	}
}
