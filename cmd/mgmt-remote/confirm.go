//go:build !engine

package main

import (
	"context"
	"errors"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// confirmer asks the person at the terminal whether the next wave may begin. The run is paused meanwhile, and whoever continues it
// elsewhere has answered, too.
type confirmer struct {
	asks    fleet.Confirmer
	paused  chan messages.RunPaused
	resumed chan struct{}
}

func newConfirmer(asks fleet.Confirmer) *confirmer {
	return &confirmer{asks: asks, paused: make(chan messages.RunPaused, 1), resumed: make(chan struct{}, 1)}
}

// observe takes the events of the run. It never waits: only the newest pause matters.
func (c *confirmer) observe(event messages.Event) {
	switch e := event.(type) {
	case messages.RunPaused:
		if e.Reason != "" { // else somebody paused it, who continues it
			replace(c.paused, e)
		}
	case messages.RunContinued:
		replace(c.resumed, struct{}{})
	}
}

// replace puts a value into a channel that has room for one, instead of the one in it.
func replace[T any](to chan T, value T) {
	select {
	case <-to:
	default:
	}
	to <- value
}

// run asks as long as the run goes on.
func (c *confirmer) run(ctx context.Context, f *fleet.Fleet) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-c.paused:
			select {
			case <-c.resumed: // before this pause
			default:
			}
			asking, cancel := context.WithCancel(ctx)
			go func() {
				defer cancel()
				select {
				case <-c.resumed:
				case <-asking.Done():
				}
			}()
			yes, err := c.asks.Confirm(asking, p.Reason+"; begin it? [yes/no] ")
			cancel()
			switch {
			case errors.Is(err, context.Canceled): // the run ends, or was continued elsewhere
			case err != nil && fault.KindOf(err) != fault.Canceled:
				f.Stop(messages.StopFinish) // nobody will ever answer
			case yes:
				f.Continue()
			default: // as ^C, which may have been the answer, also for the exit code
				interrupt()
			}
		}
	}
}

// both runs what goes on beside a run, each of which may be nil.
func both(a, b func(context.Context, *fleet.Fleet)) func(context.Context, *fleet.Fleet) {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	return func(ctx context.Context, f *fleet.Fleet) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			a(ctx, f)
		}()
		b(ctx, f)
		<-done
	}
}
