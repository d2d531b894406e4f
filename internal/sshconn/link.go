package sshconn

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is the transport under an SSH connection. It adds what x/crypto does not tell: whether the peer ever
// spoke and what it said instead of an SSH version, and whether the transport is known to be dead.
type link struct {
	net.Conn

	dead atomic.Pointer[error] // of the read that failed: nothing more will come; nil = none has

	mu     sync.Mutex
	buf    []byte // read ahead while x/crypto reads the version byte by byte, one system call each
	early  []byte // the first bytes of the peer, up to maxEarly
	closed bool
}

const maxEarly = 512

func newLink(c net.Conn) *link { return &link{Conn: c} }

// Read is called by one goroutine at a time.
func (l *link) Read(p []byte) (int, error) {
	if len(l.buf) > 0 {
		n := copy(p, l.buf)
		l.buf = l.buf[n:]
		return n, nil
	}
	if len(p) > 1 {
		n, err := l.Conn.Read(p)
		if err != nil {
			l.dead.CompareAndSwap(nil, &err)
		}
		return n, err
	}
	buf := make([]byte, maxEarly)
	n, err := l.Conn.Read(buf)
	if err != nil {
		l.dead.CompareAndSwap(nil, &err)
	}
	l.mu.Lock()
	l.early = append(l.early, buf[:min(n, maxEarly-len(l.early))]...)
	l.mu.Unlock()
	m := copy(p, buf[:n])
	l.buf = buf[m:n]
	if n > 0 {
		err = nil // it comes again with the next read
	}
	return m, err
}

// greeting returns what the peer sent first.
func (l *link) greeting() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.early)
}

// established ends the time limit of the handshake and drops what was kept for its errors.
func (l *link) established() error {
	l.mu.Lock()
	l.early = nil
	l.mu.Unlock()
	return l.SetDeadline(time.Time{})
}

// Close closes the transport once; it unblocks readers and writers.
func (l *link) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	return l.Conn.Close()
}
