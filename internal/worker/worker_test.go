package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) {
	// protoactor counts dead letters in a goroutine that lives for a second.
	leaks.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"))
}

// user is an actor that does what tests tell it, in its turns, and tells what Take gave it.
type user struct {
	group *Group
	taken chan any
}

type turn struct {
	do   func(u *user, ctx actor.Context)
	done chan struct{}
}

func (u *user) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		u.group = New(ctx)
	case *actor.Stopping, *actor.Restarting:
		u.group.Cancel()
	case turn:
		m.do(u, ctx)
		close(m.done)
	case Done:
		result, ok := u.group.Take(m)
		if !ok {
			result = "stale"
		}
		u.taken <- result
	}
}

type bench struct {
	t      *testing.T
	system *actor.ActorSystem
	pid    *actor.PID
	user   *user
}

func newBench(t *testing.T) *bench {
	logger := slog.New(slog.DiscardHandler)
	b := &bench{t: t, user: &user{taken: make(chan any, 100)}}
	b.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger }))
	b.pid = b.system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return b.user }))
	t.Cleanup(func() {
		if err := b.system.Root.StopFuture(b.pid).Wait(); err != nil {
			t.Error(err)
		}
		b.user.group.Wait()
		b.system.Shutdown()
	})
	return b
}

// turn runs do in a turn of the actor.
func (b *bench) turn(do func(u *user, ctx actor.Context)) {
	m := turn{do, make(chan struct{})}
	b.system.Root.Send(b.pid, m)
	<-m.done
}

func (b *bench) next() any {
	b.t.Helper()
	select {
	case r := <-b.user.taken:
		return r
	case <-time.After(time.Minute):
		b.t.Fatal("nothing arrived")
		return nil
	}
}

// resource is a result that has to be given back.
type resource struct{ closed atomic.Int32 }

func (r *resource) Close() error {
	r.closed.Add(1)
	return errors.New("nobody is told")
}

func TestResultsArrive(t *testing.T) {
	b := newBench(t)
	failure := errors.New("no")
	r := &resource{}
	for _, result := range []any{"text", failure, r} {
		b.turn(func(u *user, _ actor.Context) { u.group.Go(func(context.Context) any { return result }) })
		if got := b.next(); got != result {
			t.Errorf("got %v, want %v", got, result)
		}
	}
	if r.closed.Load() != 0 {
		t.Error("a result that was taken is closed")
	}
	b.turn(func(u *user, _ actor.Context) {
		if m, ok := u.group.Take("not a Done"); !ok || m != "not a Done" {
			t.Error("Take changes what is none of its business")
		}
		u.group.Go(func(context.Context) any { return nil })
		u.group.After(time.Millisecond, "after nothing")
	})
	if got := b.next(); got != "after nothing" {
		t.Errorf("got %v: no result is no message", got)
	}
}

func TestStaleEpoch(t *testing.T) {
	b := newBench(t)
	r := &resource{}
	b.turn(func(u *user, _ actor.Context) {
		u.group.Go(func(context.Context) any { return r })
		u.group.Go(func(context.Context) any { return errors.New("a stale fault") })
		u.group.Advance()
		u.group.Tell(u.group.Epoch()-1, "stale news")
		u.group.Tell(u.group.Epoch(), "news")
	})
	stale, news := 0, 0
	for range 4 {
		switch b.next() {
		case "stale":
			stale++
		case "news":
			news++
		}
	}
	if stale != 3 || news != 1 || r.closed.Load() != 1 {
		t.Errorf("stale %d, news %d, closed %d", stale, news, r.closed.Load())
	}
}

func TestResultsOfAnOlderGroup(t *testing.T) {
	b := newBench(t)
	r := &resource{}
	var old *Group
	b.turn(func(u *user, ctx actor.Context) {
		old = u.group
		sent := make(chan struct{})
		old.Go(func(context.Context) any { defer close(sent); return r })
		<-sent
		for { // deliver comes after the work's return; the mailbox waits for this turn
			old.mu.Lock()
			n := len(old.waiting)
			old.mu.Unlock()
			if n == 1 {
				break
			}
		}
		old.Cancel()
		u.group = New(ctx)
	})
	old.Wait()
	if got := b.next(); got != "stale" {
		t.Errorf("got %v", got)
	}
	if r.closed.Load() != 1 {
		t.Errorf("closed %d times", r.closed.Load())
	}
}

func TestResultsAfterCancelAreClosed(t *testing.T) {
	b := newBench(t)
	r, begun := &resource{}, make(chan struct{})
	b.turn(func(u *user, _ actor.Context) {
		u.group.Go(func(ctx context.Context) any {
			close(begun)
			<-ctx.Done()
			return r
		})
		u.group.After(time.Hour, "never")
	})
	<-begun
	b.turn(func(u *user, _ actor.Context) {
		u.group.Cancel()
		u.group.Cancel() // again does no harm
		u.group.Go(func(context.Context) any { t.Error("work begins after Cancel"); return nil })
		u.group.Tell(u.group.Epoch(), "news after Cancel")
	})
	b.user.group.Wait()
	if r.closed.Load() != 1 {
		t.Errorf("closed %d times", r.closed.Load())
	}
	select {
	case m := <-b.user.taken:
		t.Errorf("%v arrived after Cancel", m)
	default:
	}
}

func TestPanicIsABug(t *testing.T) {
	b := newBench(t)
	b.turn(func(u *user, _ actor.Context) { u.group.Go(func(context.Context) any { panic("planted") }) })
	err, _ := b.next().(error)
	if fault.KindOf(err) != fault.Bug || !strings.Contains(err.Error(), "planted") || !strings.Contains(err.Error(), "worker_test.go") {
		t.Errorf("got %v", err)
	}
}

func TestDeadline(t *testing.T) {
	b := newBench(t)
	b.turn(func(u *user, _ actor.Context) {
		u.group.GoWithin(time.Millisecond, func(ctx context.Context) any {
			<-ctx.Done()
			return ctx.Err()
		})
	})
	if err, _ := b.next().(error); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestTakeOrFail(t *testing.T) {
	b := newBench(t)
	b.turn(func(u *user, _ actor.Context) {
		fails := func(m any) (reason any) {
			defer func() { reason = recover() }()
			u.group.TakeOrFail(m)
			return nil
		}
		done := Done{group: u.group.id, epoch: u.group.epoch, result: fault.New(fault.Lost, "run", "EOF")}
		if f, ok := fails(done).(*fault.Fault); !ok || f.Kind != fault.Lost {
			t.Error("a fault is not passed on as it is")
		}
		done.result = errors.New("something else")
		if f, ok := fails(done).(*fault.Fault); !ok || f.Kind != fault.Bug {
			t.Error("an error of no kind is no bug")
		}
		done.epoch++
		if reason := fails(done); reason != nil {
			t.Errorf("a stale error fails the actor: %v", reason)
		}
		if s := fmt.Sprint(done); !strings.Contains(s, "errorString") {
			t.Error(s)
		}
	})
}
