package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// plan is a definition made ready for the loop, which has nothing more to do that could fail or takes long.
type plan struct {
	vertices []*vertex
	edges    []planEdge
	exported []graph.ID
}

type planEdge struct {
	from, to int
	notify   bool
}

func newPlan(def *graph.Definition, w World) (*plan, error) {
	p := &plan{vertices: make([]*vertex, 0, len(def.Resources))}
	index := make(map[graph.ID]int, len(def.Resources))
	for i := range def.Resources {
		r := &def.Resources[i]
		if _, twice := index[r.ID]; twice {
			return nil, fmt.Errorf("engine: %s is defined twice", r.ID)
		}
		index[r.ID] = i
		// Resources that came from other hosts were not parsed here.
		if f, isFile := r.Spec.(*graph.File); isFile && (!filepath.IsAbs(f.Path) || filepath.Clean(f.Path) != f.Location()) {
			return nil, fmt.Errorf("engine: %s: path %q is not absolute and clean", r.ID, f.Path)
		}
		impl, err := newResource(r, w)
		if err != nil {
			return nil, err
		}
		p.vertices = append(p.vertices, newVertex(r, impl))
		if r.Exported() {
			p.exported = append(p.exported, r.ID)
		}
	}
	pairs := make([][2]int, 0, len(def.Edges))
	for _, d := range def.Edges {
		from, fromOK := index[d.From]
		to, toOK := index[d.To]
		if !fromOK || !toOK {
			return nil, fmt.Errorf("engine: the edge from %s to %s leads nowhere", d.From, d.To)
		}
		p.edges = append(p.edges, planEdge{from: from, to: to, notify: d.Notify})
		pairs = append(pairs, [2]int{from, to})
	}
	if cycle := graph.FindCycle(len(def.Resources), pairs); cycle != nil {
		return nil, fmt.Errorf("engine: the edges make a cycle through %s", def.Resources[cycle[0]].ID)
	}
	for _, d := range autoEdges(def, index, pairs) {
		p.edges = append(p.edges, planEdge{from: d[0], to: d[1]})
	}
	return p, nil
}

// Update replaces the definition of a running engine by def, which must be as valid as New's. It may be called from any
// goroutine, from the observer, too; it does not wait until the change is made. The newest definition counts: one that
// the loop has not taken yet is replaced.
//
// A resource whose ID, Spec and Meta are equal in both definitions is not touched: it is not looked at again, its watcher
// goes on, and so do its attempts and timers. One that changed is looked at as if it were new, but never before work on
// its old form, or on the same file, has ended. One that is missing is let go: what was applied stays, a check of it
// that is under way is ended, a change of it is waited for, and the observer is told Released after that. The status is
// Busy as soon as there is something new to look at, or a change of something old to wait for.
//
// Before Run it replaces New's definition. An error means that def is not valid or that Run has ended; then nothing
// changes.
func (e *Engine) Update(def *graph.Definition) error {
	p, err := newPlan(def, e.opts.World)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch e.phase {
	case phaseNew:
		e.initial = p
		return nil
	case phaseOver:
		return errors.New("engine: Update: the engine has ended")
	}
	e.pending = p
	select {
	case e.updated <- struct{}{}:
	default: // the loop knows already
	}
	return nil
}

func (e *Engine) take() *plan {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.pending
	e.pending = nil
	return p
}

// install makes p what the loop works on.
func (e *Engine) install(ctx context.Context, p *plan) {
	byID := make(map[graph.ID]*vertex, len(p.vertices))
	var fresh []*vertex
	for i, v := range p.vertices {
		if old := e.byID[v.id]; old != nil && old.same(v) {
			p.vertices[i] = old
		} else {
			fresh = append(fresh, v)
			if old != nil {
				v.refresh = old.refresh || old.refreshing
			}
		}
		byID[v.id] = p.vertices[i]
	}
	old := e.vertices
	e.vertices, e.byID = p.vertices, byID
	for _, v := range old {
		if byID[v.id] != v {
			e.retire(v)
		}
	}
	e.timers.sweep()
	for _, v := range fresh {
		v.want++
		v.step = queued
		if w, watches := v.impl.(watcher); watches {
			v.step, v.watch = waiting, watchStarting
			e.keepWatching(ctx, v, w)
		}
		e.poll(v, time.Now())
	}
	e.connect(p.edges)
	if e.opts.World != nil {
		e.opts.World.Keep(p.exported)
	}
}

// retire lets a vertex go that is not in the definition any more. One that a worker has stays as a ghost until bury.
func (e *Engine) retire(v *vertex) {
	v.gone.Store(true)
	if v.endWatch != nil {
		v.endWatch()
	}
	if v.working() {
		v.endLook()
		v.verdict = unknown
		e.ghosts = append(e.ghosts, v)
		return
	}
	e.giveBack(v)
	e.forget(v)
}

// bury ends a ghost. What it changed at last was changed for those that its successor notifies.
func (e *Engine) bury(v *vertex, r report) {
	switch r.what {
	case reportApplied:
		e.opts.Observer.Observe(Event{ID: v.id, Kind: Applied, Change: r.change, Output: r.output})
		if successor := e.byID[v.id]; successor != nil {
			e.notify(successor)
		}
	case reportFailed:
		e.opts.Observer.Observe(Event{ID: v.id, Kind: Failed, Err: r.err, Output: r.output})
	}
	e.ghosts = slices.DeleteFunc(e.ghosts, func(g *vertex) bool { return g == v })
	e.set(v, ok, idle)
	e.forget(v)
}

func (e *Engine) forget(v *vertex) {
	e.files.drop(v)
	if e.byID[v.id] == nil {
		e.opts.Observer.Observe(Event{ID: v.id, Kind: Released})
	}
}

// connect makes the edges anew, and whatever follows from them.
func (e *Engine) connect(edges []planEdge) {
	for _, v := range e.vertices {
		v.next, v.blockers = nil, 0
	}
	add := func(from, to *vertex, notify bool) {
		from.next = append(from.next, edge{to: to, notify: notify})
		if !from.open() {
			to.blockers++
		}
	}
	for _, d := range edges {
		add(e.vertices[d.from], e.vertices[d.to], d.notify)
	}
	for _, g := range e.ghosts {
		g.next, g.blockers = nil, 0
		for _, v := range e.vertices {
			if g.excludes(v) {
				add(g, v, false)
			}
		}
	}
	e.notOK, e.failed, e.active, e.ready = 0, 0, 0, nil
	for _, v := range slices.Concat(e.vertices, e.ghosts) {
		e.count(v, 1)
		if v.step == queued && v.blockers > 0 {
			e.giveBack(v)
		}
	}
	e.ready = nil
	for _, v := range e.vertices {
		if v.step == queued && v.blockers == 0 {
			e.ready = append(e.ready, v)
		}
	}
}

// excludes reports whether nobody may work on w while a worker has v.
func (v *vertex) excludes(w *vertex) bool {
	if v.id == w.id {
		return true
	}
	f, isFile := v.spec.(*graph.File)
	g, isFileToo := w.spec.(*graph.File)
	return isFile && isFileToo && (within(f.Location(), g.Location()) || within(g.Location(), f.Location()))
}

// within reports whether path is dir or below it; both are clean.
func within(path, dir string) bool {
	rest, found := strings.CutPrefix(path, dir)
	return found && (rest == "" || rest[0] == '/' || strings.HasSuffix(dir, "/"))
}
