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

// Conn is one authenticated SSH connection, safe for concurrent use. Whoever dialed it closes it; channels and
// listeners die with it. An idle connection holds four goroutines: three of x/crypto and one of ours.
type Conn struct {
	host string
	opts *Options
	link *link
	ssh  ssh.Conn

	done chan struct{} // closed by end, once

	mu        sync.Mutex
	ended     bool
	err       error // why it ended; nil after our own Close
	listeners map[string]*listener
}

type connParts struct {
	host  string
	opts  *Options
	link  *link
	ssh   ssh.Conn
	chans <-chan ssh.NewChannel
	reqs  <-chan *ssh.Request
}

func newConn(p connParts) *Conn {
	c := &Conn{host: p.host, opts: p.opts, link: p.link, ssh: p.ssh, done: make(chan struct{}), listeners: make(map[string]*listener)}
	go c.serve(p.chans, p.reqs)
	return c
}

// Done is closed when the connection has ended, for whatever reason.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err tells why the connection ended: a fault of kind Lost, nil after our own Close, and nil while it lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection at once, without waiting for the peer. Its goroutines end shortly afterwards. The error is
// the transport's; a second Close, or one after the connection was lost, returns nil.
func (c *Conn) Close() error { return c.end(nil) }

// ServerVersion returns the peer's identification, such as "SSH-2.0-OpenSSH_9.2p1 Debian-2".
func (c *Conn) ServerVersion() string { return string(c.ssh.ServerVersion()) }

// end makes err the reason, if it is the first, and closes the transport, which unblocks everything in x/crypto.
func (c *Conn) end(err error) error {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return nil
	}
	c.ended, c.err = true, err
	listeners := c.listeners
	c.listeners = nil
	c.mu.Unlock()
	close(c.done)
	for _, l := range listeners {
		l.shut()
	}
	// The transport alone: ssh.Conn.Close would wait for goroutines that may be busy.
	return c.link.Close()
}

// gone is the error of whoever needed the connection after its end.
func (c *Conn) gone(op string) error {
	if err := c.Err(); err != nil {
		return fault.Wrap(fault.Lost, op, err)
	}
	return fault.New(fault.Lost, op, "the connection was closed").WithHost(c.host)
}

// serve is the connection's one goroutine: it answers what the peer asks for, sends keepalives, and notices the end.
// It never blocks on a send, so that a dead link can't keep it from looking at the clock: sends run in a goroutine of
// their own, answers one at a time, and while one is under way nothing more is taken from the peer.
func (c *Conn) serve(chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	ka := newKeepalive(c)
	defer ka.stop()
	idle := make(chan struct{}, 1) // an answer was sent
	takeChans, takeReqs := chans, reqs
	answer := func(send func() error) {
		takeChans, takeReqs = nil, nil
		go func() {
			// A failure is the end of the connection, which the reading side reports.
			_ = send()
			idle <- struct{}{}
		}()
	}
	for {
		select {
		case ch, ok := <-takeChans:
			if !ok {
				c.transportEnded(reqs)
				return
			}
			if send := c.route(ch); send != nil {
				answer(send)
			}
		case req, ok := <-takeReqs:
			if !ok {
				takeReqs = nil // chans is closed too: x/crypto closes both
				reqs = nil
				continue
			}
			if req.WantReply {
				// As OpenSSH does with requests it doesn't know, keepalives among them.
				answer(func() error { return req.Reply(false, nil) })
			}
		case <-idle:
			takeChans, takeReqs = chans, reqs
		case <-ka.tick():
			if err := ka.onTick(); err != nil {
				_ = c.end(err)
			}
		case <-ka.answered: //nolint:errcheck // any answer will do, see keepalive
			ka.onAnswer()
		}
	}
}

// transportEnded is called when x/crypto stopped reading.
func (c *Conn) transportEnded(reqs <-chan *ssh.Request) {
	err := c.ssh.Wait()
	if err == nil {
		err = io.EOF
	}
	_ = c.end(lost(c.host, err))
	if reqs != nil {
		drain(nil, reqs)
	}
}

// route hands an incoming channel to its listener. It returns what must be sent instead when there is none.
func (c *Conn) route(ch ssh.NewChannel) (send func() error) {
	if ch.ChannelType() != "forwarded-streamlocal@openssh.com" {
		return func() error { return ch.Reject(ssh.UnknownChannelType, "unknown channel type") }
	}
	var forward struct{ Path, Reserved string } // OpenSSH PROTOCOL, section 2.4
	if err := ssh.Unmarshal(ch.ExtraData(), &forward); err != nil {
		return func() error { return ch.Reject(ssh.ConnectionFailed, "malformed request") }
	}
	c.mu.Lock()
	l := c.listeners[forward.Path]
	c.mu.Unlock()
	if l == nil {
		return func() error { return ch.Reject(ssh.Prohibited, "no such forward") }
	}
	if !l.offer(ch) {
		return func() error { return ch.Reject(ssh.ResourceShortage, "too many connections waiting") }
	}
	return nil
}

// race runs fn, which may block on a dead link, and returns early when ctx ends, the connection dies or ChannelTimeout is over.
// An abandoned fn goes on until the connection ends; abandoned is true for it then, and it cleans up what it got.
func (c *Conn) race(ctx context.Context, op string, fn func(abandoned *atomic.Bool) error) error {
	return c.raceWithin(ctx, c.opts.ChannelTimeout, op, fn)
}

// raceWithin is race with another limit than ChannelTimeout; 0 means that ctx alone bounds it.
func (c *Conn) raceWithin(ctx context.Context, limit time.Duration, op string, fn func(abandoned *atomic.Bool) error) error {
	if err := ctx.Err(); err != nil {
		return asFault(op, c.host, err)
	}
	select {
	case <-c.done:
		return c.gone(op)
	default:
	}
	var abandoned atomic.Bool
	result := make(chan error, 1)
	go func() { result <- fn(&abandoned) }()
	var over <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	var err error
	select {
	case err = <-result:
		if err == nil {
			return nil
		}
		return c.classifyChannel(op, err)
	case <-ctx.Done():
		err = asFault(op, c.host, ctx.Err())
	case <-c.done:
		err = c.gone(op)
	case <-over:
		err = fault.New(fault.Lost, op, "no answer on the open connection within %v", limit).WithHost(c.host)
	}
	// fn decides by the same atomic whether its result was taken.
	if abandoned.CompareAndSwap(false, true) {
		return err
	}
	if err := <-result; err != nil { // fn finished first after all; its answer is about to come
		return c.classifyChannel(op, err)
	}
	return nil
}

// keepalive counts intervals without an answer. All of it belongs to the serving goroutine, but for the one
// that sends and then writes to answered.
type keepalive struct {
	conn     *Conn
	ticker   *time.Ticker // nil: no keepalives
	answered chan error
	pending  bool
	missed   int
}

func newKeepalive(c *Conn) *keepalive {
	ka := &keepalive{conn: c, answered: make(chan error, 1)}
	if c.opts.KeepaliveInterval > 0 {
		ka.ticker = time.NewTicker(c.opts.KeepaliveInterval)
	}
	return ka
}

func (ka *keepalive) tick() <-chan time.Time {
	if ka.ticker == nil {
		return nil
	}
	return ka.ticker.C
}

func (ka *keepalive) stop() {
	if ka.ticker != nil {
		ka.ticker.Stop()
	}
}

// onTick sends the next keepalive unless one is under way; x/crypto allows one global request at a time, and a request that
// blocks the queue is as good a sign of a dead peer. It returns the reason when the connection must be given up.
func (ka *keepalive) onTick() error {
	if ka.pending {
		ka.missed++
		if ka.missed < ka.conn.opts.KeepaliveCount {
			return nil
		}
		ka.stop()
		return lost(ka.conn.host, fmt.Errorf("%w: none in %d intervals of %v", errKeepalive, ka.missed, ka.conn.opts.KeepaliveInterval))
	}
	ka.pending = true
	go func() {
		// Any answer will do: servers refuse a request they don't know, and so prove that they live (OpenSSH's
		// client_global_request_reply reads it in this way).
		_, _, err := ka.conn.ssh.SendRequest("keepalive@openssh.com", true, nil)
		ka.answered <- err
	}()
	return nil
}

func (ka *keepalive) onAnswer() { ka.pending, ka.missed = false, 0 }

var errKeepalive = errors.New("keepalives were not answered")
