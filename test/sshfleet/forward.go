package sshfleet

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// forwards are the unix sockets a connection listens on, and the connections accepted there. They end with the SSH
// connection.
type forwards struct {
	mu        sync.Mutex
	closed    bool
	listeners map[string]*net.UnixListener
	conns     map[*net.UnixConn]struct{}
}

// openForward serves streamlocal-forward@openssh.com (OpenSSH PROTOCOL, section 2.4).
func (c *connection) openForward(payload []byte) bool {
	var m struct{ Path string }
	if ssh.Unmarshal(payload, &m) != nil || c.host.get().refuseForward {
		return false
	}
	l, err := listenUnix(m.Path)
	if err != nil {
		c.log.Debug("forward refused", "path", m.Path, "err", err)
		return false
	}
	if !c.forwards.add(m.Path, l) {
		closeQuietly(l, c.log)
		return false
	}
	c.host.forwards.Add(1)
	c.wg.Go(func() { c.acceptForwarded(m.Path, l) })
	return true
}

// listenUnix makes the socket with mode 0600, as sshd does with StreamLocalBindMask's default, and fails when the path
// exists, as sshd does with StreamLocalBindUnlink's. The file stays when the listener is closed: sshd never removes it.
func listenUnix(path string) (*net.UnixListener, error) {
	if !filepath.IsAbs(path) { // neither abstract sockets nor our own working directory
		return nil, errors.New("not an absolute path")
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		// Linux gives the file the mode of the socket (unix_bind_bsd in net/unix/af_unix.c), so that there is no moment
		// in which others may connect. A umask would do, too, but for all goroutines.
		cerr := raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) })
		if errors.Is(err, syscall.EINVAL) { // BSD, macOS: only the chmod below
			err = nil
		}
		return errors.Join(cerr, err)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	unix, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("not a unix socket"), l.Close())
	}
	unix.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, unix.Close())
	}
	return unix, nil
}

// cancelForward serves cancel-streamlocal-forward@openssh.com.
func (c *connection) cancelForward(payload []byte) bool {
	var m struct{ Path string }
	if ssh.Unmarshal(payload, &m) != nil {
		return false
	}
	l := c.forwards.take(m.Path)
	if l == nil {
		return false
	}
	closeQuietly(l, c.log)
	return true
}

func (c *connection) acceptForwarded(path string, l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil { // canceled, or the connection ended
			if !errors.Is(err, net.ErrClosed) {
				c.log.Warn("accept on forward", "path", path, "err", err)
			}
			return
		}
		if !c.forwards.track(conn) {
			closeQuietly(conn, c.log)
			return
		}
		c.wg.Go(func() {
			defer c.forwards.forget(conn, c.log)
			c.forwarded(path, conn)
		})
	}
}

// forwarded carries one connection to the client. Each direction ends on its own (half-close).
func (c *connection) forwarded(path string, conn *net.UnixConn) {
	ch, requests, err := c.ssh.OpenChannel("forwarded-streamlocal@openssh.com", ssh.Marshal(struct {
		Path, Reserved string
	}{path, ""}))
	if err != nil {
		c.log.Debug("open forwarded channel", "path", path, "err", err)
		return
	}
	defer closeQuietly(ch, c.log)
	c.wg.Go(func() {
		ssh.DiscardRequests(requests)
		// The client closed the whole channel: what it sent before still goes to the local peer, but nothing can
		// be sent back.
		if err := conn.CloseRead(); err != nil {
			c.log.Debug("close forwarded connection", "err", err)
		}
	})
	toPeer := make(chan struct{})
	c.wg.Go(func() {
		defer close(toPeer)
		if _, err := io.Copy(conn, ch); err != nil {
			c.log.Debug("forwarded to peer", "err", err)
			// sshd, too, takes the rest from the client and forgets it, so that the channel's window never closes.
			if _, err := io.Copy(io.Discard, ch); err != nil {
				c.log.Debug("forwarded to nobody", "err", err)
			}
			return
		}
		if err := conn.CloseWrite(); err != nil {
			c.log.Debug("half-close forwarded connection", "err", err)
		}
	})
	if _, err := io.Copy(ch, conn); err != nil {
		c.log.Debug("forwarded to client", "err", err)
	}
	if err := ch.CloseWrite(); err != nil {
		c.log.Debug("half-close forwarded channel", "err", err)
	}
	<-toPeer
}

func (f *forwards) add(path string, l *net.UnixListener) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	if f.listeners == nil {
		f.listeners, f.conns = map[string]*net.UnixListener{}, map[*net.UnixConn]struct{}{}
	}
	// A path removed by hand can be listened on again; the older listener can't be reached any more.
	old := f.listeners[path]
	f.listeners[path] = l
	return old == nil || old.Close() == nil
}

func (f *forwards) take(path string) *net.UnixListener {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.listeners[path]
	delete(f.listeners, path)
	return l
}

func (f *forwards) track(conn *net.UnixConn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.conns[conn] = struct{}{}
	return true
}

func (f *forwards) forget(conn *net.UnixConn, log *slog.Logger) {
	closeQuietly(conn, log)
	f.mu.Lock()
	delete(f.conns, conn)
	f.mu.Unlock()
}

func (f *forwards) closeAll(log *slog.Logger) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, l := range f.listeners {
		closeQuietly(l, log)
	}
	for conn := range f.conns {
		closeQuietly(conn, log)
	}
}
