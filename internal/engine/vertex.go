package engine

import (
	"container/heap"
	"path"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// verdict is what is known about a vertex.
type verdict uint8

const (
	unknown verdict = iota // not checked yet, or being changed
	ok                     // as declared when last looked at
	failed                 // could not be made so; stays until an attempt succeeds
)

// step is what is being done about a vertex.
type step uint8

const (
	idle     step = iota // nothing
	queued               // to be checked as soon as nothing blocks it
	checking             // a worker looks
	applying             // a worker changes
	waiting              // a timer runs until the next attempt
)

type vertex struct {
	id       graph.ID
	meta     graph.Meta
	impl     resource
	next     []edge
	poll     time.Duration // how often to look again; 0 = do not
	verdict  verdict
	step     step
	blockers int    // how many vertices before this one are not open
	attempts int    // failed attempts in a row
	want     uint64 // grows with each reason to look
	seen     uint64 // want when the last check began
}

// open reports whether vertices after this one may go on: it is as declared, and nothing says it may have changed.
func (v *vertex) open() bool { return v.verdict == ok && v.step == idle }

// active reports whether a vertex without verdict will get one without anything else happening.
func (v *vertex) active() bool {
	return v.verdict == unknown && v.step != idle && (v.step != queued || v.blockers == 0)
}

type edge struct {
	from, to int
	notify   bool
}

// set is the only place that changes verdict, step and blockers; it keeps the counters and the ready list right.
func (e *Engine) set(i int, verdict verdict, step step) {
	v := e.vertices[i]
	before := v.open()
	e.count(v, -1)
	v.verdict, v.step = verdict, step
	e.count(v, 1)
	if step == queued && v.blockers == 0 {
		e.ready = append(e.ready, i)
	}
	if v.open() == before {
		return
	}
	delta := 1
	if v.open() {
		delta = -1
	}
	for _, d := range v.next {
		to := e.vertices[d.to]
		e.count(to, -1)
		to.blockers += delta
		e.count(to, 1)
		if to.blockers == 0 && to.step == queued {
			e.ready = append(e.ready, d.to)
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

// directoryEdges orders what nests even where the definition does not say so: a directory before what is in it. mgmt does
// the same. Where these edges would contradict those of the definition, there are none of them.
func directoryEdges(def *graph.Definition, given []edge) []edge {
	dirs := make(map[string]int)
	for i, r := range def.Resources {
		if f, isFile := r.Spec.(*graph.File); isFile && f.Directory() && f.State == graph.Exists {
			dirs[f.Location()] = i
		}
	}
	if len(dirs) == 0 {
		return nil
	}
	var found []edge
	all := make([][2]int, 0, len(given))
	for _, d := range given {
		all = append(all, [2]int{d.from, d.to})
	}
	for i, r := range def.Resources {
		f, isFile := r.Spec.(*graph.File)
		if !isFile {
			continue
		}
		for dir := f.Location(); dir != "/"; {
			dir = path.Dir(dir)
			if from, managed := dirs[dir]; managed {
				found = append(found, edge{from: from, to: i})
				all = append(all, [2]int{from, i})
				break
			}
		}
	}
	if graph.FindCycle(len(def.Resources), all) != nil {
		return nil
	}
	return found
}

type reportKind uint8

const (
	reportApplying reportKind = iota // the check is over and the change begins; the one report that is not final
	reportClean
	reportWould
	reportApplied
	reportFailed
)

// report is what a worker tells the loop.
type report struct {
	vertex         int
	what           reportKind
	change, output string
	err            error
}

type timerKind uint8

const (
	timerPoll timerKind = iota
	timerRetry
)

type timer struct {
	at     time.Time
	vertex int
	kind   timerKind
}

// timers is a heap, the next one first.
type timers []timer

func (t *timers) add(at time.Time, vertex int, kind timerKind) {
	heap.Push(t, timer{at: at, vertex: vertex, kind: kind})
}

// next is how long to sleep until there is something to pop.
func (t *timers) next() time.Duration {
	if len(*t) == 0 {
		return time.Hour
	}
	return max(0, time.Until((*t)[0].at))
}

func (t *timers) pop(now time.Time) (timer, bool) {
	if len(*t) == 0 || (*t)[0].at.After(now) {
		return timer{}, false
	}
	return heap.Pop(t).(timer), true
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push implements heap.Interface.
func (t *timers) Push(x any) { *t = append(*t, x.(timer)) }

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
