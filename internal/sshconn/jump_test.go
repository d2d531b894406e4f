package sshconn

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// jumping makes s a jump host: it connects to wherever it is asked to.
func jumping(s *server) {
	s.onChannel = func(ch ssh.NewChannel) bool {
		if ch.ChannelType() != "direct-tcpip" {
			return false
		}
		var to struct {
			Addr       string
			Port       uint32
			Origin     string
			OriginPort uint32
		}
		if err := ssh.Unmarshal(ch.ExtraData(), &to); err != nil {
			_ = ch.Reject(ssh.ConnectionFailed, err.Error())
			return true
		}
		s.wg.Go(func() { s.jump(ch, net.JoinHostPort(to.Addr, strconv.Itoa(int(to.Port)))) })
		return true
	}
}

func (s *server) jump(ch ssh.NewChannel, address string) {
	target, err := net.Dial("tcp", address)
	if err != nil {
		_ = ch.Reject(ssh.ConnectionFailed, "Connection refused")
		return
	}
	defer target.Close()
	session, reqs, err := ch.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(session, target)
		_ = session.Close()
	})
	_, _ = io.Copy(target, session)
	_ = target.Close()
	both.Wait()
}

// counted counts the connections that the initiator itself makes.
func counted(o *Options) *atomic.Int32 {
	var n atomic.Int32
	o.NetDial = func(ctx context.Context, network, address string) (net.Conn, error) {
		n.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return &n
}

func jumpDialer(t *testing.T, o Options) *Dialer {
	d := dialer(t, o)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func named(h inventory.Host, name string) inventory.Host {
	h.Name = name
	return h
}

func says(t *testing.T, c *Conn) {
	t.Helper()
	var out bytes.Buffer
	if err := c.Exec(t.Context(), Exec{Command: "cat", Stdin: strings.NewReader("hello"), Stdout: &out}); err != nil {
		t.Error(err)
	}
	if out.String() != "hello" {
		t.Errorf("the host says %q", out.String())
	}
}

func TestTwoHops(t *testing.T) {
	first, second, target := newServer(t), newServer(t), newServer(t)
	jumping(first)
	jumping(second)
	o := insecure(t)
	dials := counted(&o)
	d := jumpDialer(t, o)
	host := tcp(t, target).Through([]inventory.Host{named(tcp(t, first), "j1"), named(tcp(t, second), "j2")})
	c, err := d.Dial(t.Context(), host)
	must(t, err)
	says(t, c)
	must(t, c.Close())
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections were made from here", n)
	}
}

// TestHostsShareAJump connects many hosts at once through one jump host, which is connected once, and once again when that was lost.
func TestHostsShareAJump(t *testing.T) {
	gate, target := newServer(t), newServer(t)
	jumping(gate)
	o := insecure(t)
	dials := counted(&o)
	d := jumpDialer(t, o)
	host := tcp(t, target).Through([]inventory.Host{named(tcp(t, gate), "gate")})
	for round := range 2 {
		conns := make([]*Conn, 20)
		var all sync.WaitGroup
		for i := range conns {
			all.Go(func() {
				c, err := d.Dial(t.Context(), host)
				if err != nil {
					t.Error(err)
					return
				}
				conns[i] = c
				says(t, c)
			})
		}
		all.Wait()
		if t.Failed() {
			return
		}
		if n := dials.Load(); int(n) != round+1 {
			t.Errorf("%d connections to the jump host, want %d", n, round+1)
		}
		gate.mu.Lock()
		live := gate.live
		gate.mu.Unlock()
		_ = live.Close()
		for _, c := range conns {
			<-c.Done()
			wantFault(t, c.Exec(t.Context(), Exec{Command: "echo"}), fault.Lost, "through jump host gate")
		}
	}
}

func TestJumpFails(t *testing.T) {
	t.Run("denied", func(t *testing.T) {
		gate, target := newServer(t), newServer(t)
		o := insecure(t)
		dials := counted(&o)
		d := jumpDialer(t, o)
		at := named(tcp(t, gate), "gate")
		at.Password = "bad password"
		host := tcp(t, target).Through([]inventory.Host{at})
		for range 3 { // the account is not hammered for each host behind
			_, err := d.Dial(t.Context(), host)
			f := wantFault(t, err, fault.Denied, "through jump host gate")
			if f.Host != "h" || f.Op != "connect" {
				t.Errorf("%+v", f)
			}
		}
		if n := dials.Load(); n != 1 {
			t.Errorf("%d attempts at the jump host", n)
		}
	})
	t.Run("untrusted", func(t *testing.T) {
		gate, target := newServer(t), newServer(t)
		t.Setenv("HOME", t.TempDir())
		at := named(tcp(t, gate), "gate")
		other := newSigner(t).PublicKey()
		known := writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), "["+at.Addr+"]:"+strconv.Itoa(at.Port)+" "+string(ssh.MarshalAuthorizedKey(other)))
		d := jumpDialer(t, Options{HostKeys: newHostKeys(t, HostKeyOptions{Files: []string{known}}), Auth: newAuth(t, AuthOptions{})})
		_, err := d.Dial(t.Context(), tcp(t, target).Through([]inventory.Host{at}))
		wantFault(t, err, fault.Untrusted, "through jump host gate", "has changed")
	})
	t.Run("no host behind", func(t *testing.T) {
		gate := newServer(t)
		jumping(gate)
		at := named(tcp(t, gate), "gate")
		d := jumpDialer(t, insecure(t))
		host := inventory.Host{Name: "h", Addr: "127.0.0.1", Port: 1, User: "u", Password: goodPassword}
		_, err := d.Dial(t.Context(), host.Through([]inventory.Host{at}))
		wantFault(t, err, fault.Unreachable, "jump host gate did not connect to 127.0.0.1:1", "refused")
	})
	t.Run("prohibited", func(t *testing.T) {
		gate, target := newServer(t), newServer(t)
		gate.onChannel = func(ch ssh.NewChannel) bool { _ = ch.Reject(ssh.Prohibited, "no"); return true }
		d := jumpDialer(t, insecure(t))
		_, err := d.Dial(t.Context(), tcp(t, target).Through([]inventory.Host{named(tcp(t, gate), "gate")}))
		f := wantFault(t, err, fault.Environment, "jump host gate did not connect to")
		if f.Remedy == "" {
			t.Error("no remedy")
		}
	})
}

// TestJumpHangs bounds an attempt through a jump host that says nothing, at each point where it should.
func TestJumpHangs(t *testing.T) {
	silent := func(t *testing.T) inventory.Host { // it takes the connection and says nothing
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return hostAt(l.Addr())
	}
	asking := func(t *testing.T) inventory.Host { // it never says whether the password is good
		s := newServer(t)
		stop := make(chan struct{})
		t.Cleanup(func() { close(stop) })
		s.config.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
			<-stop
			return nil, io.EOF
		}
		return tcp(t, s)
	}
	opening := func(t *testing.T) inventory.Host { // it never says whether it reached the host
		s := newServer(t)
		s.onChannel = func(ssh.NewChannel) bool { return true }
		return tcp(t, s)
	}
	for name, gate := range map[string]func(*testing.T) inventory.Host{"accept": silent, "auth": asking, "open": opening} {
		t.Run(name, func(t *testing.T) {
			o := insecure(t)
			o.ConnectTimeout = 300 * time.Millisecond
			host := tcp(t, newServer(t)).Through([]inventory.Host{named(gate(t), "gate")})
			_, err := jumpDialer(t, o).Dial(t.Context(), host)
			f := wantFault(t, err, fault.KindOf(err), "jump host gate")
			if k := f.Kind; k != fault.Unreachable && k != fault.Busy && k != fault.Lost {
				t.Errorf("kind %v: %v", k, err)
			}
		})
		t.Run(name+"/stopped", func(t *testing.T) {
			host := tcp(t, newServer(t)).Through([]inventory.Host{named(gate(t), "gate")})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			_, err := jumpDialer(t, insecure(t)).Dial(ctx, host) // no time-out helps
			wantFault(t, err, fault.Canceled)
		})
	}
}
