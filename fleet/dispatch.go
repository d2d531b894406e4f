package fleet

import (
	"context"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// dispatcher hands events to the observer, one at a time and in order, from a goroutine of its own. Actors post
// without waiting; who posts output waits until it was taken, which is what makes a slow observer slow down the hosts
// that talk and nobody else.
type dispatcher struct {
	observe func(messages.Event)
	mu      sync.Mutex
	wake    sync.Cond
	queue   []queued
	closing bool
	ended   chan struct{}
}

type queued struct {
	event messages.Event
	taken chan struct{} // closed when the observer returned; nil where nobody waits
}

func newDispatcher(observe func(messages.Event)) *dispatcher {
	d := &dispatcher{observe: observe, ended: make(chan struct{})}
	d.wake.L = &d.mu
	go d.work()
	return d
}

// post queues an event. It never blocks.
func (d *dispatcher) post(event messages.Event) { d.put(queued{event: event}) }

// postAndWait queues an event and waits until the observer has taken it, or ctx ends.
func (d *dispatcher) postAndWait(ctx context.Context, event messages.Event) error {
	q := queued{event: event, taken: make(chan struct{})}
	d.put(q)
	select {
	case <-q.taken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *dispatcher) put(q queued) {
	d.mu.Lock()
	d.queue = append(d.queue, q)
	d.mu.Unlock()
	d.wake.Signal()
}

func (d *dispatcher) work() {
	defer close(d.ended)
	for {
		d.mu.Lock()
		for len(d.queue) == 0 && !d.closing {
			d.wake.Wait()
		}
		batch := d.queue
		d.queue = nil
		d.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, q := range batch {
			d.observe(q.event)
			if q.taken != nil {
				close(q.taken)
			}
		}
	}
}

// close waits until everything posted before was taken.
func (d *dispatcher) close() {
	d.mu.Lock()
	d.closing = true
	d.mu.Unlock()
	d.wake.Signal()
	<-d.ended
}
