package sshfleet

import (
	"net"
	"sync"
	"sync/atomic"
)

// faultyConn is the server's end of a connection with the host's switches between it and the SSH library.
type faultyConn struct {
	net.Conn
	faults *faults
	drop   func() // closes all connections of the host
	done   chan struct{}
	once   sync.Once
	err    error

	greeted     atomic.Bool // our version banner went out
	established atomic.Bool // key exchange and authentication are done
}

func newFaultyConn(c net.Conn, f *faults, drop func()) *faultyConn {
	return &faultyConn{Conn: c, faults: f, drop: drop, done: make(chan struct{})}
}

// Read hands over what arrived, unless a switch holds it back. The switches count before and after the real read: a
// Pause while the read waits must hold back what then arrives.
func (c *faultyConn) Read(p []byte) (int, error) {
	if !c.faults.wait(c.done, stopsReading) {
		return 0, net.ErrClosed
	}
	if len(p) > 0 {
		p = p[:c.faults.allowance(len(p))]
	}
	n, err := c.Conn.Read(p)
	if !c.faults.wait(c.done, stopsReading) {
		return 0, net.ErrClosed
	}
	if c.faults.received(n) {
		c.drop()
	}
	return n, err
}

func stopsReading(s switches) bool { return s.paused || s.hung[Read] }

// Write sends p, unless a switch holds it back. The SSH library writes the banner in one piece, first of all.
func (c *faultyConn) Write(p []byte) (int, error) {
	ok := c.faults.wait(c.done, func(s switches) bool {
		return s.paused || s.hung[KeyExchange] && c.greeted.Load() && !c.established.Load()
	})
	if !ok {
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Write(p)
	c.greeted.Store(true)
	return n, err
}

// Close closes the connection once, and releases whatever waits at a switch on its behalf.
func (c *faultyConn) Close() error {
	c.once.Do(func() {
		close(c.done)
		c.err = c.Conn.Close()
	})
	return c.err
}
