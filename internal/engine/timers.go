package engine

import (
	"container/heap"
	"time"
)

type timerKind uint8

const (
	timerPoll    timerKind = iota // look, whatever the vertex does
	timerAttempt                  // end the waiting of a vertex
)

type timer struct {
	at     time.Time
	vertex *vertex
	kind   timerKind
}

// timers is a heap, the next one first.
type timers []timer

func (t *timers) add(at time.Time, v *vertex, kind timerKind) {
	heap.Push(t, timer{at: at, vertex: v, kind: kind})
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

// sweep forgets the timers of vertices that are gone.
func (t *timers) sweep() {
	kept := (*t)[:0]
	for _, x := range *t {
		if !x.vertex.gone.Load() {
			kept = append(kept, x)
		}
	}
	clear((*t)[len(kept):])
	*t = kept
	heap.Init(t)
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
	(*t)[len(*t)-1] = timer{}
	*t = (*t)[:len(*t)-1]
	return last
}

// expire does what timers are due for.
func (e *Engine) expire(now time.Time) {
	for {
		t, due := e.timers.pop(now)
		switch v := t.vertex; {
		case !due:
			return
		case v.gone.Load():
		case t.kind == timerAttempt:
			e.enqueue(v)
		case t.at.Equal(v.pollAt): // others were overtaken by a shorter interval
			v.pollAt = time.Time{}
			e.mark(v)
			e.poll(v, now)
		}
	}
}

// poll makes sure that a vertex is looked at again after its interval. It is called whenever that may have become shorter.
func (e *Engine) poll(v *vertex, now time.Time) {
	d := v.interval()
	if d == 0 {
		v.pollAt = time.Time{}
		return
	}
	if at := now.Add(d); v.pollAt.IsZero() || v.pollAt.After(at) {
		v.pollAt = at
		e.timers.add(at, v, timerPoll)
	}
}
