package shim

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire/mux"
)

// maxHeld is how much of what a peer writes is read ahead while there is no tunnel, in bytes per connection.
const maxHeld = 64 << 10

// peer is a connection that can be half-closed: unix or TCP.
type peer interface {
	net.Conn
	CloseWrite() error
}

// endpoint is the payload's etcd: it relays each connection to the tunnel of the newest epoch. Without a tunnel it holds new connections
// until there is one or the peer closes (a half-close counts as giving up then; etcd's clients have none). A newer epoch
// cuts the relays of older ones, since a client on a frozen connection does not dial again by itself.
type endpoint struct {
	dir   string // where tunnels' sockets are, those of old epochs are removed
	allow func(net.Conn) error
	log   *logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	tunnel  tunnelRef
	changed chan struct{} // closed and replaced with every new tunnel
	relays  map[*relay]struct{}
}

// tunnelRef is a tunnel; order grows with everything that was told about tunnels.
type tunnelRef struct {
	fence, epoch uint64
	socket       string
	order        int
}

type relay struct {
	fence, epoch uint64
	down, up     net.Conn
}

// newEndpoint returns an endpoint that has no listener yet. allow decides on each connection; nil allows all.
func newEndpoint(dir string, allow func(net.Conn) error, log *logger) *endpoint {
	ctx, cancel := context.WithCancel(context.Background())
	return &endpoint{dir: dir, allow: allow, log: log, ctx: ctx, cancel: cancel, changed: make(chan struct{}), relays: map[*relay]struct{}{}}
}

// serve accepts connections in the background until close, which also closes ln.
func (e *endpoint) serve(ln net.Listener) {
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		stop := context.AfterFunc(e.ctx, func() { _ = ln.Close() })
		defer stop()
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // out of descriptors: that passes
				e.log.printf("accept at the payload's endpoint: %v", err)
				select {
				case <-e.ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
				continue
			}
			e.wg.Go(func() { e.handle(c) })
		}
	}()
}

// setTunnel makes the tunnel at socket the one for connections from now on, unless a newer one is known. Within a
// fencing token epochs grow; a new token begins a new count. Telling the newest one again wakes those who wait.
func (e *endpoint) setTunnel(fence, epoch uint64, socket string) {
	if !filepath.IsAbs(socket) {
		socket = filepath.Join(e.dir, socket)
	}
	e.mu.Lock()
	t := e.tunnel
	if fence < t.fence || (fence == t.fence && epoch < t.epoch) {
		e.mu.Unlock()
		return
	}
	takenOver := fence > t.fence
	e.tunnel = tunnelRef{fence: fence, epoch: epoch, socket: socket, order: t.order + 1}
	close(e.changed)
	e.changed = make(chan struct{})
	var old []*relay
	for r := range e.relays {
		if r.epoch != epoch || r.fence != fence {
			old = append(old, r)
		}
	}
	e.mu.Unlock()
	for _, r := range old {
		cut2(r.down, r.up)
	}
	e.removeOldSockets(epoch, socket, takenOver)
}

// removeOldSockets removes what sshd leaves behind of earlier epochs' sockets.
func (e *endpoint) removeOldSockets(epoch uint64, keep string, takenOver bool) {
	entries, err := os.ReadDir(e.dir)
	if err != nil {
		e.log.printf("look for old sockets: %v", err)
		return
	}
	for _, entry := range entries {
		n, ok := socketEpoch(entry.Name())
		path := filepath.Join(e.dir, entry.Name())
		if !ok || path == keep || (n >= epoch && !takenOver) {
			continue
		}
		if err := os.Remove(path); err != nil {
			e.log.printf("remove an old socket: %v", err)
		}
	}
}

// tunnelSocket names the socket of an epoch's tunnel.
func tunnelSocket(epoch uint64) string { return "etcd." + strconv.FormatUint(epoch, 10) + ".sock" }

// socketEpoch is the inverse of tunnelSocket.
func socketEpoch(name string) (uint64, bool) {
	s, ok := strings.CutPrefix(name, "etcd.")
	s, ok2 := strings.CutSuffix(s, ".sock")
	n, err := strconv.ParseUint(s, 10, 64)
	return n, ok && ok2 && err == nil
}

func (e *endpoint) handle(c net.Conn) {
	defer c.Close() //nolint:errcheck // the payload may have gone first
	p, ok := c.(peer)
	if !ok {
		return
	}
	if e.allow != nil {
		if err := e.allow(c); err != nil {
			e.log.printf("a connection to the payload's endpoint is refused: %v", err)
			return
		}
	}
	h := hold(p)
	r := e.connect(h)
	if r == nil {
		_ = c.Close() // ends the reader
		<-h.done
		return
	}
	defer func() {
		cut2(r.down, r.up)
		e.mu.Lock()
		delete(e.relays, r)
		e.mu.Unlock()
	}()
	ahead, err := h.release()
	if err != nil {
		return // the peer left at the last moment
	}
	if _, err := r.up.Write(ahead); err != nil {
		return
	}
	mux.Relay(r.down, r.up)
}

// connect waits for a tunnel that answers and registers a relay to it; nil where the peer gave up or the endpoint is closed. A
// tunnel that doesn't answer is not tried again until a new one is told.
func (e *endpoint) connect(h *held) *relay {
	for tried := 0; ; {
		e.mu.Lock()
		t, changed := e.tunnel, e.changed
		e.mu.Unlock()
		if t.order > tried {
			tried = t.order
			if up := e.dial(h, t.socket); up != nil {
				if r := e.register(h, t, up); r != nil {
					return r
				}
				_ = up.Close() // a newer epoch came meanwhile
				continue
			}
		}
		select {
		case <-changed:
		case <-h.gone:
			return nil
		case <-e.ctx.Done():
			return nil
		}
	}
}

func (e *endpoint) register(h *held, t tunnelRef, up net.Conn) *relay {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil || e.tunnel.epoch != t.epoch || e.tunnel.fence != t.fence {
		return nil
	}
	r := &relay{fence: t.fence, epoch: t.epoch, down: h.conn, up: up}
	e.relays[r] = struct{}{}
	return r
}

// dial tries a few times within half a second: a tunnel may be told a moment before it listens.
func (e *endpoint) dial(h *held, socket string) net.Conn {
	for pause := 15 * time.Millisecond; pause < 300*time.Millisecond; pause *= 2 {
		var d net.Dialer
		up, err := d.DialContext(e.ctx, "unix", socket)
		if err == nil {
			return up
		}
		select {
		case <-time.After(pause):
		case <-h.gone:
			return nil
		case <-e.ctx.Done():
			return nil
		}
	}
	return nil
}

// close cuts everything and waits for the goroutines.
func (e *endpoint) close() {
	e.cancel()
	e.mu.Lock()
	for r := range e.relays {
		cut2(r.down, r.up)
	}
	e.mu.Unlock()
	e.wg.Wait()
}

func cut2(a, b net.Conn) {
	_ = a.Close() // nothing is lost by an error here
	_ = b.Close()
}

// held is a connection that waits for a tunnel. What the peer writes is read ahead, which tells when it closes.
type held struct {
	conn peer
	gone chan struct{} // closed when the peer closed
	done chan struct{} // closed when the reader ended
	buf  []byte        // the reader's until done is closed
	err  error
}

func hold(c peer) *held {
	h := &held{conn: c, gone: make(chan struct{}), done: make(chan struct{})}
	go h.read()
	return h
}

func (h *held) read() {
	defer close(h.done)
	part := make([]byte, 4<<10)
	for len(h.buf) < maxHeld {
		n, err := h.conn.Read(part)
		h.buf = append(h.buf, part[:n]...)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return // released
		}
		if err != nil {
			h.err = err
			close(h.gone)
			return
		}
	}
}

// release ends the reading ahead and returns what was read. The error tells that the peer is gone.
func (h *held) release() ([]byte, error) {
	_ = h.conn.SetReadDeadline(time.Unix(1, 0)) // fails only on a closed connection, which ends the reader as well
	<-h.done
	if h.err != nil {
		return nil, h.err
	}
	return h.buf, h.conn.SetReadDeadline(time.Time{})
}
