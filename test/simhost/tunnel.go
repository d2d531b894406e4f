package simhost

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/internal/wire/mux"
)

// forward is a socket that leads to an initiator.
type forward struct {
	conn *connection
	path string
	dial func() (net.Conn, error)
}

// forward serves streamlocal-forward@openssh.com (OpenSSH PROTOCOL section 2.4): the payload is the socket's path.
func (c *connection) forward(payload []byte) bool {
	var m struct{ Path string }
	if ssh.Unmarshal(payload, &m) != nil || !c.host.reach(c.link, StageForward) {
		return false
	}
	if c.host.fault(func(s switches) bool { return s.refuse }) {
		return false
	}
	return c.host.listen(forward{c, m.Path, func() (net.Conn, error) { return c.openForwarded(m.Path) }})
}

// listen makes the socket. A path that exists is refused, as bind does: sshd never removes an old one.
func (h *Host) listen(f forward) bool {
	if !h.tree.bind(f.path) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forwards = append(h.forwards, f)
	h.eventLocked(EventForwarded, f.path)
	close(h.forwarded)
	h.forwarded = make(chan struct{})
	return true
}

func (c *connection) cancelForward(payload []byte) bool {
	var m struct{ Path string }
	if ssh.Unmarshal(payload, &m) != nil {
		return false
	}
	return c.host.dropForward(func(f forward) bool { return f.conn == c && f.path == m.Path })
}

func (h *Host) dropForwards(c *connection) {
	h.dropForward(func(f forward) bool { return f.conn == c })
}

func (h *Host) dropForward(which func(forward) bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.forwards)
	h.forwards = slices.DeleteFunc(h.forwards, which)
	return len(h.forwards) < before
}

// openForwarded opens a connection towards the initiator: socket path and a reserved string (OpenSSH PROTOCOL 2.4).
func (c *connection) openForwarded(socket string) (net.Conn, error) {
	ch, requests, err := c.ssh.OpenChannel("forwarded-streamlocal@openssh.com", ssh.Marshal(struct{ Path, Reserved string }{socket, ""}))
	if err != nil {
		return nil, err
	}
	c.host.wg.Go(func() { ssh.DiscardRequests(requests) })
	return channelConn{ch, socket}, nil
}

// DialTunnel connects to the initiator's end of the newest tunnel, as a payload's etcd client does through the shim.
// Without a tunnel it waits for one until ctx ends. A refusal is tried again for a second: the client of a forward takes
// connections only after it has read the answer to its request. The result supports CloseWrite unless it goes through a stdio tunnel.
func (h *Host) DialTunnel(ctx context.Context) (net.Conn, error) {
	const again, attempts = 10 * time.Millisecond, 100
	for refusals := 0; ; {
		h.mu.Lock()
		next := h.forwarded
		var newest *forward
		if n := len(h.forwards); n > 0 {
			f := h.forwards[n-1]
			newest = &f
		}
		h.mu.Unlock()
		if newest != nil {
			c, err := newest.dial()
			if err == nil {
				return c, nil
			}
			var refused *ssh.OpenChannelError
			if errors.As(err, &refused) {
				if refusals++; refusals == attempts || !sleep(ctx, again) {
					return nil, err
				}
				continue
			}
			h.dropForward(func(f forward) bool { return f.path == newest.path })
			continue // its connection is gone: wait for the next tunnel
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tunnel serves the stdio tunnel until the channel ends, and removes its socket then.
func (c *connection) tunnel(dir, epoch, marker string, ch ssh.Channel) int {
	if !c.host.reach(c.link, StageTunnel) {
		return exitFailure
	}
	say(ch, "%s\n%s\n", c.host.opts.Noise, marker)
	session, err := mux.Client(ch)
	if err != nil {
		say(ch.Stderr(), "%v\n", err)
		return exitFailure
	}
	defer session.Close()
	socket := dir + "/etcd." + epoch + ".sock"
	if !c.host.listen(forward{c, socket, session.Open}) {
		say(ch.Stderr(), "can't listen on %s\n", socket)
		return exitFailure
	}
	<-session.CloseChan()
	c.host.dropForward(func(f forward) bool { return f.conn == c && f.path == socket })
	c.host.tree.removeAll(socket)
	return exitOK
}

// channelConn makes a net.Conn of a channel.
type channelConn struct {
	ssh.Channel
	path string
}

var errNoDeadline = errors.New("a channel has no deadlines")

var _ io.ReadWriteCloser = channelConn{}

func (c channelConn) LocalAddr() net.Addr              { return &net.UnixAddr{Name: c.path, Net: "unix"} }
func (c channelConn) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: c.path, Net: "unix"} }
func (c channelConn) SetDeadline(time.Time) error      { return errNoDeadline }
func (c channelConn) SetReadDeadline(time.Time) error  { return errNoDeadline }
func (c channelConn) SetWriteDeadline(time.Time) error { return errNoDeadline }
