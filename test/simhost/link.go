package simhost

import (
	"net"
	"sync"
)

// link is the host's end of a connection, with the faults of a network: it can freeze, and key exchange can hang.
type link struct {
	net.Conn
	host *Host
	done chan struct{} // closed by Close
	once sync.Once

	mu      sync.Mutex
	thawed  chan struct{} // nil: bytes flow
	pending []byte        // written while frozen: a kernel would take them as well
	writes  int
}

func newLink(h *Host, c net.Conn) *link { return &link{Conn: c, host: h, done: make(chan struct{})} }

// Close ends the connection and everything that waits on it.
func (l *link) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Conn.Close()
}

func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.mu.Lock()
	thawed := l.thawed
	l.mu.Unlock()
	if thawed != nil {
		select {
		case <-thawed:
		case <-l.done:
			return 0, net.ErrClosed
		}
	}
	return n, err
}

// Write never blocks while frozen: SSH writes under a lock.
func (l *link) Write(b []byte) (int, error) {
	l.mu.Lock()
	l.writes++
	second := l.writes == 2
	l.mu.Unlock()
	// The version is written first and by itself (RFC 4253 section 4.2), so the second write begins the key exchange.
	if second && !l.host.reach(l, StageKeyExchange) {
		return 0, net.ErrClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.thawed != nil {
		l.pending = append(l.pending, b...)
		return len(b), nil
	}
	return l.Conn.Write(b)
}

func (l *link) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.thawed == nil {
		l.thawed = make(chan struct{})
	}
}

func (l *link) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.thawed == nil {
		return
	}
	if len(l.pending) > 0 {
		if _, err := l.Conn.Write(l.pending); err != nil {
			_ = l.Close() // the connection died meanwhile; Close has nothing to add
		}
		l.pending = nil
	}
	close(l.thawed)
	l.thawed = nil
}
