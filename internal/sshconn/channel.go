package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// ExitError says that a remote command ran and ended otherwise than with status 0. It is a result, so it is no fault.
type ExitError struct {
	Code   int    // exit status; -1 when a signal ended the command
	Signal string // signal name without "SIG" (RFC 4254, section 6.10), empty when it exited
	Stderr string // the last bytes of its standard error, unless the caller took that itself
}

// Error reads as "exit status 3: what it said last".
func (e *ExitError) Error() string {
	s := fmt.Sprintf("exit status %d", e.Code)
	if e.Signal != "" {
		s = "killed by SIG" + e.Signal
	}
	if e.Stderr != "" {
		s += ": " + e.Stderr
	}
	return s
}

// errNoStatus: RFC 4254 leaves the exit status optional, but every server sends one unless it is on its way out.
var errNoStatus = errors.New("the command ended without an exit status")

// Channel is the standard input and output of one remote command or subsystem. Read and Write may run at the same time, each in one
// goroutine. The caller closes it.
type Channel struct {
	conn *Conn
	op   string
	ch   ssh.Channel

	stderr tail
	exited chan struct{} // closed when the server closed the channel; exit is set before
	exit   error         // nil, *ExitError or errNoStatus
	ended  chan struct{} // closed when standard error is complete
}

var _ interface {
	io.ReadWriteCloser
	CloseWrite() error
} = (*Channel)(nil)

// Open starts a command and gives its standard input and output as one stream. The command is passed to the user's login shell.
func (c *Conn) Open(ctx context.Context, command string) (*Channel, error) {
	return c.open(ctx, start{op: "run", request: "exec", payload: command})
}

// Subsystem starts a subsystem such as "sftp" (RFC 4254, section 6.5).
func (c *Conn) Subsystem(ctx context.Context, name string) (*Channel, error) {
	return c.open(ctx, start{op: "start " + name, request: "subsystem", payload: name})
}

type start struct {
	op      string
	request string // "exec" or "subsystem"
	payload string
	stderr  io.Writer // nil: the channel's tail
	door    Door      // nil: the command runs at once
}

// OpenSSH counts an ended session against MaxSessions until its main loop has collected the channel, after its answer to
// our close is on the way (channels.c: channel_garbage_collect). So an open right after a close can be refused though a session is
// free, and is tried again openTries times, the pauses doubling from openPause: 310 ms in all.
const (
	openTries = 6
	openPause = 10 * time.Millisecond
)

// open is openOnce with patience for a server that has no session to spare at the moment.
func (c *Conn) open(ctx context.Context, s start) (*Channel, error) {
	for try, pause := 1, openPause; ; try, pause = try+1, 2*pause {
		ch, err := c.openOnce(ctx, s)
		if fault.KindOf(err) != fault.Busy || try == openTries {
			return ch, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, asFault(s.op, c.host, ctx.Err())
		case <-c.done:
			timer.Stop()
			return nil, c.gone(s.op)
		}
	}
}

func (c *Conn) openOnce(ctx context.Context, s start) (*Channel, error) {
	var opened *Channel
	err := c.race(ctx, s.op, func(abandoned *atomic.Bool) error {
		ch, reqs, err := c.ssh.OpenChannel("session", nil)
		if err != nil {
			return err
		}
		channel := &Channel{conn: c, op: s.op, ch: ch, exited: make(chan struct{}), ended: make(chan struct{})}
		go channel.serve(reqs)
		ok, err := ch.SendRequest(s.request, true, ssh.Marshal(struct{ Payload string }{s.payload}))
		if err == nil && !ok {
			err = fault.New(fault.Environment, s.op, "the server refused the %s request", s.request).
				WithRemedy("see ForceCommand, PermitTTY and Subsystem in the host's sshd_config")
		}
		if late := !abandoned.CompareAndSwap(false, true); late || err != nil {
			_ = ch.Close() // what it says is nothing to the error at hand
			return err
		}
		stderr := s.stderr
		if stderr == nil {
			stderr = &channel.stderr
		}
		if s.door != nil {
			stderr = s.door.Watch(stderr)
		}
		go channel.copyStderr(stderr)
		opened = channel
		return nil
	})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// serve takes the server's requests, without which the whole connection would stall, until the channel is closed.
func (c *Channel) serve(reqs <-chan *ssh.Request) {
	c.exit = errNoStatus
	for req := range reqs {
		switch req.Type {
		case "exit-status":
			var status struct{ Code uint32 }
			if ssh.Unmarshal(req.Payload, &status) != nil {
				continue
			}
			c.exit = nil
			if status.Code != 0 {
				c.exit = &ExitError{Code: int(status.Code)}
			}
		case "exit-signal":
			var signal struct {
				Name       string
				CoreDumped bool
				Message    string
				Language   string
			}
			if ssh.Unmarshal(req.Payload, &signal) != nil {
				continue
			}
			c.exit = &ExitError{Code: -1, Signal: signal.Name}
		default:
			if req.WantReply {
				_ = req.Reply(false, nil) // fails only with the connection
			}
		}
	}
	close(c.exited)
}

// copyStderr must go on reading whatever happens to the writer, or the peer's window fills up.
func (c *Channel) copyStderr(w io.Writer) {
	defer close(c.ended)
	buf := make([]byte, 1<<10) // standard error is small, and there is one buffer per channel
	for {
		n, err := c.ch.Stderr().Read(buf)
		if n > 0 && w != nil {
			if _, werr := w.Write(buf[:n]); werr != nil {
				w = nil
			}
		}
		if err != nil {
			return
		}
	}
}

// Read reads standard output; io.EOF is the end of it. When the connection died it returns a fault of kind Lost.
func (c *Channel) Read(p []byte) (int, error) {
	n, err := c.ch.Read(p)
	if errors.Is(err, io.EOF) && c.hasExited() {
		return n, err
	}
	return n, c.conn.endOfStream(c.op, err)
}

func (c *Channel) hasExited() bool {
	select {
	case <-c.exited:
		return !errors.Is(c.exit, errNoStatus)
	default:
		return false
	}
}

// Write writes to standard input. It blocks while the peer takes nothing, and ends when the connection does.
func (c *Channel) Write(p []byte) (int, error) {
	n, err := c.ch.Write(p)
	return n, c.conn.endOfStream(c.op, err)
}

// CloseWrite ends standard input.
func (c *Channel) CloseWrite() error {
	return c.conn.endOfStream(c.op, c.ch.CloseWrite())
}

// Close closes the channel in both directions; a command that still runs gets a broken pipe, no signal. It does not wait for
// the command, but on a slow link for the message to be sent, at most ChannelTimeout.
func (c *Channel) Close() error { return c.conn.closeChannel(c.op, c.ch) }

func (c *Conn) closeChannel(op string, ch ssh.Channel) error {
	select {
	case <-c.done:
		return nil
	default:
	}
	err := c.race(context.Background(), op, func(*atomic.Bool) error {
		if err := ch.Close(); err != nil && !errors.Is(err, io.EOF) { // EOF: closed before
			return err
		}
		return nil
	})
	if fault.KindOf(err) == fault.Lost {
		return nil // nothing is left to close
	}
	return err
}

// StderrTail returns the last bytes (at most 4 KiB) that came on standard error.
func (c *Channel) StderrTail() string { return c.stderr.String() }

// Wait waits until the server has closed the channel. It returns nil for exit status 0, *ExitError for another end, and a fault of
// kind Lost when the connection died or no status came. The caller must read the output to its end, or the command may never finish.
func (c *Channel) Wait() error {
	<-c.exited
	<-c.ended
	return c.result()
}

// result may be called after exited and ended are closed.
func (c *Channel) result() error {
	var exit *ExitError
	switch {
	case c.exit == nil:
		return nil
	case errors.As(c.exit, &exit):
		e := *exit
		e.Stderr = c.stderr.String()
		return &e
	}
	if err := c.conn.endOfStream(c.op, io.EOF); !errors.Is(err, io.EOF) {
		return err
	}
	return fault.Wrap(fault.Lost, c.op, c.exit).WithHost(c.conn.host)
}

// endOfStream makes a fault of an error on a channel when the connection is what ended. x/crypto says EOF for both.
func (c *Conn) endOfStream(op string, err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-c.done:
		return c.gone(op)
	default:
	}
	if dead := c.link.dead.Load(); dead != nil {
		return lost(c.host, *dead)
	}
	return err
}

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if n > tailSize {
		p = p[n-tailSize:]
	}
	if over := len(t.buf) + len(p) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	t.buf = append(t.buf, p...)
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
