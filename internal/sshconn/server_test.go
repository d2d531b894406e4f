package sshconn

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(proxyTo); address != "" {
		proxyMain(address)
	}
	leaks.VerifyTestMain(m)
}

// server is the least SSH server that the client can be tested with. Commands are "echo", "cat", "fail", "kill", "block"; see exec.
type server struct {
	hostKey ssh.Signer
	config  ssh.ServerConfig

	refuseForward bool
	onChannel     func(ssh.NewChannel) (handled bool) // nil: normal
	onExec        func(*ssh.Request) (handled bool)   // nil: normal

	mu       sync.Mutex
	live     *ssh.ServerConn // the newest connection
	forwards []string
	globals  []string
	open     int           // session channels
	hold     chan struct{} // not nil: global requests wait for it
	wg       sync.WaitGroup
}

const goodPassword = "good password"

func newServer(t testing.TB) *server {
	s := &server{hostKey: newSigner(t)}
	s.config.PasswordCallback = func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if string(password) == goodPassword {
			return nil, nil
		}
		return nil, errors.New("wrong")
	}
	s.config.AddHostKey(s.hostKey)
	t.Cleanup(s.wg.Wait)
	return s
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return signer
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *server) accept(l net.Listener) {
	s.wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.serve(nc) })
		}
	})
}

func (s *server) serve(nc net.Conn) {
	defer nc.Close()
	conn, chans, reqs, err := ssh.NewServerConn(nc, &s.config)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.live = conn
	s.mu.Unlock()
	s.wg.Go(func() {
		for req := range reqs {
			s.global(req)
		}
	})
	for ch := range chans {
		if s.onChannel != nil && s.onChannel(ch) {
			continue
		}
		session, sreqs, err := ch.Accept()
		if err != nil {
			continue
		}
		s.count(1)
		s.wg.Go(func() {
			defer s.count(-1)
			s.session(session, sreqs)
		})
	}
}

func (s *server) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += n
}

func (s *server) sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

func (s *server) global(req *ssh.Request) {
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	s.mu.Lock()
	s.globals = append(s.globals, req.Type)
	ok := false
	switch req.Type {
	case "streamlocal-forward@openssh.com":
		ok = !s.refuseForward
		s.forwards = append(s.forwards, string(req.Payload[4:]))
	case "cancel-streamlocal-forward@openssh.com":
		ok = true
	}
	s.mu.Unlock()
	_ = req.Reply(ok, nil)
}

func (s *server) globalCount(name string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.globals {
		if g == name {
			n++
		}
	}
	return n
}

// connectForward is what sshd does when somebody connects to a forwarded socket.
func (s *server) connectForward(path string) (ssh.Channel, error) {
	s.mu.Lock()
	conn := s.live
	s.mu.Unlock()
	ch, reqs, err := conn.OpenChannel("forwarded-streamlocal@openssh.com", ssh.Marshal(struct{ Path, Reserved string }{path, ""}))
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(reqs)
	return ch, nil
}

func (s *server) session(ch ssh.Channel, reqs <-chan *ssh.Request) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for req := range reqs {
		if s.onExec != nil && s.onExec(req) {
			continue
		}
		if req.Type != "exec" && req.Type != "subsystem" {
			_ = req.Reply(false, nil)
			continue
		}
		command := string(req.Payload[4:])
		_ = req.Reply(true, nil)
		wg.Go(func() {
			s.exec(command, ch, done)
			_ = ch.Close()
		})
	}
	close(done) // the client closed the channel, or the connection ended
	wg.Wait()
	_ = ch.Close()
}

func (s *server) exec(command string, ch ssh.Channel, done <-chan struct{}) {
	status := func(code uint32) {
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
	}
	word, rest, _ := strings.Cut(command, " ")
	switch word {
	case "echo":
		_, _ = io.WriteString(ch, rest)
		_ = ch.CloseWrite()
		status(0)
	case "cat":
		_, _ = io.Copy(ch, ch)
		_ = ch.CloseWrite()
		status(0)
	case "fail":
		_, _ = io.WriteString(ch.Stderr(), rest)
		status(3)
	case "kill":
		_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name string
			Core bool
			Msg  string
			Lang string
		}{"KILL", false, "", ""}))
	case "vanish":
	case "block":
		<-done
	case "endless":
		for {
			if _, err := ch.Write(make([]byte, 1<<15)); err != nil {
				return
			}
		}
	}
}

// memory serves s over an in-memory listener, so that it works in a synctest bubble.
func memory(t testing.TB, s *server) func(context.Context, string, string) (net.Conn, error) {
	l := bufconn.Listen(1 << 20)
	t.Cleanup(func() { _ = l.Close() })
	s.accept(l)
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) }
}

// tcp serves s on loopback and returns the host to dial.
func tcp(t testing.TB, s *server) inventory.Host {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	s.accept(l)
	return hostAt(l.Addr())
}

func hostAt(addr net.Addr) inventory.Host {
	a := addr.(*net.TCPAddr)
	return inventory.Host{Name: "h", Addr: a.IP.String(), Port: a.Port, User: "u", Password: goodPassword}
}

var testHost = inventory.Host{Name: "h", Addr: "h.example", Port: 22, User: "u", Password: goodPassword}

var noPassword = inventory.Host{Name: "h", Addr: "h.example", Port: 22, User: "u"}

// insecure returns options for tests that are not about host keys and authentication.
func insecure(t testing.TB) Options {
	t.Setenv("HOME", t.TempDir())
	return Options{HostKeys: newHostKeys(t, HostKeyOptions{Policy: Insecure}), Auth: newAuth(t, AuthOptions{})}
}

func newHostKeys(t testing.TB, o HostKeyOptions) *HostKeys {
	t.Helper()
	h, err := NewHostKeys(o)
	must(t, err)
	return h
}

func newAuth(t testing.TB, o AuthOptions) *Auth {
	t.Helper()
	a, err := NewAuth(o)
	must(t, err)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func dialer(t testing.TB, o Options) *Dialer {
	t.Helper()
	d, err := NewDialer(o)
	must(t, err)
	return d
}

// connect dials and closes at the end of the test.
func connect(t testing.TB, o Options, host inventory.Host) *Conn {
	t.Helper()
	c, err := dialer(t, o).Dial(context.Background(), host)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// wantFault checks kind, host and words of an error.
func wantFault(t testing.TB, err error, kind fault.Kind, words ...string) *fault.Fault {
	t.Helper()
	var f *fault.Fault
	if !errors.As(err, &f) {
		t.Fatalf("not a fault: %T %v", err, err)
	}
	if f.Kind != kind {
		t.Fatalf("kind %v, want %v: %v", f.Kind, kind, err)
	}
	if f.Host == "" && f.Kind != fault.Canceled {
		t.Errorf("names no host: %v", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("does not say %q: %v", w, err)
		}
	}
	if strings.Contains(err.Error(), goodPassword) {
		t.Errorf("shows the password: %v", err)
	}
	return f
}

// patience is how long a test with a real clock waits for something that has to happen.
const patience = time.Minute

// eventually is for tests with a real clock, where the other side needs a moment.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v still not so: %s", patience, what)
		}
	}
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o700))
	must(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

// bufPipe is a net.Pipe with buffers: both sides of SSH write their version before they read.
func bufPipe(t testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	ours, err := l.Dial()
	must(t, err)
	theirs = <-accepted
	must(t, l.Close())
	return ours, theirs
}
