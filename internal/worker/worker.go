// Package worker is how actors do work that blocks: in goroutines that end in exactly one message.
//
// An actor instance owns one Group. Work gets a context and returns a message; the group sends it to the actor's PID
// stamped, and the actor passes everything it receives through Take, which drops what an older instance or an older
// epoch asked for. That is the only place where stale answers are dropped. A panic in work arrives as a Bug fault.
//
// A result that nobody takes any more (the actor stopped, restarted or moved on) is closed if it is an io.Closer, so a
// connection that was made a moment too late does not leak.
package worker

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// Done carries the one result of a piece of work to the actor. Only Take looks inside.
type Done struct {
	group   uint64
	epoch   uint64
	request uint64
	result  any
}

// groups numbers all groups of the process, so that an old instance's results are never taken for the new one's.
var groups atomic.Uint64

// Group runs the work of one actor instance. Its methods are called in the actor's turns only, except the work
// itself. Cancel must be called on both *actor.Restarting and *actor.Stopping.
type Group struct {
	id     uint64
	root   *actor.RootContext
	self   *actor.PID
	ctx    context.Context
	cancel context.CancelFunc
	epoch  uint64 // work started in an earlier epoch is stale

	mu       sync.Mutex
	canceled bool
	next     uint64
	waiting  map[uint64]any // results sent but not taken
	live     sync.WaitGroup
}

// New makes the group of the actor instance whose context is given.
func New(ctx actor.Context) *Group {
	c, cancel := context.WithCancel(context.Background())
	return &Group{id: groups.Add(1), root: ctx.ActorSystem().Root, self: ctx.Self(), ctx: c, cancel: cancel, waiting: map[uint64]any{}}
}

// Receive is the beginning of every turn of an actor whose work must succeed: it makes the group on *actor.Started, has
// everything given back on restart and stop alike, and returns any other message with TakeOrFail; false where there is
// nothing more to do.
func Receive(ctx actor.Context, group **Group, release func()) (any, bool) {
	switch ctx.Message().(type) {
	case *actor.Started:
		*group = New(ctx)
		return nil, false
	case *actor.Restarting, *actor.Stopping:
		release()
		return nil, false
	}
	return (*group).TakeOrFail(ctx.Message())
}

// Context ends when the group is canceled. It is for work that is not started by Go, such as timers.
func (g *Group) Context() context.Context { return g.ctx }

// Root sends messages from where no actor.Context is at hand.
func (g *Group) Root() *actor.RootContext { return g.root }

// Advance begins a new epoch: what was asked for before is stale from here on. Its contexts are not ended.
func (g *Group) Advance() { g.epoch++ }

// Go runs work in a goroutine of its own. What it returns (a message, or an error) reaches the actor as a Done.
func (g *Group) Go(work func(ctx context.Context) any) { g.start(0, work) }

// GoWithin is Go with a bound: after limit the work's context ends with a deadline error.
func (g *Group) GoWithin(limit time.Duration, work func(ctx context.Context) any) {
	g.start(limit, work)
}

// After delivers message after d, unless the group is canceled or advanced before.
func (g *Group) After(d time.Duration, message any) {
	g.Go(func(ctx context.Context) any {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return message
		case <-ctx.Done():
			return nil
		}
	})
}

// Tell sends a message to the actor from within work that has more to say than its one result: the frames of a
// stream. It is stamped like a result.
func (g *Group) Tell(epoch uint64, message any) { g.deliver(epoch, message) }

// Epoch is the current one, to be handed to work that uses Tell.
func (g *Group) Epoch() uint64 { return g.epoch }

func (g *Group) start(limit time.Duration, work func(ctx context.Context) any) {
	g.mu.Lock()
	if g.canceled {
		g.mu.Unlock()
		return
	}
	g.live.Add(1)
	g.mu.Unlock()
	epoch := g.epoch
	go func() {
		defer g.live.Done()
		ctx := g.ctx
		if limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		if result := guard(ctx, work); result != nil {
			g.deliver(epoch, result)
		}
	}()
}

// guard turns a panic in work into a Bug fault that keeps the stack.
func guard(ctx context.Context, work func(ctx context.Context) any) (result any) {
	defer func() {
		if r := recover(); r != nil {
			result = fault.New(fault.Bug, "work", "panic: %v\n%s", r, debug.Stack())
		}
	}()
	return work(ctx)
}

func (g *Group) deliver(epoch uint64, result any) {
	g.mu.Lock()
	if g.canceled {
		g.mu.Unlock()
		discard(result)
		return
	}
	g.next++
	done := Done{group: g.id, epoch: epoch, request: g.next, result: result}
	if _, ok := result.(io.Closer); ok {
		g.waiting[done.request] = result
	}
	g.mu.Unlock()
	g.root.Send(g.self, done)
}

// Take returns the result in a Done, or false where it is stale. Messages that are no Done are returned as they are.
func (g *Group) Take(message any) (any, bool) {
	done, ok := message.(Done)
	if !ok {
		return message, true
	}
	if done.group != g.id {
		return nil, false // its own group closed it
	}
	g.mu.Lock()
	delete(g.waiting, done.request)
	g.mu.Unlock()
	if done.epoch != g.epoch {
		discard(done.result)
		return nil, false
	}
	return done.result, true
}

// TakeOrFail is Take for actors whose work must succeed: a result that is an error is the actor's own failure, and it
// panics with it as a fault for its parent to decide about.
func (g *Group) TakeOrFail(message any) (any, bool) {
	result, ok := g.Take(message)
	if err, failed := result.(error); failed && ok {
		panic(fault.Wrap(fault.Bug, "work", err))
	}
	return result, ok
}

// Cancel ends the context of all work and closes results that nobody will take. It does not wait.
func (g *Group) Cancel() {
	g.mu.Lock()
	waiting := g.waiting
	g.waiting, g.canceled = nil, true
	g.mu.Unlock()
	g.cancel()
	for _, result := range waiting {
		discard(result)
	}
}

// Wait returns when all work has ended; for tests and for an orderly end of the process, never for an actor's turn.
func (g *Group) Wait() { g.live.Wait() }

func discard(result any) {
	if c, ok := result.(io.Closer); ok {
		// Nobody is left who could be told; the resource is given back, which is all that is wanted.
		_ = c.Close()
	}
}

// String helps in logs of actors that get a Done they don't expect.
func (d Done) String() string { return fmt.Sprintf("worker.Done(%T)", d.result) }
