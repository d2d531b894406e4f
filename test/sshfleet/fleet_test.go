package sshfleet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// patience bounds everything that must happen; glance is how long something must not happen.
const (
	patience = time.Minute
	glance   = 150 * time.Millisecond
)

func newFleet(t *testing.T, opts Options) *Fleet {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	opts.Dir = dir
	f, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func clientConfig(t *testing.T, f *Fleet) *ssh.ClientConfig {
	t.Helper()
	check, err := knownhosts.New(f.KnownHostsFile())
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(f.KeyFile())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	return &ssh.ClientConfig{User: f.Hosts()[0].User(), Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: check}
}

func dial(t *testing.T, f *Fleet) *ssh.Client {
	t.Helper()
	c, err := ssh.Dial("tcp", f.Hosts()[0].Addr(), clientConfig(t, f))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func run(t *testing.T, c *ssh.Client, command string) (string, error) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close()
	out, err := s.Output(command)
	return string(out), err
}

// later runs f in a goroutine and gives its result through a channel.
func later[T any](f func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- f() }()
	return c
}

// hangs checks that nothing comes for a moment, then that something does after release.
func hangs[T any](t *testing.T, c <-chan T, release func()) T {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("did not hang, but gave %v", v)
	case <-time.After(glance):
	}
	release()
	return arrives(t, c)
}

func arrives[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func TestCommand(t *testing.T) {
	f := newFleet(t, Options{})
	h := f.Hosts()[0]
	c := dial(t, f)
	out, err := run(t, c, `pwd; echo "$HOME $TMPDIR $USER"`)
	home, _ := filepath.EvalSymlinks(h.Home())
	want := home + "\n" + h.Home() + " " + h.Sandbox() + "/tmp " + h.User() + "\n"
	if err != nil || out != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	var exit *ssh.ExitError
	if _, err = run(t, c, "exit 7"); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("exit 7 gave %v", err)
	}
	if _, err = run(t, c, "kill -9 $$"); !errors.As(err, &exit) || exit.Signal() != "KILL" {
		t.Errorf("kill gave %v", err)
	}
	if n := h.Counters(); n.Execs != 3 || n.Connections != 1 || n.BytesIn == 0 {
		t.Errorf("counted %+v", n)
	}
	for path, want := range map[string]os.FileMode{f.KeyFile(): 0o600, f.KnownHostsFile(): 0o600, h.Sandbox(): 0o700, h.Prefix(): 0o700, h.Home(): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

func TestStreams(t *testing.T) {
	c := dial(t, newFleet(t, Options{}))
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	big := strings.Repeat("0123456789abcdef", 1<<16)
	s.Stdin, s.Stdout, s.Stderr = strings.NewReader(big), &stdout, &stderr
	if err := s.Setenv("LC_TEST", "x y"); err != nil {
		t.Error(err)
	}
	if err := s.Setenv("PATH", "/evil"); err == nil {
		t.Error("PATH accepted")
	}
	if err := s.Run(`cat; printf %s "$LC_TEST" >&2`); err != nil { // cat ends only by the half-close
		t.Fatal(err)
	}
	if stdout.String() != big || stderr.String() != "x y" {
		t.Errorf("%d bytes of output, stderr %q", stdout.Len(), &stderr)
	}
}

func TestSignal(t *testing.T) {
	c := dial(t, newFleet(t, Options{}))
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("echo up; exec sleep 1000"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(ssh.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("got %v", err)
	}
}

func TestLogin(t *testing.T) {
	f := newFleet(t, Options{Login: LoginPassword, Password: "right"})
	addr := f.Hosts()[0].Addr()
	try := func(user string, auth ssh.AuthMethod) error {
		config := clientConfig(t, f)
		config.Auth = []ssh.AuthMethod{auth}
		config.User = user
		c, err := ssh.Dial("tcp", addr, config)
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	user := f.Hosts()[0].User()
	if err := try(user, ssh.Password("right")); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"wrong password": try(user, ssh.Password("wrong")), "wrong user": try(user+"x", ssh.Password("right")),
		"key": try(user, ssh.PublicKeys(f.ClientKey())),
	} {
		if err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no dir": {}, "no password": {Dir: t.TempDir(), Login: LoginEither}, "twice": {Dir: t.TempDir(), Names: []string{"a", "a"}},
		"slash": {Dir: t.TempDir(), Names: []string{"../a"}},
		"listen": {Dir: t.TempDir(), Hosts: 2, Listen: func(i int) (net.Listener, error) {
			if i == 1 {
				return nil, errors.New("no port")
			}
			return net.Listen("tcp", "127.0.0.1:0")
		}},
	} {
		if f, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
			_ = f.Close()
		}
	}
}

func TestInMemory(t *testing.T) {
	l := bufconn.Listen(1 << 16)
	f := newFleet(t, Options{Listen: func(int) (net.Listener, error) { return l, nil }})
	conn, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	config := clientConfig(t, f)
	config.HostKeyCallback = ssh.FixedHostKey(f.Hosts()[0].HostKey())
	sc, channels, requests, err := ssh.NewClientConn(conn, f.Hosts()[0].Addr(), config)
	if err != nil {
		t.Fatal(err)
	}
	c := ssh.NewClient(sc, channels, requests)
	defer c.Close()
	if out, err := run(t, c, "echo hi"); err != nil || out != "hi\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestSFTP(t *testing.T) {
	f := newFleet(t, Options{})
	c, err := sftp.NewClient(dial(t, f))
	if err != nil {
		t.Fatal(err)
	}
	w, err := c.Create("sub")
	if err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	if _, err := w.ReadFrom(bytes.NewReader(big)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Hosts()[0].Home() + "/sub")
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestProcessesAfterTheConnection(t *testing.T) {
	f := newFleet(t, Options{})
	h := f.Hosts()[0]
	c := dial(t, f)
	// One child in the command's session, one detached, both without our pipes.
	const script = `sleep 1001 </dev/null >/dev/null 2>&1 & setsid sleep 1002 </dev/null >/dev/null 2>&1 & echo ok`
	if out, err := run(t, c, script); err != nil || out != "ok\n" {
		t.Fatalf("got %q, %v", out, err)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("exec sleep 1003"); err != nil {
		t.Fatal(err)
	}
	alive := func(command string) bool {
		found, err := h.Processes()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range found {
			if p.Command == command {
				return true
			}
		}
		return false
	}
	eventually(t, "all run", func() bool { return alive("sleep 1001") && alive("sleep 1002") && alive("sleep 1003") })
	if n := h.DropConnections(); n != 1 {
		t.Errorf("dropped %d connections", n)
	}
	_ = c.Wait()
	eventually(t, "connection gone", func() bool { return h.OpenConnections() == 0 })
	if !alive("sleep 1001") || !alive("sleep 1002") || !alive("sleep 1003") {
		t.Error("a command died with the connection")
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if alive("sleep 1001") || !alive("sleep 1002") || alive("sleep 1003") {
		t.Errorf("after Close: attached %v, detached %v, direct %v", alive("sleep 1001"), alive("sleep 1002"), alive("sleep 1003"))
	}
	found, err := h.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		if proc, err := os.FindProcess(p.PID); err != nil || proc.Kill() != nil {
			t.Errorf("cannot kill %v: %v", p, err)
		}
	}
	eventually(t, "nothing left", func() bool {
		r, err := leftovers.Processes(h.Sandbox())
		return err == nil && len(r) == 0
	})
}
