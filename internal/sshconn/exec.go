package sshconn

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// Exec is one command and where its streams go.
type Exec struct {
	Command string    // passed to the user's login shell, so the caller quotes
	Stdin   io.Reader // nil: empty. May be read once more after Exec returned, as a blocked Read can't be interrupted
	Stdout  io.Writer // nil: discarded. Never written to after Exec returned
	Stderr  io.Writer // nil: its end goes into ExitError.Stderr. Never written to after Exec returned
	Door    Door      // nil: the command runs at once. Its failure is returned as it is
}

// Exec runs a command and waits until it has ended and its output is complete. It returns nil for exit status 0 and a bare
// *ExitError for any other end. When ctx ends first the channel is closed and Exec returns at once; the command on the host is not
// killed by that, it sees its pipes close. An error of Stdout or Stderr is returned as it is, one of Stdin only when nothing else failed.
func (c *Conn) Exec(ctx context.Context, e Exec) error {
	stdout, stderr := &gate{w: e.Stdout}, &gate{w: e.Stderr}
	defer stdout.shut()
	defer stderr.shut()
	s := start{op: "run", request: "exec", payload: e.Command, door: e.Door}
	if e.Stderr != nil {
		s.stderr = stderr
	}
	ch, err := c.open(ctx, s)
	if err != nil {
		return err
	}
	if e.Door != nil {
		if err := ch.pass(ctx, e.Door); err != nil {
			return err
		}
	}
	stdin := make(chan error, 1)
	if e.Stdin == nil {
		if err := ch.CloseWrite(); err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(err, ch.Close())
		}
		stdin <- nil
	} else {
		go func() { stdin <- ch.feed(e.Stdin) }()
	}
	copied := make(chan error, 1)
	go func() {
		err := ch.drainTo(stdout)
		<-ch.exited
		<-ch.ended
		copied <- err
	}()
	select {
	case err = <-copied:
	case <-ctx.Done():
		// Close sends, and a send blocks on a dead link; the goroutine ends with the connection at the latest.
		go func() { _ = ch.ch.Close() }()
		return asFault("run", c.host, ctx.Err())
	case <-c.done:
		// What has arrived is complete once x/crypto has closed the channel, which it does now.
		err = <-copied
	}
	// The channel is closed by the server; the answer to that was sent by x/crypto.
	if err := stdout.failed(); err != nil {
		return err
	}
	if err := stderr.failed(); err != nil {
		return err
	}
	if result := ch.result(); result != nil {
		return result
	}
	if err != nil {
		return err
	}
	select {
	case err := <-stdin:
		return err
	default:
		return nil // the command ended without reading all of it
	}
}

// feed copies standard input and ends it. A command that stops reading is no error: its exit status tells.
func (c *Channel) feed(r io.Reader) error {
	_, err := io.Copy(c.ch, r)
	if cerr := c.ch.CloseWrite(); err == nil {
		err = cerr
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil
	}
	return fault.Wrap(fault.Bug, "read standard input", err).WithHost(c.conn.host)
}

// buffers are as large as the largest packet of x/crypto (32 KiB).
var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// drainTo copies standard output to its end, since an unread channel never ends. When w fails it closes the channel, so that the end comes soon.
func (c *Channel) drainTo(w io.Writer) error {
	buf, ok := buffers.Get().(*[]byte)
	if !ok {
		return fault.New(fault.Bug, c.op, "the pool holds something else than buffers")
	}
	defer buffers.Put(buf)
	for {
		n, err := c.Read(*buf)
		if n > 0 {
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				w = io.Discard
				_ = c.ch.Close() // fails only with the connection, which the next Read reports
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// gate is a writer that can be shut, after which the writer behind it is never touched again.
type gate struct {
	mu     sync.Mutex
	w      io.Writer // nil: discards
	err    error     // first error of w
	closed bool
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.w == nil {
		return len(p), nil
	}
	if g.err == nil {
		_, g.err = g.w.Write(p)
	}
	return len(p), g.err
}

func (g *gate) failed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}
