package sshconn

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// frozen is a link that can die as links do: nothing arrives any more, and a send blocks for ever.
type frozen struct {
	net.Conn
	swallow bool // sends vanish instead of blocking
	once    sync.Once
	closed  chan struct{}
	dead    chan struct{}
}

func freezable(dial func(context.Context, string, string) (net.Conn, error)) (*frozen, func(context.Context, string, string) (net.Conn, error)) {
	f := &frozen{closed: make(chan struct{}), dead: make(chan struct{})}
	return f, func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		f.Conn, err = dial(ctx, network, addr)
		return f, err
	}
}

func (f *frozen) freeze() { close(f.dead) }

func (f *frozen) Write(p []byte) (int, error) {
	select {
	case <-f.dead:
		if f.swallow {
			return len(p), nil
		}
		<-f.closed
		return 0, net.ErrClosed
	default:
		return f.Conn.Write(p)
	}
}

func (f *frozen) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	select {
	case <-f.dead:
		<-f.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (f *frozen) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.Conn.Close()
}

// TestHangInHandshake has the server fall silent in each stage: the dial ends when ConnectTimeout is over, or at once
// when the caller cancels.
func TestHangInHandshake(t *testing.T) {
	for _, tc := range []struct {
		name  string
		words string
		host  inventory.Host
		serve func(s *server, nc net.Conn, release <-chan struct{})
	}{
		{"version", "no SSH server answered", testHost, func(_ *server, nc net.Conn, release <-chan struct{}) { <-release }},
		{"key exchange", "key exchange did not finish", testHost, func(_ *server, nc net.Conn, release <-chan struct{}) {
			_, _ = io.WriteString(nc, "SSH-2.0-silent\r\n")
			<-release
		}},
		{"authentication", "authentication did not finish", testHost, func(s *server, nc net.Conn, release <-chan struct{}) {
			s.config.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
				<-release
				return nil, errors.New("too late")
			}
			s.serve(nc)
		}},
	} {
		for _, how := range []string{"timeout", "cancel"} {
			t.Run(tc.name+"/"+how, func(t *testing.T) {
				o := insecure(t)
				synctest.Test(t, func(t *testing.T) {
					s := newServer(t)
					o := o
					o.Auth = newAuth(t, AuthOptions{})
					o.ConnectTimeout = 7 * time.Second
					release := make(chan struct{})
					o.NetDial = func(context.Context, string, string) (net.Conn, error) {
						ours, theirs := bufPipe(t)
						s.wg.Go(func() {
							defer theirs.Close()
							tc.serve(s, theirs, release)
						})
						return ours, nil
					}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					began := time.Now()
					if how == "cancel" {
						time.AfterFunc(3*time.Second, cancel)
					}
					_, err := dialer(t, o).Dial(ctx, tc.host)
					if how == "cancel" {
						wantFault(t, err, fault.Canceled)
						if took := time.Since(began); took != 3*time.Second {
							t.Errorf("took %v", took)
						}
					} else {
						wantFault(t, err, fault.Unreachable, tc.words, "7s")
						if took := time.Since(began); took != 7*time.Second {
							t.Errorf("took %v", took)
						}
					}
					close(release)
				})
			})
		}
	}
}

// TestHangInDial is the same for the transport.
func TestHangInDial(t *testing.T) {
	o := insecure(t)
	synctest.Test(t, func(t *testing.T) {
		o := o
		o.Auth = newAuth(t, AuthOptions{})
		o.NetDial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		began := time.Now()
		_, err := dialer(t, o).Dial(t.Context(), testHost)
		wantFault(t, err, fault.Unreachable)
		if took := time.Since(began); took != DefaultConnectTimeout {
			t.Errorf("took %v", took)
		}
	})
}

// TestHangOnChannel has the server not answer on a connection that is alive, keepalives included.
func TestHangOnChannel(t *testing.T) {
	for _, stage := range []string{"open", "exec"} {
		t.Run(stage, func(t *testing.T) {
			o := insecure(t)
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				late := make(chan ssh.NewChannel, 2)
				var answers atomic.Bool
				switch stage {
				case "open":
					s.onChannel = func(ch ssh.NewChannel) bool {
						if answers.Load() {
							return false
						}
						late <- ch
						return true
					}
				case "exec":
					s.onExec = func(*ssh.Request) bool { return !answers.Load() }
				}
				o := o
				o.Auth = newAuth(t, AuthOptions{})
				o.ChannelTimeout = 4 * time.Second
				o.NetDial = memory(t, s)
				c := connect(t, o, testHost)
				began := time.Now()
				_, err := c.Open(t.Context(), "cat")
				wantFault(t, err, fault.Lost, "no answer", "4s")
				if took := time.Since(began); took != 4*time.Second {
					t.Errorf("took %v", took)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err = c.Exec(ctx, Exec{Command: "cat"})
				wantFault(t, err, fault.Lost)
				if took := time.Since(began); took != 5*time.Second {
					t.Errorf("took %v", took)
				}
				time.Sleep(time.Minute) // the keepalives are answered
				if err := c.Err(); err != nil {
					t.Errorf("the connection is fine: %v", err)
				}
				answers.Store(true)
				if stage == "open" {
					// A channel that opens when nobody waits any more is closed.
					for range len(late) {
						ch := <-late
						session, reqs, err := ch.Accept()
						must(t, err)
						go func() {
							for r := range reqs {
								_ = r.Reply(true, nil)
							}
						}()
						if _, err := session.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
							t.Errorf("the late channel: %v", err)
						}
						_ = session.Close()
					}
					must(t, c.Exec(t.Context(), Exec{Command: "echo"}))
				}
				must(t, c.Close())
				must(t, s.live.Close())
			})
		})
	}
}

// TestDeadLink freezes the link while every kind of call is under way, and more begin afterwards. Only the keepalive can notice. Blocked sends
// hold mutexes, for which a synctest bubble would wait, so the clock is real.
func TestDeadLink(t *testing.T) {
	s := newServer(t)
	o := insecure(t)
	o.KeepaliveInterval, o.KeepaliveCount, o.ChannelTimeout = time.Second, 4, time.Hour // a busy machine may be that late
	var link *frozen
	link, o.NetDial = freezable(memory(t, s))
	c := connect(t, o, testHost)
	l, err := c.ListenUnix(t.Context(), "/x")
	must(t, err)
	reader, err := c.Open(t.Context(), "block")
	must(t, err)
	writer, err := c.Open(t.Context(), "block")
	must(t, err)
	link.freeze()
	results := make(chan error)
	calls := []func() error{
		func() error { _, err := l.Accept(); return err },
		func() error { _, err := reader.Read(make([]byte, 1)); return err },
		func() error {
			for {
				if _, err := writer.Write(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
		},
		func() error { return reader.Wait() },
		func() error { _, err := c.Open(t.Context(), "cat"); return err },
		func() error { _, err := c.Subsystem(t.Context(), "cat"); return err },
		func() error { return c.Exec(t.Context(), Exec{Command: "cat"}) },
		func() error { _, err := c.ListenUnix(t.Context(), "/y"); return err },
	}
	for _, call := range calls {
		go func() { results <- call() }()
	}
	// Those with a context of their own end with it, although their sends block.
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Open(ctx, "cat"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	for range calls {
		select {
		case err := <-results:
			wantFault(t, err, fault.Lost)
		case <-time.After(patience):
			t.Fatal("a call does not notice that the link is dead")
		}
	}
	if err := c.Err(); !errors.Is(err, errKeepalive) {
		t.Errorf("%v", err)
	}
	must(t, l.Close())
	must(t, reader.Close())
	must(t, s.live.Close())
}

// TestKeepalive holds the times: a link on which all sends vanish is given up when count intervals passed without an answer.
func TestKeepalive(t *testing.T) {
	o := insecure(t)
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		o := o
		o.Auth = newAuth(t, AuthOptions{})
		o.KeepaliveInterval, o.KeepaliveCount = 10*time.Second, 2
		var link *frozen
		link, o.NetDial = freezable(memory(t, s))
		link.swallow = true
		c := connect(t, o, testHost)
		time.Sleep(65 * time.Second)
		if n := s.globalCount("keepalive@openssh.com"); n != 6 || c.Err() != nil {
			t.Fatalf("%d keepalives in 65 s, %v", n, c.Err())
		}
		link.freeze()
		began := time.Now()
		<-c.Done()
		// Sent at 70 s, unanswered at 80 and 90: given up 25 s after the freeze.
		if took := time.Since(began); took != 25*time.Second {
			t.Errorf("noticed after %v", took)
		}
		wantFault(t, c.Err(), fault.Lost, "keepalives were not answered")
		must(t, s.live.Close())
	})
}

// TestCloseOnDeadLink: Close never waits for the peer.
func TestCloseOnDeadLink(t *testing.T) {
	o := insecure(t)
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		o := o
		o.Auth = newAuth(t, AuthOptions{})
		o.KeepaliveInterval = -1
		var link *frozen
		link, o.NetDial = freezable(memory(t, s))
		c := connect(t, o, testHost)
		ch, err := c.Open(t.Context(), "block")
		must(t, err)
		link.freeze()
		began := time.Now()
		must(t, ch.Close()) // bounded by ChannelTimeout
		if took := time.Since(began); took != DefaultChannelTimeout {
			t.Errorf("Channel.Close took %v", took)
		}
		must(t, c.Close())
		if took := time.Since(began); took != DefaultChannelTimeout {
			t.Errorf("Close took %v", took-DefaultChannelTimeout)
		}
		must(t, s.live.Close())
	})
}

// TestLateForwardIsCanceled: a forward that the server grants after the caller left is taken back.
func TestLateForwardIsCanceled(t *testing.T) {
	o := insecure(t)
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		o := o
		o.Auth = newAuth(t, AuthOptions{})
		o.NetDial = memory(t, s)
		c := connect(t, o, testHost)
		release := make(chan struct{})
		s.mu.Lock()
		s.hold = release
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			time.Sleep(2 * time.Second)
			close(release)
		}()
		_, err := c.ListenUnix(ctx, "/x")
		wantFault(t, err, fault.Lost)
		time.Sleep(5 * time.Second)
		if n := s.globalCount("cancel-streamlocal-forward@openssh.com"); n != 1 {
			t.Errorf("%d cancels", n)
		}
		if _, err := s.connectForward("/x"); err == nil {
			t.Error("the abandoned forward takes connections")
		}
		must(t, c.Close())
	})
}
