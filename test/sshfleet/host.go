package sshfleet

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Host is one SSH server with its sandbox. All methods may be called from any goroutine.
type Host struct {
	name, dir, shell string
	user, password   string
	login            Login
	clientKey        []byte // wire form of the accepted public key
	signer           ssh.Signer
	addr             string
	port             int
	listener         net.Listener
	log              *slog.Logger

	*faults  // the switches
	commands *commands

	accepted, execs, forwards atomic.Int64

	mu     sync.Mutex
	conns  map[*faultyConn]struct{}
	closed bool
	close  sync.Once
	err    error // of the one Close
	done   chan struct{}
	wg     sync.WaitGroup // accept loop, connections
}

func newHost(i int, name string, opts Options, clientKey ssh.PublicKey) (*Host, error) {
	h := &Host{
		name: name, dir: filepath.Join(opts.Dir, name), shell: opts.Shell, user: opts.User, password: opts.Password,
		login: opts.Login, clientKey: clientKey.Marshal(), log: opts.Logger.With("host", name), faults: newFaults(),
		conns: map[*faultyConn]struct{}{}, done: make(chan struct{}),
	}
	for _, dir := range []string{h.dir, h.Home(), h.Prefix(), h.tmp()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	h.commands = newCommands(h.dir)
	var err error
	if h.signer, _, err = newKey(); err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	if h.listener, err = opts.Listen(i); err != nil {
		return nil, err
	}
	h.addr, h.port = net.JoinHostPort(name, "22"), 22 // in memory: reached by name, through the caller's own dialer
	if tcp, ok := h.listener.Addr().(*net.TCPAddr); ok {
		h.addr, h.port = tcp.String(), tcp.Port
	}
	h.wg.Add(1)
	go h.accept()
	return h, nil
}

// Name is the host's name in the fleet.
func (h *Host) Name() string { return h.name }

// Addr is host:port of the listener; NAME:22 where the listener isn't TCP.
func (h *Host) Addr() string { return h.addr }

// Port is the port in Addr.
func (h *Host) Port() int { return h.port }

// User is who may log in.
func (h *Host) User() string { return h.user }

// HostKey is the server's public key.
func (h *Host) HostKey() ssh.PublicKey { return h.signer.PublicKey() }

// KnownHostsLine is the line that makes known_hosts trust this host, without a newline.
func (h *Host) KnownHostsLine() string {
	return knownhosts.Line([]string{knownhosts.Normalize(h.addr)}, h.HostKey())
}

// Sandbox is the host's own directory (0700); everything below is in it.
func (h *Host) Sandbox() string { return h.dir }

// Home is the directory commands and SFTP start in, and what they see as HOME.
func (h *Host) Home() string { return filepath.Join(h.dir, "home") }

// Prefix is an empty directory (0700) that is meant as --prefix for this host.
func (h *Host) Prefix() string { return filepath.Join(h.dir, "prefix") }

func (h *Host) tmp() string { return filepath.Join(h.dir, "tmp") }

// Counters is what a host counted since its start; the numbers only grow.
type Counters struct {
	Connections int64 // accepted from the listener, refused ones included
	Execs       int64 // commands started
	Forwards    int64 // unix socket forwards granted
	BytesIn     int64 // bytes read from clients, as on the wire
}

// Counters returns the numbers of this moment.
func (h *Host) Counters() Counters {
	return Counters{Connections: h.accepted.Load(), Execs: h.execs.Load(), Forwards: h.forwards.Load(), BytesIn: h.bytesIn.Load()}
}

// OpenConnections is how many connections are open now.
func (h *Host) OpenConnections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

// DropConnections closes every open connection at once, without a word to the client, and returns how many
// there were. Commands live on as under sshd; new connections are welcome.
func (h *Host) DropConnections() int {
	h.mu.Lock()
	conns := make([]*faultyConn, 0, len(h.conns))
	for c := range h.conns {
		conns = append(conns, c)
	}
	h.mu.Unlock()
	for _, c := range conns {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			h.log.Debug("drop connection", "err", err)
		}
	}
	return len(conns)
}

// Close stops listening, closes all connections, kills every process in the sessions of the commands it started, and waits
// until its goroutines ended. Processes that made a session of their own (setsid) survive, as they survive
// sshd. It may be called more than once.
func (h *Host) Close() error {
	h.close.Do(func() {
		h.mu.Lock()
		h.closed = true
		h.mu.Unlock()
		close(h.done)
		h.err = h.listener.Close()
		h.DropConnections()
		h.wg.Wait()
		h.err = errors.Join(h.err, h.commands.close())
	})
	return h.err
}

// acceptPause keeps a listener that fails again and again (no more file descriptors) from eating a CPU.
const acceptPause = 20 * time.Millisecond

func (h *Host) accept() {
	defer h.wg.Done()
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			if h.isClosed() || errors.Is(err, net.ErrClosed) {
				return
			}
			h.log.Warn("accept", "err", err)
			select {
			case <-h.done:
				return
			case <-time.After(acceptPause):
				continue
			}
		}
		h.accepted.Add(1)
		if h.get().refuseConnections {
			closeQuietly(conn, h.log)
			continue
		}
		c := newFaultyConn(conn, h.faults, func() { h.DropConnections() })
		if !h.track(c) {
			closeQuietly(c, h.log)
			return
		}
		go func() {
			defer h.wg.Done()
			defer h.forget(c)
			h.serve(c)
		}()
	}
}

func (h *Host) isClosed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// track enters c into the list that Close works off; false when Close is already at it.
func (h *Host) track(c *faultyConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.conns[c] = struct{}{}
	h.wg.Add(1)
	return true
}

func (h *Host) forget(c *faultyConn) {
	closeQuietly(c, h.log)
	h.mu.Lock()
	delete(h.conns, c)
	h.mu.Unlock()
}

// closeQuietly closes what may be closed already, by the peer or by a switch.
func closeQuietly(c interface{ Close() error }, log *slog.Logger) {
	if err := c.Close(); err != nil {
		log.Debug("close", "err", err)
	}
}
