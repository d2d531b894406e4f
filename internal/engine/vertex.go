package engine

import (
	"context"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// verdict is what is known about a vertex.
type verdict uint8

const (
	unknown verdict = iota // not checked yet, being changed, or to be refreshed
	ok                     // as declared when last looked at
	failed                 // could not be made so; stays until an attempt succeeds
)

// step is what is being done about a vertex.
type step uint8

const (
	idle     step = iota // nothing
	queued               // to be checked as soon as nothing blocks it and its semaphores have a place
	checking             // a worker looks
	applying             // a worker changes
	waiting              // a timer runs until the next attempt, or its watcher starts
)

// watchState is how it stands with the watcher of a vertex that has one.
type watchState uint8

const (
	watchNone watchState = iota // the resource has no watcher
	watchStarting
	watchUp
	watchDown // ended, and not ready again
)

// vertex is one resource of the definition. It belongs to the loop; a worker reads only what never changes, and gone.
type vertex struct {
	id   graph.ID
	meta graph.Meta
	spec graph.Spec
	impl resource

	next     []edge
	blockers int // how many vertices before this one are not open
	verdict  verdict
	step     step
	attempts int    // failed attempts in a row
	want     uint64 // grows with each reason to look
	seen     uint64 // want when the last check began

	refresh    bool // something notified it, and no look has answered that yet
	refreshing bool // the look that is under way answers a refresh

	watch  watchState
	blind  bool      // some of its paths can't be watched
	pollAt time.Time // when the poll timer rings; zero = it does not run

	limiter *rate.Limiter // nil = no limit
	looked  bool
	semas   []graph.Sema // without doubles
	queuing bool         // has a place, or a place in the queue, of each of its semaphores
	missing int          // how many of them it has no place of yet

	gone     atomic.Bool        // not in the definition any more: no worker begins to change it
	endLook  context.CancelFunc // ends the check that is under way
	endWatch context.CancelFunc // ends its watcher; nil if it has none
}

// edge leads to a vertex that waits for the one that has the edge.
type edge struct {
	to     *vertex
	notify bool
}

func newVertex(r *graph.Resource, impl resource) *vertex {
	v := &vertex{id: r.ID, meta: r.Meta, spec: r.Spec, impl: impl}
	if r.Meta.Limit > 0 {
		v.limiter = rate.NewLimiter(rate.Limit(r.Meta.Limit), max(1, r.Meta.Burst))
	}
	for _, s := range r.Meta.Sema {
		if !slices.Contains(v.semas, s) {
			v.semas = append(v.semas, s)
		}
	}
	return v
}

// same reports whether w declares what v does, so that v can stay.
func (v *vertex) same(w *vertex) bool {
	return v.id == w.id && reflect.DeepEqual(v.meta, w.meta) && reflect.DeepEqual(v.spec, w.spec)
}

// open reports whether vertices after this one may go on: it is as declared, and nothing says it may have changed.
func (v *vertex) open() bool { return v.verdict == ok && v.step == idle }

// active reports whether a vertex without verdict will get one without anything else happening.
func (v *vertex) active() bool {
	return v.verdict == unknown && v.step != idle && (v.step != queued || v.blockers == 0)
}

// working reports whether a worker has it.
func (v *vertex) working() bool { return v.step == checking || v.step == applying }

// interval is how often to look without another reason; 0 = never.
func (v *vertex) interval() time.Duration {
	if x, is := v.impl.(onDemand); is {
		return shorter(v.meta.Poll, x.pollInterval())
	}
	if v.blind || v.watch == watchDown {
		return shorter(v.meta.Poll, fallbackPoll)
	}
	return v.meta.Poll
}

// shorter is the shorter one of two intervals, of which 0 stands for never.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// set is the only place that changes verdict, step and, while edges stay as they are, blockers; it keeps the counters and
// the ready list right.
func (e *Engine) set(v *vertex, verdict verdict, step step) {
	before := v.open()
	e.count(v, -1)
	v.verdict, v.step = verdict, step
	e.count(v, 1)
	if step == queued && v.blockers == 0 {
		e.ready = append(e.ready, v)
	}
	if v.open() == before {
		return
	}
	delta := 1
	if v.open() {
		delta = -1
	}
	for _, d := range v.next {
		to := d.to
		e.count(to, -1)
		to.blockers += delta
		e.count(to, 1)
		switch {
		case to.step != queued:
		case to.blockers == 0:
			e.ready = append(e.ready, to)
		default: // what blocks it may need the places that it has
			e.giveBack(to)
		}
	}
}

func (e *Engine) count(v *vertex, by int) {
	if v.verdict != ok {
		e.notOK += by
	}
	if v.verdict == failed {
		e.failed += by
	}
	if v.active() {
		e.active += by
	}
}
