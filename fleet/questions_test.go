package fleet

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slow takes its time with every answer, and counts how often it is asked while it does.
type slow struct{ at, over atomic.Int32 }

func (s *slow) ask() {
	if s.at.Add(1) > 1 {
		s.over.Add(1)
	}
	time.Sleep(time.Second)
	s.at.Add(-1)
}

func (s *slow) Secret(context.Context, string) (Secret, error) { s.ask(); return "pw", nil }
func (s *slow) Confirm(context.Context, string) (bool, error)  { s.ask(); return true, nil }

// Secrets and confirmations come one after the other; who is stopped while others are asked waits no more.
func TestQuestionsComeOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{}
		p := oneAtATime(s)
		c, can := p.(Confirmer)
		if !can {
			t.Fatal("nobody confirms any more")
		}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if got, err := p.Secret(t.Context(), "?"); got != "pw" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			})
			all.Go(func() {
				if yes, err := c.Confirm(t.Context(), "?"); !yes || err != nil {
					t.Errorf("%v, %v", yes, err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := p.Secret(ctx, "?"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if _, err := c.Confirm(ctx, "?"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		all.Wait()
		if n := s.over.Load(); n > 0 {
			t.Errorf("asked %d times while it was asked", n)
		}
	})
	if oneAtATime(nil) != nil {
		t.Error("somebody is there")
	}
	if _, can := oneAtATime(&person{}).(Confirmer); can {
		t.Error("one who can't confirms")
	}
}
