package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// hop is the transport to a host behind a jump host: a direct-tcpip channel (RFC 4254, section 7.2) of the connection to the jump host.
//
// x/crypto's channels have no deadlines, and neither a read nor a write on one ends before the peer allows it. So a pipe is
// between, and a goroutine for each direction: Close and deadlines act on the pipe, at once. The goroutines end when the jump host has
// answered the close, or with the connection to it.
type hop struct {
	net.Conn // our end of the pipe

	inner net.Conn
	ch    ssh.Channel
	jump  *Conn
	host  inventory.Host
	once  sync.Once

	mu    sync.Mutex
	cause error // why it ended, where it was the jump host's connection
}

// hopBuffer is the size of a hop's two buffers. x/crypto cuts what is larger than 32 KiB into pieces anyway.
const hopBuffer = 16 << 10

// hopTo has the jump host connect to host. Who gets the transport closes it. ctx bounds the wait for the jump host; the error is a fault.
func (c *Conn) hopTo(ctx context.Context, host inventory.Host) (net.Conn, error) {
	var h *hop
	err := c.raceWithin(ctx, 0, "connect", func(abandoned *atomic.Bool) error {
		ch, reqs, err := c.ssh.OpenChannel("direct-tcpip", ssh.Marshal(struct {
			Addr       string
			Port       uint32
			Origin     string
			OriginPort uint32
		}{host.Addr, uint32(host.Port), "127.0.0.1", 0}))
		if err != nil {
			var refused *ssh.OpenChannelError
			if errors.As(err, &refused) {
				return c.refusedHop(host, refused)
			}
			return err
		}
		go ssh.DiscardRequests(reqs)
		if !abandoned.CompareAndSwap(false, true) {
			_ = ch.Close() // nobody waits for it any more
			return nil
		}
		h = newHop(c, ch, host)
		return nil
	})
	switch {
	case err == nil:
		return h, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fault.New(fault.Unreachable, "connect", "jump host %s did not connect to %s within %v", c.host, host.Address(), c.opts.ConnectTimeout).
			WithHost(host.Name).WithRemedy("check that the host is up and that jump host %s can reach it, or raise --connect-timeout", c.host)
	case fault.KindOf(err) == fault.Lost:
		return nil, throughJump(host, c.host, err)
	}
	return nil, err
}

func newHop(jump *Conn, ch ssh.Channel, host inventory.Host) *hop {
	outer, inner := net.Pipe()
	h := &hop{Conn: outer, inner: inner, ch: ch, jump: jump, host: host}
	go h.pump(inner, ch)
	go h.pump(ch, inner)
	return h
}

// pump carries one direction. The end of either is the end of both: SSH needs both.
func (h *hop) pump(to io.Writer, from io.Reader) {
	_, err := io.CopyBuffer(to, from, make([]byte, hopBuffer))
	if err == nil {
		err = io.EOF
	}
	h.end(h.jump.endOfStream("connect", err), h.inner)
}

// end closes one end of the pipe, and the channel.
func (h *hop) end(err error, pipe net.Conn) {
	h.once.Do(func() {
		if fault.KindOf(err) == fault.Lost {
			h.mu.Lock()
			h.cause = throughJump(h.host, h.jump.host, err)
			h.mu.Unlock()
		}
		_ = pipe.Close() // can't fail
		// A send blocks on a dead link until the connection ends.
		go func() { _ = h.ch.Close() }()
	})
}

// Close closes both directions at once, without waiting for anybody.
func (h *hop) Close() error {
	h.end(nil, h.Conn)
	return nil
}

// Read returns a fault of kind Lost when the connection to the jump host was lost, and io.EOF when the host closed its own.
func (h *hop) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	return n, h.why(err)
}

// Write is the same for the other direction.
func (h *hop) Write(p []byte) (int, error) {
	n, err := h.Conn.Write(p)
	return n, h.why(err)
}

func (h *hop) why(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cause != nil {
		return h.cause
	}
	return err
}

func (h *hop) RemoteAddr() net.Addr { return hopAddr(h.host.Address()) }

// hopAddr is where a jump host connected to, by the name that only it may know.
type hopAddr string

func (hopAddr) Network() string  { return "tcp" }
func (a hopAddr) String() string { return string(a) }

// jumpError says at which jump host something went wrong.
type jumpError struct {
	jump string
	err  error
}

func (e *jumpError) Error() string { return fmt.Sprintf("through jump host %s: %v", e.jump, e.err) }
func (e *jumpError) Unwrap() error { return e.err }
