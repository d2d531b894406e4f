package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// kindOfService is what a service of a test does.
type kindOfService uint8

const (
	sound       kindOfService = iota // runs, and can reload
	unreloading                      // runs, and can't reload
	failing                          // its start fails
	dying                            // its start works, and a moment later it is dead
	hanging                          // its start never ends
)

// initSystem is an init system as tests see it. Names are unique in a test.
type initSystem interface {
	install(t *testing.T, name string, kind kindOfService) // stopped and disabled
	byHand(t *testing.T, action, name string)              // start, stop, enable or disable, as an administrator does it
	kill(t *testing.T, name string)                        // the daemon, without a word to the init system
	running(t *testing.T, name string) bool                // asks the daemon, not the init system
	counts(t *testing.T, name string) (starts, reloads int)
}

func svc(t *testing.T, name string, spec graph.Svc) *svcResource {
	t.Helper()
	r, err := newResource(&graph.Resource{ID: graph.ID{Kind: graph.KindSvc, Name: name}, Spec: &spec}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r.(*svcResource)
}

// wants checks a service, which must find a change that begins like this; "" is none.
func wants(t *testing.T, s *svcResource, change string) {
	t.Helper()
	got, err := s.check(t.Context())
	if err != nil || !strings.HasPrefix(got, change) || (change == "") != (got == "") {
		t.Fatalf("check: %q, %v; want %q", got, err, change)
	}
}

// applies applies a service, which must then be as declared.
func applies(t *testing.T, s *svcResource) {
	t.Helper()
	if output, err := s.apply(t.Context()); err != nil {
		t.Fatalf("apply: %v, printed %q", err, output)
	}
	wants(t, s, "")
}

// fails applies a service, which must not work for a reason that has these words.
func fails(t *testing.T, s *svcResource, words string) {
	t.Helper()
	if output, err := s.apply(t.Context()); err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("apply: %v, printed %q; want an error with %q", err, output, words)
	}
}

// watching watches a service until the end of the test.
func watching(t *testing.T, s *svcResource) (changed <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, news, done := make(chan struct{}), make(chan struct{}, 1), make(chan error, 1)
	go func() {
		done <- s.watch(ctx, func() { close(ready) }, func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatal("never ready to watch")
	}
	return news
}

func arrives(t *testing.T, news <-chan struct{}) {
	t.Helper()
	select {
	case <-news:
	case <-time.After(patience):
		t.Fatal("waited in vain for news from the init system")
	}
}

// eventually waits for what is not told.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// begun waits until the daemon of a service has begun so often, which it must not do once more. Where an init system says
// that it runs, it may not have got to its first line yet.
func begun(t *testing.T, sys initSystem, name string, want int) {
	t.Helper()
	starts := 0
	eventually(t, "the daemon of "+name, func() bool {
		starts, _ = sys.counts(t, name)
		return starts >= want
	})
	if starts != want {
		t.Errorf("%s began %d times, want %d", name, starts, want)
	}
}

// testSvc is what must hold with every init system.
func testSvc(t *testing.T, sys initSystem) {
	run := graph.Svc{State: graph.RunningYes}
	rest := graph.Svc{State: graph.RunningNo}
	isRunning := func(t *testing.T, name string, want bool) {
		t.Helper()
		if got := sys.running(t, name); got != want {
			t.Fatalf("running: %v, want %v", got, want)
		}
	}
	t.Run("start and stop", func(t *testing.T) {
		sys.install(t, "mr-plain", sound)
		wants(t, svc(t, "mr-plain", graph.Svc{}), "")
		wants(t, svc(t, "mr-plain", rest), "")
		wants(t, svc(t, "mr-plain", run), "start, it is ")
		isRunning(t, "mr-plain", false)
		applies(t, svc(t, "mr-plain", run))
		isRunning(t, "mr-plain", true)
		applies(t, svc(t, "mr-plain", run))
		begun(t, sys, "mr-plain", 1)
		wants(t, svc(t, "mr-plain", graph.Svc{}), "")
		wants(t, svc(t, "mr-plain", rest), "stop")
		isRunning(t, "mr-plain", true)
		applies(t, svc(t, "mr-plain", rest))
		isRunning(t, "mr-plain", false)
	})
	t.Run("drift", func(t *testing.T) {
		sys.install(t, "mr-drift", sound)
		s := svc(t, "mr-drift", run)
		applies(t, s)
		news := watching(t, s)
		sys.byHand(t, "stop", "mr-drift")
		arrives(t, news)
		wants(t, s, "start, it is ")
		applies(t, s)
		sys.kill(t, "mr-drift")
		wants(t, s, "start, it is ")
		applies(t, s)
		isRunning(t, "mr-drift", true)
		s = svc(t, "mr-drift", rest)
		applies(t, s)
		sys.byHand(t, "start", "mr-drift")
		wants(t, s, "stop")
		applies(t, s)
		isRunning(t, "mr-drift", false)
	})
	t.Run("refresh", func(t *testing.T) {
		sys.install(t, "mr-fresh", sound)
		sys.install(t, "noreload-mr-fresh", unreloading)
		for name, want := range map[string][2]int{"mr-fresh": {1, 1}, "noreload-mr-fresh": {2, 0}} {
			s := svc(t, name, run)
			if change, err := s.refreshChange(t.Context()); change != "" || err != nil {
				t.Errorf("%s is stopped, and a refresh would %q, %v", name, change, err)
			}
			if _, err := s.refresh(t.Context()); err != nil {
				t.Errorf("%s: refresh while stopped: %v", name, err)
			}
			isRunning(t, name, false)
			applies(t, s)
			begun(t, sys, name, 1) // before that, the daemon would die of a signal to reload
			if change, err := s.refreshChange(t.Context()); change == "" || err != nil {
				t.Errorf("%s runs, and a refresh would %q, %v", name, change, err)
			}
			if output, err := s.refresh(t.Context()); err != nil {
				t.Errorf("%s: refresh: %v, printed %q", name, err, output)
			}
			isRunning(t, name, true)
			begun(t, sys, name, want[0])
			if _, reloads := sys.counts(t, name); reloads != want[1] {
				t.Errorf("%s: %d reloads, want %d", name, reloads, want[1])
			}
		}
	})
	t.Run("at boot", func(t *testing.T) {
		sys.install(t, "mr-boot", sound)
		on, off := svc(t, "mr-boot", graph.Svc{Startup: graph.StartupEnabled}), svc(t, "mr-boot", graph.Svc{Startup: graph.StartupDisabled})
		wants(t, off, "")
		for range 2 { // links that were made once are kept in another form
			wants(t, on, "enable")
			applies(t, on)
			wants(t, off, "disable")
			applies(t, off)
		}
		news := watching(t, off)
		sys.byHand(t, "enable", "mr-boot")
		arrives(t, news)
		wants(t, off, "disable")
		sys.byHand(t, "disable", "mr-boot")
		wants(t, off, "")
		wants(t, svc(t, "mr-boot", graph.Svc{State: graph.RunningYes, Startup: graph.StartupEnabled}), "enable, start")
		isRunning(t, "mr-boot", false)
	})
	t.Run("not there", func(t *testing.T) {
		for _, spec := range []graph.Svc{{}, run, rest, {Startup: graph.StartupDisabled}} {
			if change, err := svc(t, "mr-missing", spec).check(t.Context()); err == nil || !strings.Contains(err.Error(), "mr-missing") {
				t.Errorf("%+v: check says %q, %v", spec, change, err)
			}
			fails(t, svc(t, "mr-missing", spec), "mr-missing")
		}
	})
	t.Run("can't run", func(t *testing.T) {
		sys.install(t, "mr-failing", failing)
		sys.install(t, "mr-dying", dying)
		fails(t, svc(t, "mr-failing", run), "mr-failing")
		fails(t, svc(t, "mr-dying", run), "was started and ")
	})
	t.Run("start that hangs", func(t *testing.T) {
		sys.install(t, "mr-hanging", hanging)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := svc(t, "mr-hanging", run).apply(ctx)
			done <- err
		}()
		eventually(t, "the start", func() bool {
			select {
			case err := <-done:
				t.Fatalf("it did not hang: %v", err)
			default:
			}
			starts, _ := sys.counts(t, "mr-hanging")
			return starts > 0
		})
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("canceled: %v", err)
			}
		case <-time.After(patience):
			t.Error("goes on after ctx has ended")
		}
	})
}

func TestSvcNames(t *testing.T) {
	for _, name := range []string{"", "-x", "--help", "a/b", "../x", ".", "a b", "a\nb", "a\x00b", "a\xffb"} {
		if _, err := newResource(&graph.Resource{ID: graph.ID{Kind: graph.KindSvc, Name: name}, Spec: &graph.Svc{}}, nil); err == nil {
			t.Errorf("accepted a service called %q", name)
		}
	}
	svc(t, "getty@tty1", graph.Svc{})
}
