package sshfleet

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

func TestForward(t *testing.T) {
	f := newFleet(t, Options{})
	h := f.Hosts()[0]
	c := dial(t, f)
	path := h.Prefix() + "/s"
	l, err := c.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	if _, err := c.ListenUnix(path); err == nil {
		t.Error("a path that exists was taken")
	}
	if _, err := c.ListenUnix("@abstract"); err == nil {
		t.Error("an abstract socket was opened")
	}
	near, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(near, "ping"); err != nil {
		t.Fatal(err)
	}
	if err := near.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); err != nil || string(got) != "ping" { // ends by the half-close
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := io.WriteString(far, "pong"); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(near); err != nil || string(got) != "pong" {
		t.Errorf("got %q, %v", got, err)
	}
	_ = near.Close()
	if err := l.Close(); err != nil { // cancels
		t.Error(err)
	}
	eventually(t, "listener gone", func() bool {
		conn, err := net.Dial("unix", path)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if _, err := os.Stat(path); err != nil {
		t.Errorf("sshd would have left the socket file: %v", err)
	}
	if _, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("tcpip-forward granted")
	}
	var open *ssh.OpenChannelError
	if _, err := c.Dial("tcp", h.Addr()); !errors.As(err, &open) || open.Reason != ssh.Prohibited {
		t.Errorf("direct-tcpip: %v", err)
	}
	h.RefuseForward(true)
	if _, err := c.ListenUnix(path + "2"); err == nil {
		t.Error("forward granted while refused")
	}
	h.RefuseForward(false)
	if _, err := c.ListenUnix(path + "2"); err != nil {
		t.Error(err)
	}
	if n := h.Counters().Forwards; n != 2 {
		t.Errorf("counted %d forwards", n)
	}
	_ = c.Close()
	eventually(t, "connection gone", func() bool { return h.OpenConnections() == 0 })
	if conn, err := net.Dial("unix", path+"2"); err == nil {
		_ = conn.Close()
		t.Error("still listening without a connection")
	}
}

func TestKeepaliveFails(t *testing.T) {
	c := dial(t, newFleet(t, Options{}))
	if ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil); ok || err != nil {
		t.Errorf("got %v, %v, want a plain failure", ok, err)
	}
}

func TestRefusals(t *testing.T) {
	f := newFleet(t, Options{})
	h := f.Hosts()[0]
	c := dial(t, f)
	h.MaxSessions(1)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var open *ssh.OpenChannelError
	if _, err := c.NewSession(); !errors.As(err, &open) || open.Reason != ssh.ConnectionFailed {
		t.Errorf("second session: %v", err)
	}
	_ = s.Close()
	eventually(t, "slot free", func() bool { _, err := run(t, c, "true"); return err == nil })
	h.MaxSessions(DefaultMaxSessions)
	h.RefuseSFTP(true)
	if s, err := sftp.NewClient(c); err == nil {
		_ = s.Close()
		t.Error("sftp while refused")
	}
	h.DenyAuth(true)
	if _, err := ssh.Dial("tcp", h.Addr(), clientConfig(t, f)); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("denied login: %v", err)
	}
	h.DenyAuth(false)
	h.RefuseConnections(true)
	if _, err := ssh.Dial("tcp", h.Addr(), clientConfig(t, f)); err == nil {
		t.Error("connected while refused")
	}
	h.RefuseConnections(false)
	dial(t, f)
}

func TestHangBeforeLogin(t *testing.T) {
	for _, stage := range []Stage{Accept, KeyExchange, Auth, Read} {
		t.Run(stage.String(), func(t *testing.T) {
			f := newFleet(t, Options{})
			h := f.Hosts()[0]
			h.Hang(stage)
			config := clientConfig(t, f)
			c := later(func() error {
				c, err := ssh.Dial("tcp", h.Addr(), config)
				if err == nil {
					_ = c.Close()
				}
				return err
			})
			raw, err := net.Dial("tcp", h.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			banner := later(func() string { s, _ := bufio.NewReader(raw).ReadString('\n'); return s })
			if stage != Accept {
				if s := arrives(t, banner); !strings.HasPrefix(s, "SSH-2.0-") {
					t.Errorf("banner %q", s)
				}
			}
			if err := hangs(t, c, func() { h.Release(stage) }); err != nil {
				t.Error(err)
			}
			if stage == Accept {
				arrives(t, banner)
			}
		})
	}
}

func TestHangAfterLogin(t *testing.T) {
	f := newFleet(t, Options{})
	h := f.Hosts()[0]
	c := dial(t, f)
	for _, stage := range []Stage{ChannelOpen, Exec, Read} {
		h.Hang(stage)
		ran := later(func() error { _, err := run(t, c, "true"); return err })
		if stage != Read { // the rest of the connection lives
			if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
				t.Error(err)
			}
		}
		if err := hangs(t, ran, func() { h.Release(stage) }); err != nil {
			t.Errorf("%v: %v", stage, err)
		}
	}
	s, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h.Hang(SFTPWrite)
	w, err := s.Create("f") // all but writes works
	if err != nil {
		t.Fatal(err)
	}
	wrote := later(func() error { _, err := w.Write([]byte("hi")); return err })
	if err := hangs(t, wrote, func() { h.Release(SFTPWrite) }); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(h.Home() + "/f"); err != nil || string(got) != "hi" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A host that hangs anywhere can be closed.
func TestCloseWhileHanging(t *testing.T) {
	for s := range Stage(stages) {
		t.Run(s.String(), func(t *testing.T) {
			f := newFleet(t, Options{})
			h := f.Hosts()[0]
			config := clientConfig(t, f)
			var c *ssh.Client
			if s == ChannelOpen || s == Exec || s == SFTPWrite {
				c = dial(t, f)
			}
			h.Hang(s)
			ended := later(func() error {
				if c == nil {
					_, err := ssh.Dial("tcp", h.Addr(), config)
					return err
				}
				if s != SFTPWrite {
					_, err := run(t, c, "true")
					return err
				}
				sc, err := sftp.NewClient(c)
				if err != nil {
					return err
				}
				w, err := sc.Create("f")
				if err != nil {
					return err
				}
				_, err = w.Write([]byte("x"))
				return err
			})
			err := hangs(t, ended, func() {
				if err := h.Close(); err != nil {
					t.Error(err)
				}
			})
			if err == nil {
				t.Error("succeeded on a closed host")
			}
		})
	}
}

func TestPause(t *testing.T) {
	f := newFleet(t, Options{})
	h := f.Hosts()[0]
	c := dial(t, f)
	h.Pause()
	ran := later(func() string { out, _ := run(t, c, "echo hi"); return out })
	if out := hangs(t, ran, h.Resume); out != "hi\n" {
		t.Errorf("got %q", out)
	}
	h.Pause()
	ended := later(c.Wait)
	hangs(t, ended, func() { h.DropConnections() }) // a frozen connection can be cut
	h.Resume()
	dial(t, f)
}

func TestDropAfter(t *testing.T) {
	f := newFleet(t, Options{})
	h := f.Hosts()[0]
	c := dial(t, f)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("cat >/dev/null"); err != nil {
		t.Fatal(err)
	}
	const n = 100_000
	before := h.Counters().BytesIn
	h.DropAfter(n)
	written := later(func() error {
		_, err := in.Write(make([]byte, 16<<20))
		return err
	})
	arrives(t, later(c.Wait))
	if err := arrives(t, written); err == nil {
		t.Error("everything was written to a dropped connection")
	}
	if got := h.Counters().BytesIn - before; got != n {
		t.Errorf("server saw %d bytes, want exactly %d", got, n)
	}
	c = dial(t, f) // once only
	if _, err := run(t, c, "true"); err != nil {
		t.Error(err)
	}
	h.DropAfter(1 << 30)
	h.DropAfter(0)
	if _, err := run(t, c, "true"); err != nil {
		t.Errorf("disarmed: %v", err)
	}
}

func TestWaitEndsWithItsConnection(t *testing.T) {
	f := newFaults()
	f.Pause()
	done := make(chan struct{})
	got := later(func() bool { return f.wait(done, func(s switches) bool { return s.paused }) })
	if hangs(t, got, func() { close(done) }) {
		t.Error("passed while paused")
	}
	f.Resume()
	if f.wait(done, func(switches) bool { return false }) {
		t.Error("passed on a closed connection")
	}
	if s := Stage(200).String(); s != "stage(200)" {
		t.Error(s)
	}
}
