package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// watchRestart is how long a watcher that ended stays away at first; it doubles up to watchRestartMax.
const (
	watchRestart    = time.Second
	watchRestartMax = 30 * time.Second
)

type noticeKind uint8

const (
	noticeChanged noticeKind = iota // look at the vertices again
	noticeReady                     // the watcher of the vertex watches
	noticeEnded                     // it does not, for delay
)

// notice is what a watcher tells the loop. The first two kinds are about all vertices in it, the last about the only one.
type notice struct {
	what     noticeKind
	vertices []*vertex
	err      error
	delay    time.Duration
}

// tell hands a notice to the loop.
func (e *Engine) tell(ctx context.Context, n notice) {
	select {
	case e.notices <- n:
	case <-ctx.Done():
	}
}

// keepWatching runs the watcher of a vertex until the vertex is gone, or ctx ends.
func (e *Engine) keepWatching(ctx context.Context, v *vertex, w watcher) {
	ctx, v.endWatch = context.WithCancel(ctx)
	me := []*vertex{v}
	e.watchers.Go(func() {
		delay := watchRestart
		for ctx.Err() == nil {
			var alive atomic.Bool
			began := time.Now()
			err := w.watch(ctx,
				func() { e.tell(ctx, notice{what: noticeReady, vertices: me}) },
				func() { alive.Store(true); e.tell(ctx, notice{what: noticeChanged, vertices: me}) })
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				err = errors.New("watching ended")
			}
			if alive.Load() || time.Since(began) > watchRestartMax {
				delay = watchRestart
			}
			e.tell(ctx, notice{what: noticeEnded, vertices: me, err: err, delay: delay})
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
			delay = min(2*delay, watchRestartMax)
		}
	})
}

// follow has the paths of a vertex watched, before the vertex is looked at, and reports whether some can't be. What the
// paths are may depend on the disk. So they are asked for until they are the same twice: then all of them were watched
// before they were read for the last time. A worker calls it.
func (e *Engine) follow(v *vertex) (blind bool) {
	p, has := v.impl.(pathWatcher)
	if !has {
		return false
	}
	for range 10 {
		var changed bool
		if changed, blind = e.files.follow(v, p.paths()); !changed {
			return blind
		}
	}
	return true // they change too fast
}

// notice does what a watcher has a reason for.
func (e *Engine) notice(n notice) {
	for _, v := range n.vertices {
		if v.gone.Load() {
			continue
		}
		before := v.watch
		_, commanded := v.impl.(onDemand)
		switch n.what {
		case noticeChanged:
			e.mark(v)
		case noticeReady:
			if v.watch = watchUp; before == watchDown && !commanded {
				e.mark(v) // what happened meanwhile was not seen
			}
		case noticeEnded:
			v.watch = watchDown
			e.opts.Observer.Observe(Event{ID: v.id, Kind: WatchEnded, Err: n.err, Delay: n.delay})
			e.poll(v, time.Now())
		}
		if before == watchStarting && v.watch != watchStarting {
			e.enqueue(v)
		}
	}
}
