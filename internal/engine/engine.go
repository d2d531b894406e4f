// Package engine makes this machine look as a definition says, and keeps it so.
//
//	e, err := engine.New(def, engine.Options{Observer: o})
//	err = e.Run(ctx) // until ctx ends
//
// Every resource is checked, applied if it is not as declared, and watched: what drifts is applied again. A resource waits
// for those that edges put before it; all others run in parallel. A failed one is tried again as its meta parameters say,
// and after that whenever something about it changes. It never stops the others, except those that wait for it.
//
// What changed over a notify edge refreshes what is behind it. What a refresh did is a change as well, as in mgmt: it
// refreshes what is behind that.
//
// Update moves a running engine to another definition and leaves alone what is the same in both.
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

// Engine applies one definition, and others that replace it. Use it for one Run.
type Engine struct {
	opts    Options
	initial *plan
	files   *fileWatcher
	reports chan report
	notices chan notice
	updated chan struct{} // has an element when there is a pending plan

	mu      sync.Mutex // guards phase and pending
	phase   phase
	pending *plan // what Update left for the loop

	// What follows belongs to the loop.
	vertices []*vertex // in the order of the definition
	byID     map[graph.ID]*vertex
	ghosts   []*vertex // not in the definition any more, but a worker has them
	ready    []*vertex // queued vertices that may start, in order; may hold outdated ones
	semas    semas
	timers   timers
	running  int // workers at work
	notOK    int // vertices whose verdict is not ok
	failed   int // vertices whose verdict is failed
	active   int // vertices without verdict that are not merely blocked
	status   Status
	watchers sync.WaitGroup
}

type phase uint8

const (
	phaseNew phase = iota
	phaseRunning
	phaseOver
)

// New prepares an engine for def, which must come from graph.Parse or be as valid. It touches nothing yet.
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
	initial, err := newPlan(def, opts.World)
	if err != nil {
		return nil, err
	}
	return &Engine{
		opts: opts, initial: initial, semas: make(semas),
		reports: make(chan report), notices: make(chan notice), updated: make(chan struct{}, 1),
	}, nil
}

// Run applies and watches until ctx ends, then waits until all work ended and returns nil. An error means that the
// engine could not start. Commands that run when ctx ends get SIGTERM, and SIGKILL two seconds later.
func (e *Engine) Run(ctx context.Context) error {
	if !e.enter(phaseNew, phaseRunning) {
		return errors.New("engine: Run was called before")
	}
	defer e.enter(phaseRunning, phaseOver)
	files, err := newFileWatcher()
	if err != nil {
		return err
	}
	e.files = files
	defer e.watchers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e.watchers.Go(func() {
		files.run(ctx, func(list []*vertex) { e.tell(ctx, notice{what: noticeChanged, vertices: list}) })
	})
	e.install(ctx, e.initial)
	e.initial = nil
	e.loop(ctx)
	for e.running > 0 { // workers obey ctx; what they say no longer matters
		if r := <-e.reports; r.what != reportApplying {
			e.running--
		}
	}
	return nil
}

// enter moves from one phase to the next, unless that is not the phase.
func (e *Engine) enter(from, to phase) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != from {
		return false
	}
	e.phase, e.pending = to, nil
	return true
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
		case n := <-e.notices:
			e.notice(n)
		case <-e.updated:
			if p := e.take(); p != nil {
				e.install(ctx, p)
			}
		case <-timer.C:
			e.expire(time.Now())
		}
	}
}

func (e *Engine) outdated() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pending != nil
}

// mark notes that a vertex has to be looked at (again).
func (e *Engine) mark(v *vertex) {
	if v.gone.Load() {
		return
	}
	v.want++
	if v.step != idle {
		return // it is looked at later, or once more
	}
	if v.verdict == failed {
		e.hold(v)
	} else {
		e.enqueue(v)
	}
}

func (e *Engine) hold(v *vertex) { e.wait(v, v.verdict, failedHold) }

// wait queues a vertex after a while.
func (e *Engine) wait(v *vertex, verdict verdict, d time.Duration) {
	e.set(v, verdict, waiting)
	e.timers.add(time.Now().Add(d), v, timerAttempt)
}

func (e *Engine) enqueue(v *vertex) { e.set(v, v.verdict, queued) }

// publish reports the status if it changed. Where a definition waits to be taken, what there is to say is outdated.
func (e *Engine) publish() {
	if e.outdated() {
		return
	}
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
