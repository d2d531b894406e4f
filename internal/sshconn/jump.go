package sshconn

import (
	"context"
	"sync"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// How long a failure to connect to a jump host is the answer to everybody who wants to go through it. A fleet behind it would
// otherwise knock there once per host: in vain where it is away, and until the account is locked where it refuses us.
const (
	awayFor    = time.Second
	refusedFor = time.Minute
)

// jumps owns the connections to jump hosts: one for each way to one (see inventory.Host.Route), however many hosts are behind it. A
// connection is made when the first host needs it, and again when one needs it after it was lost; it is kept until close.
type jumps struct {
	// dial connects to a jump host, through others if there are some. since is when the clock of the attempt began.
	dial func(ctx context.Context, jump inventory.Host) (c *Conn, since time.Time, err error)

	flights sync.WaitGroup

	mu     sync.Mutex
	known  map[string]*jumpHost // by route; nil after close
	closed bool
}

// jumpHost is guarded by the mutex of jumps.
type jumpHost struct {
	conn    *Conn     // nil, alive or ended
	coming  *flight   // the attempt under way, which all wait for; nil = none
	failed  error     // of the last attempt; it is the answer
	answers time.Time // until then
}

// flight is one attempt to connect to a jump host. Its results are set before done is closed.
type flight struct {
	waiting int // hosts; guarded by the mutex of jumps
	cancel  context.CancelFunc
	done    chan struct{}

	conn  *Conn
	since time.Time
	err   error
}

// connect returns the connection to the jump host next to host, which stays ours. It returns when ctx ends; the attempt is given up when
// nobody waits for it any more, and has the bounds of every dial. since is when the clock of an attempt that was waited for began.
func (j *jumps) connect(ctx context.Context, host inventory.Host) (c *Conn, since time.Time, err error) {
	f, c, err := j.join(host)
	if f == nil {
		return c, time.Time{}, err
	}
	select {
	case <-f.done:
		return f.conn, f.since, f.err
	case <-ctx.Done():
		j.leave(host.Route(), f)
		return nil, time.Time{}, ctx.Err()
	}
}

// join returns what is known, or the attempt to wait for.
func (j *jumps) join(host inventory.Host) (*flight, *Conn, error) {
	route := host.Route()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, nil, fault.Wrap(fault.Canceled, "connect", context.Canceled)
	}
	h := j.known[route]
	if h == nil {
		h = &jumpHost{}
		j.known[route] = h
	}
	switch {
	case h.coming != nil:
		h.coming.waiting++
		return h.coming, nil, nil
	case h.conn != nil && h.conn.alive():
		return nil, h.conn, nil
	case h.failed != nil && time.Now().Before(h.answers):
		return nil, nil, h.failed
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &flight{waiting: 1, cancel: cancel, done: make(chan struct{})}
	h.conn, h.coming, h.failed = nil, f, nil
	j.flights.Go(func() {
		defer cancel()
		f.conn, f.since, f.err = j.dial(ctx, *host.Jump)
		j.landed(route, f)
	})
	return f, nil, nil
}

// leave is for those who don't wait any longer.
func (j *jumps) leave(route string, f *flight) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	f.cancel()
	if h := j.known[route]; h != nil && h.coming == f {
		h.coming = nil // whoever comes next makes a new attempt
	}
}

// landed keeps what an attempt brought, unless nobody wanted it any more.
func (j *jumps) landed(route string, f *flight) {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer close(f.done)
	h := j.known[route]
	if h == nil || h.coming != f {
		if f.conn != nil {
			_ = f.conn.Close() // nobody has it
		}
		return
	}
	h.coming, h.conn = nil, f.conn
	if f.err == nil {
		return
	}
	h.failed, h.answers = f.err, time.Now().Add(refusedFor)
	switch fault.KindOf(f.err) {
	case fault.Lost, fault.Unreachable, fault.Busy:
		h.answers = time.Now().Add(awayFor)
	}
}

// close ends all connections and attempts, and waits for the latter; what goes through them is lost.
func (j *jumps) close() error {
	j.mu.Lock()
	known := j.known
	j.known, j.closed = nil, true
	for _, h := range known {
		if h.coming != nil {
			h.coming.cancel()
		}
	}
	j.mu.Unlock()
	for _, h := range known {
		if h.conn != nil {
			_ = h.conn.Close() // nothing more is wanted of it
		}
	}
	j.flights.Wait()
	return nil
}

// alive reports whether nothing is known of the connection's end.
func (c *Conn) alive() bool {
	select {
	case <-c.done:
		return false
	default:
		return c.link.dead.Load() == nil
	}
}
