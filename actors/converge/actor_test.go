package converge_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"github.com/mgmt-remote/mgmt-remote/actors/converge"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
	"github.com/mgmt-remote/mgmt-remote/internal/quiet"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) {
	leaks.VerifyTestMain(m,
		// protoactor counts dead letters in a goroutine that lives for a second.
		goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"),
		// The members of the etcd cluster of TestLeaderLoss talk HTTP to each other, and a stopped one may leave connections
		// open. Nothing of ours speaks HTTP/1 here.
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http.(*connReader).backgroundRead"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}

const run = "run12345"

// fakeStore is the quiet keys in memory.
type fakeStore struct {
	mu      sync.Mutex
	values  map[string]bool // by host
	emit    func(quiet.Change)
	broken  chan error // of the watch there is
	watches int
	written map[string]string
	exports map[string]bool
	// revisions are what the etcd has; the watch tells revision 0.
	revisions map[string]int64
	revErr    error
	asked     int // for revisions
	askedFor  []string
	putErr    error
	putFunc   func()
}

func (s *fakeStore) Watch(ctx context.Context, emit func(quiet.Change)) error {
	s.mu.Lock()
	s.emit, s.broken = emit, make(chan error, 1)
	s.watches++
	broken, values := s.broken, maps.Clone(s.values)
	s.mu.Unlock()
	for host, q := range values {
		emit(quiet.Change{Host: host, Quiet: q})
	}
	select {
	case err := <-broken:
		s.mu.Lock()
		s.emit = nil
		s.mu.Unlock()
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *fakeStore) Revisions(_ context.Context, host string) (map[string]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.askedFor = append(s.askedFor, host)
	revisions := maps.Clone(s.revisions)
	if host != "" {
		maps.DeleteFunc(revisions, func(h string, _ int64) bool { return h != host })
	}
	return revisions, s.revErr
}

func (s *fakeStore) Put(_ context.Context, values map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.putFunc != nil {
		s.putFunc()
	}
	if s.putErr != nil {
		return s.putErr
	}
	maps.Copy(s.written, values)
	return nil
}

func (s *fakeStore) at(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written[key]
}

func (s *fakeStore) DeletePrefix(_ context.Context, prefix string) (n int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.putErr != nil {
		return 0, s.putErr
	}
	for key := range s.exports {
		if strings.HasPrefix(key, prefix) {
			delete(s.exports, key)
			n++
		}
	}
	return n, nil
}

// set is what a host says.
func (s *fakeStore) set(host string, q bool) {
	s.mu.Lock()
	s.values[host] = q
	emit := s.emit
	s.mu.Unlock()
	if emit != nil { // else nobody watches
		emit(quiet.Change{Host: host, Quiet: q})
	}
}

// parent stands for the supervisor.
type parent struct {
	props    *actor.Props
	child    *actor.PID
	begun    chan struct{} // closed when child is there; nil where nobody waits
	mu       sync.Mutex
	heard    []any
	at       []time.Time
	failures []*fault.Fault
}

func (p *parent) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		p.child = ctx.Spawn(p.props)
		if p.begun != nil {
			close(p.begun)
		}
	case messages.GroupConverged, messages.HostConverged, messages.QuietChanged:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.heard, p.at = append(p.heard, m), append(p.at, time.Now())
	}
}

func (p *parent) HandleFailure(_ *actor.ActorSystem, self actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	p.failures = append(p.failures, restart.FaultOf(reason))
	self.RestartChildren(child)
}

// converged returns what was said about convergence, and when.
func (p *parent) converged() (all []any, at []time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, m := range p.heard {
		if _, ok := m.(messages.QuietChanged); !ok {
			all, at = append(all, m), append(at, p.at[i])
		}
	}
	return all, at
}

type rig struct {
	*testing.T
	store  *fakeStore
	parent *parent
	system *actor.ActorSystem
}

func inBubble(t *testing.T, mode converge.Mode, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		logger := slog.New(slog.DiscardHandler)
		r := &rig{T: t, store: &fakeStore{values: map[string]bool{}, written: map[string]string{}}}
		r.parent = &parent{props: converge.Props(converge.Config{Run: run, Mode: mode, Timeout: 5 * time.Second, Store: r.store, Logger: logger})}
		r.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger }))
		pid := r.system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return r.parent }))
		synctest.Wait()
		defer func() {
			if err := r.system.Root.StopFuture(pid).Wait(); err != nil {
				t.Error(err)
			}
			r.system.Shutdown()
			time.Sleep(2 * time.Second) // protoactor counts dead letters in a goroutine that lives for a second
		}()
		test(r)
	})
}

func (r *rig) send(all ...any) {
	for _, m := range all {
		r.system.Root.Send(r.parent.child, m)
	}
	synctest.Wait()
}

// settle makes hosts members that are attached and quiet.
func (r *rig) settle(hosts ...string) {
	for _, h := range hosts {
		r.send(messages.JoinGroup{Host: h}, messages.HostAttached{Host: h, Epoch: 1})
		r.store.set(h, true)
	}
	synctest.Wait()
}

// expectAfter says that the group converges so long from now and not before.
func (r *rig) expectAfter(d time.Duration, members int) {
	r.Helper()
	began := time.Now()
	r.expectNone(d - time.Millisecond)
	time.Sleep(2 * time.Millisecond)
	synctest.Wait()
	all, at := r.parent.converged()
	if len(all) != 1 || all[0] != (messages.GroupConverged{Members: members, For: 5 * time.Second}) {
		r.Fatalf("heard %+v", all)
	}
	if got := at[0].Sub(began); got != d {
		r.Errorf("after %v, want %v", got, d)
	}
}

func (r *rig) expectNone(d time.Duration) {
	r.Helper()
	time.Sleep(d)
	synctest.Wait()
	if all, _ := r.parent.converged(); len(all) != 0 {
		r.Fatalf("heard %+v", all)
	}
}

func TestGroup(t *testing.T) {
	inBubble(t, converge.Group, func(r *rig) {
		r.settle("a", "b")
		r.expectAfter(5*time.Second, 2)
		if v := r.store.at(keys.Converged(run, "b")); v != "true" {
			r.Errorf("converged key %q", v)
		}
		r.store.set("a", false)
		r.store.set("a", true)
		time.Sleep(time.Minute)
		if all, _ := r.parent.converged(); len(all) != 1 {
			r.Errorf("said %d times", len(all))
		}
	})
}

func TestConvergenceIsSaidAgainAfterADefinitionChanged(t *testing.T) {
	for _, mode := range []converge.Mode{converge.Group, converge.Host} {
		inBubble(t, mode, func(r *rig) {
			r.settle("a")
			time.Sleep(time.Minute)
			r.send(messages.HostDetached{Host: "a"})
			r.send(messages.HostAttached{Host: "a", Epoch: 2}) // a new connection alone is no reason
			time.Sleep(30 * time.Second)
			r.send(messages.HostOutdated{Host: "a"})
			time.Sleep(30 * time.Second)
			r.send(messages.HostAttached{Host: "a", Epoch: 2})
			r.send(messages.HostAttached{Host: "a", Epoch: 2}) // said twice, it is no break
			time.Sleep(time.Minute)
			if all, at := r.parent.converged(); len(all) != 2 || at[1].Sub(at[0]) != 2*time.Minute {
				r.Errorf("mode %v: heard %+v", mode, all)
			}
		})
	}
}

// Each case breaks the calm after 3 seconds; the clock must begin anew, or go on where that is right.
func TestWhatBreaksTheClock(t *testing.T) {
	for name, c := range map[string]struct {
		do      func(r *rig)
		left    time.Duration // from then on; 0: never
		members int
	}{
		"nothing":            {func(*rig) {}, 2 * time.Second, 2},
		"said again":         {func(r *rig) { r.store.set("a", true) }, 2 * time.Second, 2},
		"diverged":           {func(r *rig) { r.store.set("a", false) }, 0, 0},
		"diverged and back":  {func(r *rig) { r.store.set("a", false); r.store.set("a", true) }, 5 * time.Second, 2},
		"detached":           {func(r *rig) { r.send(messages.HostDetached{Host: "a"}) }, 0, 0},
		"attached again":     {func(r *rig) { r.send(messages.HostDetached{Host: "a"}, messages.HostAttached{Host: "a", Epoch: 2}) }, 5 * time.Second, 2},
		"another connection": {func(r *rig) { r.send(messages.HostAttached{Host: "a", Epoch: 2}) }, 5 * time.Second, 2},
		"the same again":     {func(r *rig) { r.send(messages.JoinGroup{Host: "a"}, messages.HostAttached{Host: "a", Epoch: 1}) }, 2 * time.Second, 2},
		"a new member":       {func(r *rig) { r.send(messages.JoinGroup{Host: "c"}) }, 0, 0},
		"a member leaves":    {func(r *rig) { r.send(messages.LeaveGroup{Host: "a"}) }, 2 * time.Second, 1},
		"all leave":          {func(r *rig) { r.send(messages.LeaveGroup{Host: "a"}, messages.LeaveGroup{Host: "b"}) }, 0, 0},
		"leaves and rejoins": {func(r *rig) {
			r.send(messages.HostDetached{Host: "a"}, messages.LeaveGroup{Host: "a"}, messages.JoinGroup{Host: "a"}, messages.HostAttached{Host: "a", Epoch: 2})
		}, 5 * time.Second, 2},
		"a stranger": {func(r *rig) { r.store.set("z", false); r.send(messages.HostAttached{Host: "z", Epoch: 1}) }, 2 * time.Second, 2},
		// One second until the watch begins again, and whoever said something else meanwhile is heard.
		"the watch breaks": {func(r *rig) { r.store.broken <- errors.New("no leader") }, 6 * time.Second, 2},
		"a key goes while nothing is watched": {func(r *rig) {
			r.store.broken <- errors.New("no leader")
			r.store.mu.Lock()
			delete(r.store.values, "a")
			r.store.mu.Unlock()
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, converge.Group, func(r *rig) {
				r.settle("a", "b")
				time.Sleep(3 * time.Second)
				c.do(r)
				synctest.Wait()
				if c.left == 0 {
					r.expectNone(time.Hour)
				} else {
					r.expectAfter(c.left, c.members)
				}
			})
		})
	}
}

// The clock of a calm that ended at the very moment it was over is not taken for that of the next one.
func TestAClockThatWasStoppedInTheLastMoment(t *testing.T) {
	inBubble(t, converge.Group, func(r *rig) {
		r.settle("a")
		time.Sleep(5 * time.Second) // the clock fires now, beside these
		r.system.Root.Send(r.parent.child, messages.HostDetached{Host: "a"})
		r.system.Root.Send(r.parent.child, messages.HostAttached{Host: "a", Epoch: 2})
		synctest.Wait()
		if all, _ := r.parent.converged(); len(all) == 0 {
			r.expectAfter(5*time.Second, 1)
		}
	})
}

func TestEachHostOnItsOwn(t *testing.T) {
	inBubble(t, converge.Host, func(r *rig) {
		r.settle("a")
		r.send(messages.JoinGroup{Host: "b"}) // never settles
		time.Sleep(2 * time.Second)
		r.settle("c")
		time.Sleep(time.Hour)
		synctest.Wait()
		all, at := r.parent.converged()
		if len(all) != 2 || all[0] != (messages.HostConverged{Host: "a", For: 5 * time.Second}) || all[1] != (messages.HostConverged{Host: "c", For: 5 * time.Second}) {
			r.Fatalf("heard %+v", all)
		}
		if d := at[1].Sub(at[0]); d != 2*time.Second {
			r.Errorf("apart by %v", d)
		}
		if r.store.at(keys.Converged(run, "a")) != "true" || r.store.at(keys.Converged(run, "b")) != "" {
			r.Error("converged keys")
		}
		if !slices.Equal(r.store.askedFor, []string{"a", "c"}) {
			r.Errorf("asked for %q: at the end of a host's clock that host's key is enough", r.store.askedFor)
		}
	})
}

func TestWritesAreTriedAgainInOrder(t *testing.T) {
	inBubble(t, converge.Group, func(r *rig) {
		r.store.mu.Lock()
		r.store.putErr = errors.New("no leader")
		r.store.mu.Unlock()
		r.send(messages.ReportState{Host: "a", State: "Probing"}, messages.ReportQuiet{Host: "a", Quiet: true})
		time.Sleep(10 * time.Second)
		r.send(messages.ReportState{Host: "a", State: "Running"})
		r.store.mu.Lock()
		r.store.putErr = nil
		r.store.mu.Unlock()
		time.Sleep(2 * time.Second)
		if s := r.store.at(keys.State(run, "a")); s != "Running" {
			r.Errorf("state %q", s)
		}
		if s := r.store.at(keys.Quiet(run, "a")); s != "true" {
			r.Errorf("quiet %q", s)
		}
	})
}

func TestQuietIsPassedOnOnce(t *testing.T) {
	inBubble(t, converge.Group, func(r *rig) {
		r.store.set("a", true)
		r.store.set("a", true)
		r.store.set("a", false)
		synctest.Wait()
		if len(r.parent.heard) != 2 {
			r.Errorf("heard %+v", r.parent.heard)
		}
	})
}

func TestAPanicOfTheStoreIsTheActorsFailure(t *testing.T) {
	inBubble(t, converge.Group, func(r *rig) {
		r.store.mu.Lock()
		r.store.putFunc = func() { r.store.putFunc = nil; panic("planted") }
		r.store.mu.Unlock()
		r.send(messages.ReportState{Host: "a", State: "Running"})
		if len(r.parent.failures) != 1 || r.parent.failures[0].Kind != fault.Bug {
			r.Fatalf("failures %+v", r.parent.failures)
		}
		r.settle("a") // the supervisor tells the members again
		r.expectAfter(5*time.Second, 1)
		if r.store.watches != 2 {
			r.Errorf("%d watches", r.store.watches)
		}
	})
}
