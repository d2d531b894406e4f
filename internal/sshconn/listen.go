package sshconn

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// ErrForwardRefused is what a fault of ListenUnix wraps when the server does not forward Unix sockets (Dropbear, or OpenSSH with
// AllowStreamLocalForwarding or DisableForwarding set against it) or could not make this one.
var ErrForwardRefused = errors.New("the server refused to forward the Unix socket")

// backlog is how many connections may wait for Accept before more are refused.
const backlog = 64

// ListenUnix asks the server to listen on a Unix socket at path on the host and to forward its connections here
// (streamlocal-forward@openssh.com, OpenSSH PROTOCOL section 2.4). The server creates the socket, fails when the path exists unless it is configured
// with StreamLocalBindUnlink, and leaves the file behind.
//
// Accepted connections have CloseWrite() error; they have no deadlines (os.ErrNoDeadline). The caller closes the listener, which ends
// neither the connections it gave out nor the SSH connection. Accept returns net.ErrClosed after that, and a fault of kind Lost when the SSH connection died.
func (c *Conn) ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	const op = "tunnel"
	l := &listener{conn: c, path: path, queue: make(chan ssh.NewChannel, backlog), closed: make(chan struct{})}
	// Before the request: the first connection may arrive right behind the answer.
	if err := c.addListener(l); err != nil {
		return nil, err
	}
	err := c.race(ctx, op, func(abandoned *atomic.Bool) error {
		ok, _, err := c.ssh.SendRequest("streamlocal-forward@openssh.com", true, forwardRequest(path))
		if !abandoned.CompareAndSwap(false, true) && ok {
			_, _, err = c.ssh.SendRequest("cancel-streamlocal-forward@openssh.com", true, forwardRequest(path))
		}
		if err == nil && !ok {
			err = fault.New(fault.Environment, op, "%w: %s", ErrForwardRefused, path).
				WithRemedy("allow AllowStreamLocalForwarding in the host's sshd_config, or use the tunnel over a command's stdio")
		}
		return err
	})
	if err != nil {
		c.removeListener(l)
		return nil, err
	}
	return l, nil
}

func forwardRequest(path string) []byte { return ssh.Marshal(struct{ Path string }{path}) }

func (c *Conn) addListener(l *listener) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		if c.err != nil {
			return fault.Wrap(fault.Lost, "tunnel", c.err)
		}
		return fault.New(fault.Lost, "tunnel", "the connection was closed").WithHost(c.host)
	}
	if c.listeners[l.path] != nil {
		return fault.New(fault.Bug, "tunnel", "already listening on %s", l.path).WithHost(c.host)
	}
	c.listeners[l.path] = l
	return nil
}

// removeListener also refuses the connections that nobody accepted.
func (c *Conn) removeListener(l *listener) {
	c.mu.Lock()
	if c.listeners[l.path] == l {
		delete(c.listeners, l.path)
	}
	c.mu.Unlock()
	l.shut()
	for {
		select {
		case ch := <-l.queue:
			// In a goroutine, because a send blocks on a dead link until the connection ends.
			go func() { _ = ch.Reject(ssh.Prohibited, "the forward was closed") }()
		default:
			return
		}
	}
}

type listener struct {
	conn   *Conn
	path   string
	closed chan struct{}

	mu    sync.Mutex // orders offer and shut, so that nothing is queued after the queue was emptied
	shutd bool
	queue chan ssh.NewChannel
}

// offer queues an incoming connection without blocking.
func (l *listener) offer(ch ssh.NewChannel) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shutd {
		return false
	}
	select {
	case l.queue <- ch:
		return true
	default:
		return false
	}
}

func (l *listener) shut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shutd {
		return false
	}
	l.shutd = true
	close(l.closed)
	return true
}

// Accept waits for the next connection from the host.
func (l *listener) Accept() (net.Conn, error) {
	for {
		select {
		case <-l.closed:
			if err := l.conn.Err(); err != nil {
				return nil, fault.Wrap(fault.Lost, "tunnel", err)
			}
			return nil, net.ErrClosed
		default:
		}
		select {
		case <-l.closed:
		case in := <-l.queue:
			ch, reqs, err := in.Accept()
			if err != nil {
				continue // the connection ended, which closes the listener
			}
			go ssh.DiscardRequests(reqs)
			return &forwarded{Channel: ch, conn: l.conn, path: l.path}, nil
		}
	}
}

// Addr is the socket on the host.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and tells the server, for at most ChannelTimeout and not on a dead connection.
func (l *listener) Close() error {
	select {
	case <-l.closed:
		return nil
	default:
	}
	l.conn.removeListener(l)
	select {
	case <-l.conn.done:
		return nil
	default:
	}
	return l.conn.race(context.Background(), "close tunnel", func(*atomic.Bool) error {
		ok, _, err := l.conn.ssh.SendRequest("cancel-streamlocal-forward@openssh.com", true, forwardRequest(l.path))
		if err == nil && !ok {
			err = fault.New(fault.Environment, "close tunnel", "the server refused to stop listening on %s", l.path)
		}
		return err
	})
}

// forwarded is one connection to a forwarded socket.
type forwarded struct {
	ssh.Channel
	conn *Conn
	path string
}

var _ interface {
	net.Conn
	CloseWrite() error
} = (*forwarded)(nil)

// Read tells a dead SSH connection, for which x/crypto says EOF, from the end of the stream.
func (f *forwarded) Read(p []byte) (int, error) {
	n, err := f.Channel.Read(p)
	return n, f.conn.endOfStream("tunnel", err)
}

// Close closes both directions, as Channel.Close does.
func (f *forwarded) Close() error { return f.conn.closeChannel("tunnel", f.Channel) }

func (f *forwarded) LocalAddr() net.Addr  { return &net.UnixAddr{Name: f.path, Net: "unix"} }
func (f *forwarded) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "@" + f.conn.host, Net: "unix"} }

func (*forwarded) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (*forwarded) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (*forwarded) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
