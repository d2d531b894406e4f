package tunnel

import (
	"net"
	"sync"
)

// entrance is the initiator's end of one tunnel: a listener, and the connections that came through it, so that closing
// it leaves none at the gateway.
type entrance struct {
	listener net.Listener

	mu     sync.Mutex
	conns  map[*tracked]struct{}
	closed bool
}

func newEntrance(l net.Listener) *entrance {
	return &entrance{listener: l, conns: map[*tracked]struct{}{}}
}

// serve hands connections to the gateway until the listener ends, and returns why it did.
func (e *entrance) serve(host string, gateway Gateway) error {
	for {
		conn, err := e.listener.Accept()
		if err != nil {
			return err
		}
		t := &tracked{Conn: conn, entrance: e}
		if !e.add(t) {
			// Closed meanwhile: the peer sees an end, as it would have a moment later.
			_ = conn.Close()
			continue
		}
		gateway.Handle(host, t)
	}
}

func (e *entrance) add(t *tracked) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.conns[t] = struct{}{}
	return true
}

// Close closes the connections and the listener. It may block on the network; calling it again is harmless.
func (e *entrance) Close() error {
	e.mu.Lock()
	conns := e.conns
	e.conns, e.closed = nil, true
	e.mu.Unlock()
	for t := range conns {
		// The gateway sees the end of the connection; whether the peer still can doesn't matter to us.
		_ = t.Conn.Close()
	}
	return e.listener.Close()
}

// tracked is a connection that its entrance knows of while it is open.
type tracked struct {
	net.Conn
	entrance *entrance
}

func (t *tracked) Close() error {
	t.entrance.mu.Lock()
	delete(t.entrance.conns, t)
	t.entrance.mu.Unlock()
	return t.Conn.Close()
}

// CloseWrite passes a half-close on where the connection beneath can do that.
func (t *tracked) CloseWrite() error {
	if c, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
