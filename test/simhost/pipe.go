package simhost

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// newPipe returns the two ends of a connection in memory. Unlike net.Pipe and bufconn its writes never block: x/crypto/ssh
// writes under a lock, and who waits for a lock stops synctest's clock. What can be in flight is bounded by SSH's windows.
func newPipe(near, far net.Addr) (net.Conn, net.Conn) {
	a, b := newQueue(), newQueue()
	return &pipeEnd{in: a, out: b, local: near, remote: far}, &pipeEnd{in: b, out: a, local: far, remote: near}
}

type pipeEnd struct {
	in, out       *queue
	local, remote net.Addr
}

func (p *pipeEnd) Read(b []byte) (int, error)  { return p.in.read(b) }
func (p *pipeEnd) Write(b []byte) (int, error) { return p.out.write(b) }
func (p *pipeEnd) LocalAddr() net.Addr         { return p.local }
func (p *pipeEnd) RemoteAddr() net.Addr        { return p.remote }

// Close ends both directions; the peer reads what is on its way and then io.EOF.
func (p *pipeEnd) Close() error {
	p.in.close(true)
	p.out.close(false)
	return nil
}

func (p *pipeEnd) SetDeadline(t time.Time) error      { return p.SetReadDeadline(t) }
func (p *pipeEnd) SetReadDeadline(t time.Time) error  { p.in.deadline(t); return nil }
func (p *pipeEnd) SetWriteDeadline(_ time.Time) error { return nil }

type queue struct {
	mu      sync.Mutex
	ready   sync.Cond
	buf     []byte
	ended   bool // no more will be written
	dropped bool // the reader closed
	expired bool
	timer   *time.Timer
}

func newQueue() *queue {
	q := &queue{}
	q.ready.L = &q.mu
	return q
}

func (q *queue) read(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.dropped:
			return 0, net.ErrClosed
		case q.expired:
			return 0, os.ErrDeadlineExceeded
		case len(q.buf) > 0:
			n := copy(b, q.buf)
			if q.buf = q.buf[n:]; len(q.buf) == 0 {
				q.buf = nil // thousands of idle connections keep no buffers
			}
			return n, nil
		case q.ended:
			return 0, io.EOF
		}
		q.ready.Wait()
	}
}

func (q *queue) write(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || q.dropped {
		return 0, io.ErrClosedPipe
	}
	q.buf = append(q.buf, b...)
	q.ready.Signal()
	return len(b), nil
}

func (q *queue) close(byReader bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if byReader {
		q.dropped, q.buf = true, nil
		if q.timer != nil {
			q.timer.Stop()
		}
	}
	q.ended = true
	q.ready.Broadcast()
}

func (q *queue) deadline(t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	q.expired = false
	if t.IsZero() || q.dropped {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(t), func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.timer == timer { // a newer deadline replaced this one otherwise
			q.expired = true
			q.ready.Broadcast()
		}
	})
	q.timer = timer
}
