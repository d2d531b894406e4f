package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// TestLimit: the first look and the burst come at once, what is too early is delayed, and nothing is dropped.
func TestLimit(t *testing.T) {
	const limit, burst, turns = 20.0, 2, 8
	turn := make(chan struct{})
	var mu sync.Mutex
	var looks []time.Time
	w := &stubWatcher{}
	w.onCheck = func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		looks = append(looks, time.Now())
		return "", nil
	}
	w.onWatch = func(ctx context.Context, ready, changed func()) error {
		ready()
		for {
			select {
			case <-turn:
				changed()
			case <-ctx.Done():
				return nil
			}
		}
	}
	n := noop("w")
	n.Meta = graph.Meta{Limit: limit, Burst: burst}
	r := startWith(t, definition(n), Options{}, map[string]resource{"noop[w]": w})
	for i := range turns {
		r.untilCount("noop[w]", Checked, i+1)
		turn <- struct{}{}
	}
	r.untilCount("noop[w]", Checked, turns+1)
	r.stop()
	mu.Lock()
	defer mu.Unlock()
	if len(looks) != turns+1 {
		t.Errorf("%d looks for %d reasons", len(looks), turns+1)
	}
	for i := 1 + burst; i < len(looks); i++ {
		// What came before these was free or a burst, so all of the time between has to be waited for.
		if took, least := looks[i].Sub(looks[0]), time.Duration(float64(i-burst)/limit*float64(time.Second))-time.Millisecond; took < least {
			t.Errorf("look %d after %v, want at least %v", i, took, least)
		}
	}
}

// TestSemaphores: random resources with random semaphores never hold more than there is, all get their turn, and those
// without semaphores are not held up, even with fewer workers than resources that wait.
func TestSemaphores(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		semas := []graph.Sema{{Name: "a", Count: 1}, {Name: "b", Count: 2}, {Name: "c", Count: 3}}
		held := make([]atomic.Int32, len(semas))
		var resources []graph.Resource
		stubs := make(map[string]resource)
		for i := range rapid.IntRange(1, 20).Draw(rt, "resources") {
			n := noop(fmt.Sprint(i))
			mine := rapid.SliceOfNDistinct(rapid.IntRange(0, len(semas)-1), 0, len(semas), rapid.ID).Draw(rt, "semaphores")
			for _, s := range mine {
				n.Meta.Sema = append(n.Meta.Sema, semas[s], semas[s]) // naming one twice is naming it
			}
			stubs[n.ID.String()] = &stub{onCheck: func(context.Context) (string, error) {
				for _, s := range mine {
					if now := held[s].Add(1); int(now) > semas[s].Count {
						t.Errorf("%d hold %s", now, semas[s].Name)
					}
				}
				time.Sleep(50 * time.Microsecond) // not to wait for anything: work takes time
				for _, s := range mine {
					held[s].Add(-1)
				}
				return "", nil
			}}
			resources = append(resources, n)
		}
		def := definition(resources...)
		for range rapid.IntRange(0, 10).Draw(rt, "edges") {
			i, j := rapid.IntRange(0, len(resources)-1).Draw(rt, "from"), rapid.IntRange(0, len(resources)-1).Draw(rt, "to")
			if i < j {
				def.Edges = append(def.Edges, edgeTo(resources[i], resources[j], true))
			}
		}
		r := startWith(t, def, Options{Parallel: rapid.IntRange(1, 8).Draw(rt, "workers")}, stubs)
		r.untilStatus(Quiet)
		r.stop()
		if len(r.e.semas) != 0 {
			t.Errorf("places left: %v", r.e.semas)
		}
	})
}

// TestSemaphoreIsNoWorker: what waits for a place keeps no worker from others, and no place from what it waits for.
func TestSemaphoreIsNoWorker(t *testing.T) {
	release := make(chan struct{})
	hold := &stub{onCheck: func(context.Context) (string, error) { <-release; return "", nil }}
	one := []graph.Sema{{Name: "s", Count: 1}}
	resources := []graph.Resource{noop("holder")}
	for i := range 10 {
		resources = append(resources, noop(fmt.Sprint(i)))
	}
	for i := range resources {
		resources[i].Meta.Sema = one
	}
	def := definition(append(resources, noop("free"))...)
	r := startWith(t, def, Options{Parallel: 2}, map[string]resource{"noop[holder]": hold})
	r.untilCount("noop[free]", Checked, 1)
	close(release)
	r.untilStatus(Quiet)
	r.stop()
}

// TestSemaphoreOrder: places are given in the order of arrival, also to those who need more than one.
func TestSemaphoreOrder(t *testing.T) {
	a, b := graph.Sema{Name: "a", Count: 1}, graph.Sema{Name: "b", Count: 1}
	s := make(semas)
	v := func(keys ...graph.Sema) *vertex { return &vertex{semas: keys} }
	first, both, later := v(a), v(a, b), v(b)
	if !s.join(first) || s.join(both) || s.join(later) {
		t.Fatal("a place too many")
	}
	if next := s.leave(first); len(next) != 1 || next[0] != both {
		t.Errorf("next: %v", next)
	}
	if next := s.leave(both); len(next) != 1 || next[0] != later {
		t.Errorf("next: %v", next)
	}
	if next := s.leave(later); len(next) != 0 || len(s) != 0 {
		t.Errorf("next: %v, left: %v", next, s)
	}
	// One that goes while it waits is no longer in anybody's way.
	s.join(first)
	s.join(both)
	s.join(later)
	if next := s.leave(both); len(next) != 1 || next[0] != later {
		t.Errorf("next: %v", next)
	}
}
