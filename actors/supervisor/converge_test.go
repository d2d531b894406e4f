package supervisor_test

import (
	"context"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/actors/converge"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
	"github.com/mgmt-remote/mgmt-remote/internal/quiet"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// quietStore is the run's quiet keys in memory.
type quietStore struct {
	mu       sync.Mutex
	values   map[string]bool
	emit     func(quiet.Change)
	before   func()
	deleted  []string // prefixes
	deleting func()   // before
}

func (s *quietStore) Watch(ctx context.Context, emit func(quiet.Change)) error {
	s.mu.Lock()
	if ctx.Err() != nil { // of an instance that was restarted before this ran
		s.mu.Unlock()
		return ctx.Err()
	}
	s.emit = emit
	values := maps.Clone(s.values)
	s.mu.Unlock()
	for h, q := range values {
		emit(quiet.Change{Host: h, Quiet: q})
	}
	<-ctx.Done()
	return ctx.Err()
}

// Revisions: in memory nothing is late.
func (s *quietStore) Revisions(context.Context, string) (map[string]int64, error) { return nil, nil }

func (s *quietStore) Put(_ context.Context, values map[string]string) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		before()
	}
	for key, value := range values {
		if h, ok := keys.HostOfQuiet(runID, key); ok {
			s.set(h, value == "true")
		}
	}
	return nil
}

func (s *quietStore) DeletePrefix(_ context.Context, prefix string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deleting != nil {
		s.deleting()
	}
	s.deleted = append(s.deleted, prefix)
	return 0, nil
}

func (s *quietStore) set(host string, q bool) {
	s.mu.Lock()
	s.values[host] = q
	emit := s.emit
	s.mu.Unlock()
	emit(quiet.Change{Host: host, Quiet: q})
}

func (r *rig) converging(mode converge.Mode, timeout time.Duration) *quietStore {
	s := &quietStore{values: map[string]bool{}}
	r.cfg.Converge = func() *actor.Props {
		return converge.Props(converge.Config{Run: runID, Mode: mode, Timeout: timeout, Store: s, Logger: r.cfg.Logger})
	}
	return s
}

func three() []simhost.Options {
	return []simhost.Options{{Payload: untilStopped}, {Payload: untilStopped}, {Payload: untilStopped}}
}

func (r *rig) converged(end messages.RunFinished, want ...bool) {
	r.Helper()
	for i, result := range end.Results {
		if result.Converged != want[i] || (result.Outcome == messages.OutcomeSucceeded) != want[i] {
			r.Errorf("result %+v", result)
		}
	}
}

func TestTheGroupConverges(t *testing.T) {
	inBubble(t, three(), func(r *rig) {
		s := r.converging(converge.Group, 5*time.Second)
		r.start()
		for _, h := range []string{"h1", "h2", "h3"} {
			r.awaitState(h, "Running")
			s.set(h, true)
		}
		time.Sleep(3 * time.Second)
		s.set("h2", false)
		time.Sleep(3 * time.Second)
		s.set("h2", true)
		end := r.finish()
		if !end.Converged || end.Took < 11*time.Second || end.Took > 13*time.Second {
			r.Errorf("end %+v", end)
		}
		r.converged(end, true, true, true)
		r.nothingLeft()
	})
}

func TestALostConnectionStopsTheClock(t *testing.T) {
	inBubble(t, three(), func(r *rig) {
		s := r.converging(converge.Group, 5*time.Second)
		r.start()
		for _, h := range []string{"h1", "h2", "h3"} {
			r.awaitState(h, "Running")
			s.set(h, true)
		}
		time.Sleep(4900 * time.Millisecond)
		r.sims["h1"].Drop() // and its key still says quiet
		end := r.finish()
		if !end.Converged || end.Took < 9900*time.Millisecond {
			r.Errorf("end %+v\n%s", end, r.story())
		}
		r.converged(end, true, true, true)
		r.nothingLeft()
	})
}

func TestAnUnreachableHostDoesNotStallTheRest(t *testing.T) {
	inBubble(t, three(), func(r *rig) {
		s := r.converging(converge.Group, 5*time.Second)
		r.network.Remove("h3:22")
		r.start()
		for _, h := range []string{"h1", "h2"} {
			r.awaitState(h, "Running")
			s.set(h, true)
		}
		end := r.finish()
		if !end.Converged || end.Took > 20*time.Second {
			r.Errorf("end %+v", end)
		}
		r.nothingLeft()
	})
}

func TestHostsThatConvergeOneByOne(t *testing.T) {
	inBubble(t, three(), func(r *rig) {
		s := r.converging(converge.Host, 5*time.Second)
		r.cfg.MaxConnections = 1
		r.cfg.Observe = func(e messages.Event) {
			r.observe(e)
			if m, ok := e.(messages.PayloadStarted); ok {
				go s.set(m.Host, true)
			}
		}
		r.start()
		end := r.finish()
		r.converged(end, true, true, true)
		if end.Converged {
			r.Error("the group converged")
		}
		r.nothingLeft()
	})
}

func TestTheConvergeActorIsRestartedWithItsMembers(t *testing.T) {
	inBubble(t, three(), func(r *rig) {
		s := r.converging(converge.Group, 5*time.Second)
		s.before = panics(3)
		r.start()
		for _, h := range []string{"h1", "h2", "h3"} {
			r.awaitState(h, "Running")
			s.set(h, true)
		}
		end := r.finish()
		if !end.Converged {
			r.Errorf("end %+v", end)
		}
		r.converged(end, true, true, true)
	})
}

func TestAConvergeActorThatOnlyPanicsEndsTheRun(t *testing.T) {
	inBubble(t, three(), func(r *rig) {
		r.converging(converge.Group, 5*time.Second).before = panics(1000)
		r.start()
		end := r.finish()
		for _, result := range end.Results {
			if result.Outcome != messages.OutcomeFailed || result.Fault == nil {
				r.Errorf("result %+v", result)
			}
		}
		r.nothingLeft()
	})
}
