package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// timerResource is a clock. Its change is that the interval is over: apply only takes note of that, so that its vertex
// counts as changed and refreshes others. With Noop nobody takes note, and each look says that the interval is over.
type timerResource struct {
	spec *graph.Timer
	over atomic.Bool   // the interval is over, and apply has not taken note
	anew chan struct{} // has an element when the interval is to begin anew
}

var (
	_ watcher   = (*timerResource)(nil)
	_ refresher = (*timerResource)(nil)
)

func newTimer(spec *graph.Timer) *timerResource {
	return &timerResource{spec: spec, anew: make(chan struct{}, 1)}
}

func (t *timerResource) watch(ctx context.Context, ready, changed func()) error {
	ticker := time.NewTicker(t.spec.Interval)
	defer ticker.Stop()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.anew:
			ticker.Reset(t.spec.Interval)
		case <-ticker.C:
			t.over.Store(true)
			changed()
		}
	}
}

func (t *timerResource) check(context.Context) (string, error) {
	if t.over.Load() {
		return fmt.Sprintf("interval of %v is over", t.spec.Interval), nil
	}
	return "", nil
}

func (t *timerResource) apply(context.Context) (string, error) {
	t.over.Store(false)
	return "", nil
}

func (t *timerResource) refreshChange(context.Context) (string, error) {
	return "begin the interval anew", nil
}

func (t *timerResource) refresh(context.Context) (string, error) {
	select {
	case t.anew <- struct{}{}:
	default: // it begins anew in a moment anyway
	}
	return "", nil
}
