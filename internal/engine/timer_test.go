package engine

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// startTimer runs the watcher of a timer of 5 s and returns how often it has called changed.
func startTimer(t *testing.T) (*timerResource, func() int) {
	t.Helper()
	timer := newTimer(&graph.Timer{Interval: 5 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	calls, ready, done := make(chan struct{}, 100), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- timer.watch(ctx, func() { close(ready) }, func() { calls <- struct{}{} })
	}()
	<-ready
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	return timer, func() int {
		synctest.Wait()
		return len(calls)
	}
}

func says(t *testing.T, r resource, want string) {
	t.Helper()
	if change, err := r.check(t.Context()); err != nil || change != want {
		t.Errorf("check says %q, %v; want %q", change, err, want)
	}
}

func TestTimer(t *testing.T) {
	const over = "interval of 5s is over"
	synctest.Test(t, func(t *testing.T) {
		timer, ticks := startTimer(t)
		says(t, timer, "")
		time.Sleep(5*time.Second - time.Nanosecond)
		if n := ticks(); n != 0 {
			t.Errorf("%d ticks before the interval is over", n)
		}
		for i := 1; i <= 3; i++ {
			time.Sleep(time.Nanosecond)
			if n := ticks(); n != i {
				t.Errorf("%d ticks, want %d", n, i)
			}
			says(t, timer, over)
			says(t, timer, over) // to look changes nothing
			if _, err := timer.apply(t.Context()); err != nil {
				t.Error(err)
			}
			says(t, timer, "")
			time.Sleep(5*time.Second - time.Nanosecond)
		}
	})
}

func TestTimerRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timer, ticks := startTimer(t)
		for range 3 {
			time.Sleep(4 * time.Second)
			if change, err := timer.refreshChange(t.Context()); err != nil || change == "" {
				t.Errorf("refreshChange: %q, %v", change, err)
			}
			for range 2 { // one more has no more effect
				if _, err := timer.refresh(t.Context()); err != nil {
					t.Error(err)
				}
			}
			synctest.Wait()
		}
		if n := ticks(); n != 0 {
			t.Errorf("%d ticks, though it always began anew", n)
		}
		time.Sleep(5 * time.Second)
		if n := ticks(); n != 1 {
			t.Errorf("%d ticks 5s after the last refresh", n)
		}
	})
}
