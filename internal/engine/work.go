package engine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

type reportKind uint8

const (
	reportApplying reportKind = iota // the check is over and the change begins; the one report that is not final
	reportClean
	reportWould
	reportApplied
	reportFailed
	reportDropped // the vertex is not in the definition any more, and nothing was changed
)

// report is what a worker tells the loop.
type report struct {
	vertex               *vertex
	what                 reportKind
	change, output, diff string
	err                  error
	blind                bool // not all of the vertex's paths can be watched
}

// dispatch starts workers for what is ready.
func (e *Engine) dispatch(ctx context.Context) {
	for len(e.ready) > 0 && e.running < e.opts.Parallel {
		v := e.ready[0]
		e.ready[0] = nil
		e.ready = e.ready[1:]
		now := time.Now()
		switch early := v.early(now); {
		case v.gone.Load() || v.step != queued || v.blockers > 0:
		case v.queuing && v.missing > 0: // it comes back when it has its semaphores
		case !v.queuing && early > 0:
			e.wait(v, v.verdict, early)
		case v.queuing || e.semas.join(v):
			e.start(ctx, v, now)
		}
	}
}

// early is how long it takes until the limit of a vertex allows another look. The first one is free.
func (v *vertex) early(now time.Time) time.Duration {
	if v.limiter == nil || !v.looked {
		return 0
	}
	missing := 1 - v.limiter.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing/float64(v.limiter.Limit())*float64(time.Second)) + 1
}

func (e *Engine) start(ctx context.Context, v *vertex, now time.Time) {
	if v.limiter != nil && v.looked {
		v.limiter.AllowN(now, 1) // early has looked: this only takes the token
	}
	v.looked = true
	v.seen = v.want
	v.refreshing, v.refresh = v.refresh, false
	var lookCtx context.Context
	lookCtx, v.endLook = context.WithCancel(ctx)
	e.set(v, v.verdict, checking)
	e.running++
	j := job{ctx: lookCtx, noop: e.opts.Noop || v.meta.Noop, refresh: v.refreshing}
	go func() {
		blind := e.follow(v)
		r := e.work(ctx, v, j)
		r.vertex, r.blind = v, blind
		e.reports <- r
	}()
}

// job is what a worker has to do about a vertex.
type job struct {
	ctx     context.Context // for what changes nothing; ends earlier than that of the run when the vertex is gone
	noop    bool
	refresh bool // something notified it
}

// work is a worker: it checks one vertex and applies it if needed. It reports that it begins to change something, and
// returns its final report.
func (e *Engine) work(ctx context.Context, v *vertex, j job) report {
	do := v.impl.apply
	change, err := v.impl.check(j.ctx)
	if err == nil && change == "" && j.refresh {
		if r, can := v.impl.(refresher); can {
			do = r.refresh
			change, err = r.refreshChange(j.ctx)
		}
	}
	var diff string
	if d, can := v.impl.(differ); can && err == nil && change != "" && j.noop {
		if diff, err = d.diff(j.ctx); err != nil {
			err = fmt.Errorf("diff: %w", err)
		}
	}
	switch {
	case v.gone.Load():
		return report{what: reportDropped}
	case err != nil:
		return report{what: reportFailed, err: err}
	case change == "":
		return report{what: reportClean}
	case j.noop:
		return report{what: reportWould, change: change, diff: diff}
	}
	e.reports <- report{vertex: v, what: reportApplying}
	output, err := do(ctx)
	switch {
	case errors.Is(err, errUnchanged):
		return report{what: reportClean}
	case err != nil:
		return report{what: reportFailed, output: output, err: err}
	}
	return report{what: reportApplied, change: change, output: output}
}

func (e *Engine) handle(r report) {
	v := r.vertex
	if r.what == reportApplying {
		verdict := v.verdict
		if verdict == ok {
			verdict = unknown
		}
		e.set(v, verdict, applying)
		return
	}
	e.running--
	v.endLook()
	e.giveBack(v)
	if v.gone.Load() {
		e.bury(v, r)
		return
	}
	if v.blind = r.blind; v.blind {
		e.poll(v, time.Now())
	}
	switch r.what {
	case reportFailed:
		e.fail(r)
		return
	case reportClean:
		e.opts.Observer.Observe(Event{ID: v.id, Kind: Checked})
	case reportWould:
		e.opts.Observer.Observe(Event{ID: v.id, Kind: WouldApply, Change: r.change, Diff: r.diff})
	case reportApplied:
		e.opts.Observer.Observe(Event{ID: v.id, Kind: Applied, Change: r.change, Output: r.output})
		e.notify(v)
	}
	v.attempts = 0
	v.refreshing = false
	verdict := ok
	if v.refresh { // meanwhile
		verdict = unknown
	}
	e.set(v, verdict, idle)
	if v.seen != v.want {
		e.enqueue(v)
	}
}

// notify refreshes what is behind a vertex that has changed. Until that is done there is something left to do.
func (e *Engine) notify(v *vertex) {
	for _, d := range v.next {
		if !d.notify {
			continue
		}
		d.to.refresh = true
		if d.to.verdict == ok {
			e.set(d.to, unknown, d.to.step)
		}
		e.mark(d.to)
	}
}

// fail decides what a failure means: nothing yet if something before the vertex broke as well, another attempt, or
// failed until an event.
func (e *Engine) fail(r report) {
	v := r.vertex
	v.refresh, v.refreshing = v.refresh || v.refreshing, false
	if v.blockers > 0 {
		e.enqueue(v)
		return
	}
	event := Event{ID: v.id, Kind: Failed, Err: r.err, Output: r.output}
	v.attempts++
	if v.meta.Retry < 0 || v.attempts <= v.meta.Retry {
		event.Kind, event.Delay = Retrying, max(v.meta.Delay, minRetryDelay)
		e.opts.Observer.Observe(event)
		verdict := v.verdict
		if verdict == ok {
			verdict = unknown
		}
		e.wait(v, verdict, event.Delay)
		return
	}
	v.attempts = 0
	e.opts.Observer.Observe(event)
	e.set(v, failed, idle)
	if v.seen != v.want {
		e.hold(v)
	}
}
