package shim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

// The tests run the real program: program is its path.
var (
	program    string
	buildFlags []string
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "shim" { // the test's program plays mgmt-remote, with the shim as a command
		os.Exit(Main(os.Args[2:]))
	}
	dir, err := os.MkdirTemp("", "shim-test-")
	if err != nil {
		panic(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "mgmt-remote-shim")
	args := append([]string{"build", "-o", program}, buildFlags...)
	if out, err := exec.Command("go", append(args, "../../cmd/mgmt-remote-shim")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the shim: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := leaks.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience is how long a test waits for something that has to happen.
const patience = 30 * time.Second

// session is a session directory as step 3 leaves it.
type session struct {
	t    *testing.T
	base string
	dir  string
	spec wire.Spec
	via  []string // the program and its words before the shim's command; nil: the shim's own program

	start *exec.Cmd // how its pipe processes are started; nil: nothing special
}

func newSession(t *testing.T, argv ...string) *session {
	t.Helper()
	base, err := os.MkdirTemp("", "s") // short: t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, base: filepath.Join(base, "base"), spec: wire.Spec{
		Version: 1, Run: "run1", Host: "h1", Token: "secret-token", Nonce: "nonce-1", Fence: 5, Argv: argv, Endpoint: wire.EndpointUnix,
	}}
	s.dir = filepath.Join(s.base, "run1", "h1")
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.killShim()
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	return s
}

func script(t *testing.T, text string) *session {
	t.Helper()
	return newSession(t, "/bin/sh", "-c", text)
}

func (s *session) write() {
	s.t.Helper()
	data, err := json.Marshal(s.spec)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, wire.SpecFile), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) record() record {
	rec, _, err := loadRecord(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	return rec
}

// killShim ends what a test leaves running, as violently as can be.
func (s *session) killShim() {
	rec := s.record()
	if rec.PID != 0 && startOf(rec.PID) == rec.Start {
		_ = syscall.Kill(rec.PID, syscall.SIGKILL)
		s.gone(rec.PID)
		s.unserved()
	}
	if g, ok := leftover(rec); ok {
		if err := g.end(noDeadline, stage{syscall.SIGKILL, patience}); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *session) path(name string) string { return filepath.Join(s.dir, name) }

// client is an initiator at the far end of a pipe process.
type client struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	conn *wire.Conn
	errs *safeBuffer
}

// safeBuffer can be looked at while it is written to.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type pipeEnds struct {
	io.Reader
	io.WriteCloser
}

// pipe starts a pipe process and skips to its marker.
func (s *session) pipe(command string) *client {
	s.t.Helper()
	marker := wire.NewMarker()
	via := s.via
	if via == nil {
		via = []string{program}
	}
	cmd := exec.Command(via[0], append(via[1:len(via):len(via)], command, s.dir, marker)...)
	if s.start != nil {
		cmd.SysProcAttr, cmd.Env = s.start.SysProcAttr, s.start.Env
	}
	c := &client{t: s.t, cmd: cmd, errs: new(safeBuffer)}
	cmd.Stderr = c.errs
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.kill)
	c.in = in
	c.conn = wire.NewConn(pipeEnds{out, in})
	if err := c.conn.SkipTo(marker, wire.MaxNoise); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// kill ends the pipe process as a dropped connection does.
func (c *client) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait() // killed
}

func (s *session) hello() *wire.Hello {
	h := wire.NewHello()
	h.Token, h.Fence, h.Epoch, h.Credit = s.spec.Token, s.spec.Fence, 1, 1<<40
	return h
}

// attach says hello and returns the answer.
func (s *session) attach(command string, change func(*wire.Hello)) (*client, *wire.Frame) {
	s.t.Helper()
	c := s.pipe(command)
	h := s.hello()
	if change != nil {
		change(h)
	}
	c.send(&wire.Frame{Kind: &wire.Frame_Hello{Hello: h}})
	return c, c.recv()
}

// welcome is attach for those who have to be welcome.
func (s *session) welcome(command string, change func(*wire.Hello)) (*client, *wire.Welcome) {
	s.t.Helper()
	c, f := s.attach(command, change)
	w := f.GetWelcome()
	if w == nil {
		s.t.Fatalf("not welcome: %v; %s%s", f, c.errs, s.shimLog())
	}
	return c, w
}

func (s *session) shimLog() string {
	data, err := os.ReadFile(logPath(s.dir))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (c *client) send(f *wire.Frame) {
	c.t.Helper()
	if err := c.conn.Send(f); err != nil {
		c.t.Fatal(err)
	}
}

// recv returns the next frame within patience.
func (c *client) recv() *wire.Frame {
	c.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	f, err := c.conn.Recv()
	if err != nil {
		c.t.Fatalf("no frame: %v; %s", err, c.errs)
	}
	return f
}

// collect reads output from an offset to the exit.
func (c *client) collect(from uint64) (out string, gaps []*wire.Gap, exit *wire.Exit) {
	c.t.Helper()
	var b strings.Builder
	for {
		switch k := c.recv().Kind.(type) {
		case *wire.Frame_Output:
			if k.Output.Offset != from {
				c.t.Fatalf("output at %d, want %d", k.Output.Offset, from)
			}
			from += uint64(len(k.Output.Data))
			b.Write(k.Output.Data)
		case *wire.Frame_Gap:
			if k.Gap.From != from || k.Gap.To <= from {
				c.t.Fatalf("gap %v at %d", k.Gap, from)
			}
			from = k.Gap.To
			gaps = append(gaps, k.Gap)
		case *wire.Frame_Exit:
			if k.Exit.OutputEnd != from {
				c.t.Fatalf("exit says output ends at %d, got up to %d", k.Exit.OutputEnd, from)
			}
			return b.String(), gaps, k.Exit
		default:
			c.t.Fatalf("unexpected frame %v", k)
		}
	}
}

// outputUntil reads output up to and including a text.
func (c *client) outputUntil(text string) string {
	c.t.Helper()
	var b strings.Builder
	for !strings.Contains(b.String(), text) {
		f := c.recv()
		if f.GetOutput() == nil {
			c.t.Fatalf("got %v before %q", f, text)
		}
		b.Write(f.GetOutput().Data)
	}
	return b.String()
}

func (c *client) cleanUp() {
	c.t.Helper()
	c.send(&wire.Frame{Kind: &wire.Frame_AckExit{AckExit: &wire.AckExit{CleanUp: true}}})
	if u := c.recv().GetCleanedUp(); u == nil || u.Error != "" {
		c.t.Errorf("not cleaned up: %v", u)
	}
}

func (c *client) finish(intMS, termMS uint32, cleanUp bool) {
	c.t.Helper()
	c.send(&wire.Frame{Kind: &wire.Frame_Finish{Finish: &wire.Finish{IntMs: intMS, TermMs: termMS, CleanUp: cleanUp}}})
}

// eventually waits for something that no frame tells.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

func (s *session) gone(pid int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("process %d gone", pid), func() bool { return startOf(pid) == "" })
}

// unserved waits until a killed shim's socket is closed, which is a moment after it is dead to others.
func (s *session) unserved() {
	s.t.Helper()
	eventually(s.t, "control socket closed", func() bool {
		c, err := net.Dial("unix", s.path(controlSocket))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

func (s *session) nothingLeft(below string) {
	s.t.Helper()
	eventually(s.t, below+" removed", func() bool {
		_, err := os.Lstat(below)
		return errors.Is(err, os.ErrNotExist)
	})
}
