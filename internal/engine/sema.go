package engine

import (
	"slices"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// semas are the counting semaphores that resources name; as in mgmt, two of one name with different counts are two.
//
// A vertex stands in the queues of all its semaphores at once and keeps each place it gets. Since it joins them all in
// one step, every queue has the same order: the first of all never waits for anybody behind it, so there is neither a
// deadlock nor one who waits for ever.
type semas map[graph.Sema]*sema

type sema struct {
	free  int
	queue []*vertex // without a place, in order
}

// join lets v queue for all its semaphores and reports whether it has them. If not, leave of another one says when.
func (s semas) join(v *vertex) bool {
	v.queuing = true
	for _, key := range v.semas {
		x := s[key]
		if x == nil {
			x = &sema{free: max(1, key.Count)}
			s[key] = x
		}
		if x.free > 0 {
			x.free--
			continue
		}
		x.queue = append(x.queue, v)
		v.missing++
	}
	return v.missing == 0
}

// leave gives back the places of v, also those in queues, and returns who has all of theirs now.
func (s semas) leave(v *vertex) (next []*vertex) {
	if !v.queuing {
		return nil
	}
	for _, key := range v.semas {
		x := s[key]
		if v.missing > 0 {
			if i := slices.Index(x.queue, v); i >= 0 {
				x.queue = slices.Delete(x.queue, i, i+1)
				continue
			}
		}
		if len(x.queue) == 0 {
			if x.free++; x.free == max(1, key.Count) {
				delete(s, key)
			}
			continue
		}
		first := x.queue[0]
		x.queue = x.queue[1:]
		if first.missing--; first.missing == 0 {
			next = append(next, first)
		}
	}
	v.queuing, v.missing = false, 0
	return next
}

// giveBack frees the semaphores of v, and makes ready who waited for them.
func (e *Engine) giveBack(v *vertex) { e.ready = append(e.ready, e.semas.leave(v)...) }
