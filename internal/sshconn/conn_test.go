package sshconn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

func TestExec(t *testing.T) {
	o := insecure(t)
	o.NetDial = memory(t, newServer(t))
	c := connect(t, o, testHost)
	ctx := context.Background()
	big := strings.Repeat("0123456789abcdef", 1<<16)

	for _, tc := range []struct {
		name, command, stdin, stdout string
	}{
		{"output", "echo hello", "", "hello"},
		{"input", "cat", big, big},
		{"unread input", "echo hi", big, "hi"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			e := Exec{Command: tc.command, Stdout: &out}
			if tc.stdin != "" {
				e.Stdin = strings.NewReader(tc.stdin)
			}
			must(t, c.Exec(ctx, e))
			if out.String() != tc.stdout {
				t.Errorf("%d bytes, want %d", out.Len(), len(tc.stdout))
			}
		})
	}

	var exit *ExitError
	err := c.Exec(ctx, Exec{Command: "fail " + strings.Repeat("x", 2*tailSize) + "the end"})
	if !errors.As(err, &exit) || exit.Code != 3 || exit.Signal != "" || len(exit.Stderr) != tailSize || !strings.HasSuffix(exit.Stderr, "the end") {
		t.Errorf("%v", err)
	}
	var stderr bytes.Buffer
	err = c.Exec(ctx, Exec{Command: "fail oh", Stderr: &stderr})
	if !errors.As(err, &exit) || exit.Stderr != "" || stderr.String() != "oh" {
		t.Errorf("%v, stderr %q", err, stderr.String())
	}
	err = c.Exec(ctx, Exec{Command: "kill"})
	if !errors.As(err, &exit) || exit.Code != -1 || exit.Signal != "KILL" {
		t.Errorf("%v", err)
	}
	wantFault(t, c.Exec(ctx, Exec{Command: "vanish"}), fault.Lost, "without an exit status")

	broken := errors.New("broken writer")
	if err := c.Exec(ctx, Exec{Command: "endless", Stdout: writerFunc(func([]byte) (int, error) { return 0, broken })}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if err := c.Exec(ctx, Exec{Command: "cat", Stdin: iotest.ErrReader(io.ErrNoProgress)}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("%v", err)
	}
	if err := c.Err(); err != nil {
		t.Errorf("the connection should have survived all that: %v", err)
	}
}

var testTime = time.Unix(1, 0)

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestExecCanceled(t *testing.T) {
	s := newServer(t)
	o := insecure(t)
	o.NetDial = memory(t, s)
	c := connect(t, o, testHost)
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan struct{})
	result := make(chan error, 1)
	r, w := io.Pipe()
	go func() {
		result <- c.Exec(ctx, Exec{Command: "cat", Stdin: r, Stdout: writerFunc(func(p []byte) (int, error) { close(started); return len(p), nil })})
	}()
	_, err := w.Write([]byte("x"))
	must(t, err)
	<-started
	cancel()
	wantFault(t, <-result, fault.Canceled)
	must(t, w.Close())
	eventually(t, "the server's channel is closed", func() bool { return s.sessions() == 0 })
	wantFault(t, c.Exec(ctx, Exec{Command: "echo"}), fault.Canceled)
	must(t, c.Exec(context.Background(), Exec{Command: "echo"}))
}

func TestOpenAndSubsystem(t *testing.T) {
	o := insecure(t)
	o.NetDial = memory(t, newServer(t))
	c := connect(t, o, testHost)
	for _, open := range []func() (*Channel, error){
		func() (*Channel, error) { return c.Open(context.Background(), "cat") },
		func() (*Channel, error) { return c.Subsystem(context.Background(), "cat") },
	} {
		ch, err := open()
		must(t, err)
		_, err = io.WriteString(ch, "hello")
		must(t, err)
		must(t, ch.CloseWrite())
		got, err := io.ReadAll(ch)
		must(t, err)
		if string(got) != "hello" {
			t.Errorf("%q", got)
		}
		must(t, ch.Wait())
		must(t, ch.Close())
	}
	ch, err := c.Open(context.Background(), "fail because")
	must(t, err)
	_, err = io.ReadAll(ch)
	must(t, err)
	var exit *ExitError
	if err := ch.Wait(); !errors.As(err, &exit) || exit.Stderr != "because" || ch.StderrTail() != "because" {
		t.Errorf("%v", err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	s := newServer(t)
	o := insecure(t)
	o.NetDial = memory(t, s)
	c := connect(t, o, testHost)
	ch, err := c.Open(context.Background(), "block")
	must(t, err)
	l, err := c.ListenUnix(context.Background(), "/x")
	must(t, err)
	must(t, c.Close())
	<-c.Done()
	if err := c.Err(); err != nil {
		t.Errorf("Err after our own Close: %v", err)
	}
	if _, err := ch.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Read after Close: %v", err)
	}
	wantFault(t, ch.Wait(), fault.Lost)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	must(t, l.Close())
	must(t, ch.Close())
	must(t, c.Close())
	_, err = c.Open(context.Background(), "cat")
	wantFault(t, err, fault.Lost)
	_, err = c.ListenUnix(context.Background(), "/x")
	wantFault(t, err, fault.Lost)
}

func TestServerGoesAway(t *testing.T) {
	s := newServer(t)
	host := tcp(t, s)
	c := connect(t, insecure(t), host)
	ch, err := c.Open(context.Background(), "block")
	must(t, err)
	l, err := c.ListenUnix(context.Background(), "/x")
	must(t, err)
	result := make(chan error, 1)
	go func() { result <- c.Exec(context.Background(), Exec{Command: "block"}) }()
	eventually(t, "two channels", func() bool { return s.sessions() == 2 })
	must(t, s.live.Close())
	<-c.Done()
	wantFault(t, c.Err(), fault.Lost)
	wantFault(t, <-result, fault.Lost)
	_, err = ch.Read(make([]byte, 1))
	wantFault(t, err, fault.Lost)
	wantFault(t, ch.Wait(), fault.Lost)
	_, err = l.Accept()
	wantFault(t, err, fault.Lost)
}

func TestListenUnix(t *testing.T) {
	s := newServer(t)
	o := insecure(t)
	o.NetDial = memory(t, s)
	c := connect(t, o, testHost)
	l, err := c.ListenUnix(context.Background(), "/tmp/x.sock")
	must(t, err)
	if l.Addr().String() != "/tmp/x.sock" {
		t.Error(l.Addr())
	}
	_, err = c.ListenUnix(context.Background(), "/tmp/x.sock")
	wantFault(t, err, fault.Bug, "already listening")

	type end struct {
		ch  ssh.Channel
		err error
	}
	opened := make(chan end, 1)
	connectTo := func(path string) {
		go func() {
			ch, err := s.connectForward(path)
			opened <- end{ch, err}
		}()
	}
	connectTo("/tmp/x.sock")
	conn, err := l.Accept()
	must(t, err)
	remote := <-opened
	must(t, remote.err)
	if conn.LocalAddr().String() != "/tmp/x.sock" || conn.RemoteAddr() == nil || !errors.Is(conn.SetDeadline(testTime), os.ErrNoDeadline) {
		t.Error("addresses or deadlines")
	}
	// Half-close in both directions.
	_, err = io.WriteString(remote.ch, "question")
	must(t, err)
	must(t, remote.ch.CloseWrite())
	got, err := io.ReadAll(conn)
	must(t, err)
	_, err = io.WriteString(conn, "answer to "+string(got))
	must(t, err)
	must(t, conn.(interface{ CloseWrite() error }).CloseWrite())
	back, err := io.ReadAll(remote.ch)
	must(t, err)
	if string(back) != "answer to question" {
		t.Errorf("%q", back)
	}
	must(t, conn.Close())
	must(t, conn.Close())

	connectTo("/tmp/other.sock")
	var refused *ssh.OpenChannelError
	if e := <-opened; !errors.As(e.err, &refused) || refused.Reason != ssh.Prohibited {
		t.Errorf("connection to a socket that is not ours: %v", e.err)
	}
	// One that nobody accepts is refused when the listener closes.
	connectTo("/tmp/x.sock")
	eventually(t, "a connection is queued", func() bool { return len(l.(*listener).queue) == 1 })
	must(t, l.Close())
	if e := <-opened; !errors.As(e.err, &refused) {
		t.Errorf("%v", e.err)
	}
	must(t, l.Close())
	if n := s.globalCount("cancel-streamlocal-forward@openssh.com"); n != 1 {
		t.Errorf("%d cancels", n)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	// The path is free again.
	_, err = c.ListenUnix(context.Background(), "/tmp/x.sock")
	must(t, err)
}

func TestListenUnixBacklog(t *testing.T) {
	s := newServer(t)
	o := insecure(t)
	o.NetDial = memory(t, s)
	c := connect(t, o, testHost)
	_, err := c.ListenUnix(context.Background(), "/x")
	must(t, err)
	result := make(chan error)
	for range backlog + 1 {
		s.wg.Go(func() { _, err := s.connectForward("/x"); result <- err })
	}
	var refused *ssh.OpenChannelError
	if err := <-result; !errors.As(err, &refused) || refused.Reason != ssh.ResourceShortage {
		t.Errorf("%v", err)
	}
	must(t, c.Exec(context.Background(), Exec{Command: "echo"})) // the connection goes on
	must(t, c.Close())
	for range backlog {
		<-result
	}
}

func TestListenUnixRefused(t *testing.T) {
	s := newServer(t)
	s.refuseForward = true
	o := insecure(t)
	o.NetDial = memory(t, s)
	c := connect(t, o, testHost)
	_, err := c.ListenUnix(context.Background(), "/x")
	if f := wantFault(t, err, fault.Environment); !errors.Is(err, ErrForwardRefused) || f.Remedy == "" {
		t.Error(err)
	}
}

func TestChannelRefused(t *testing.T) {
	for reason, kind := range map[ssh.RejectionReason]fault.Kind{
		ssh.Prohibited: fault.Environment, ssh.ResourceShortage: fault.Busy, ssh.ConnectionFailed: fault.Busy,
	} {
		s := newServer(t)
		s.onChannel = func(ch ssh.NewChannel) bool { _ = ch.Reject(reason, "no"); return true }
		o := insecure(t)
		o.NetDial = memory(t, s)
		c := connect(t, o, testHost)
		_, err := c.Open(context.Background(), "cat")
		wantFault(t, err, kind, "no")
	}
	s := newServer(t)
	s.onExec = func(r *ssh.Request) bool { _ = r.Reply(false, nil); return true }
	o := insecure(t)
	o.NetDial = memory(t, s)
	c := connect(t, o, testHost)
	_, err := c.Subsystem(context.Background(), "sftp")
	wantFault(t, err, fault.Environment, "start sftp", "refused")
	eventually(t, "the refused channel is closed", func() bool { return s.sessions() == 0 })
}

// TestChannelRefusedAtFirst is a server that has not collected the channel before yet: nobody but us should notice.
func TestChannelRefusedAtFirst(t *testing.T) {
	s := newServer(t)
	var refusals atomic.Int64
	refusals.Store(2)
	s.onChannel = func(ch ssh.NewChannel) bool {
		if refusals.Load() == 0 {
			return false
		}
		refusals.Add(-1)
		_ = ch.Reject(ssh.ConnectionFailed, "open failed")
		return true
	}
	o := insecure(t)
	o.NetDial = memory(t, s)
	c := connect(t, o, testHost)
	ch, err := c.Open(t.Context(), "cat")
	if err != nil || refusals.Load() != 0 {
		t.Fatalf("%v, %d refusals left", err, refusals.Load())
	}
	must(t, ch.Close())

	refusals.Store(1 << 30)
	ctx, cancel := context.WithTimeout(t.Context(), openPause/2)
	defer cancel()
	_, err = c.Open(ctx, "cat")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it waits for a session: %v", err)
	}
	again := make(chan error, 1)
	go func() { _, err := c.Open(context.Background(), "cat"); again <- err }()
	must(t, c.Close())
	wantFault(t, <-again, fault.Lost)
}

// TestHeldConnection holds what an idle connection costs: goroutines exactly, memory with room for the runtime's noise.
func TestHeldConnection(t *testing.T) {
	s := newServer(t)
	host := tcp(t, s)
	o := insecure(t)
	const n = 50
	for range n { // also warms up
		connect(t, o, host)
	}
	measure := func() (goroutines int, heap uint64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		buf := make([]byte, 16<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		for g := range strings.SplitSeq(stacks, "\n\n") {
			switch {
			case strings.Contains(g, "created by github.com/mgmt-remote/mgmt-remote/internal/sshconn.newConn"),
				strings.Contains(g, "created by golang.org/x/crypto/ssh.newClientTransport"):
				goroutines += 2
			case strings.Contains(g, "created by golang.org/x/crypto/ssh.newMux"):
				goroutines++ // the server has one too
			}
		}
		return goroutines, m.HeapInuse + m.StackInuse
	}
	// Those of tests before may be about to end, and the server's of the last connection about to begin.
	goroutines, before := measure()
	for end := time.Now().Add(patience); goroutines != 4*n*2 && time.Now().Before(end); goroutines, before = measure() {
	}
	if goroutines != 4*n*2 {
		t.Errorf("%d goroutines for %d connections, want 4 each", goroutines/2, n)
	}
	conns := make([]*Conn, n)
	for i := range conns {
		conns[i] = connect(t, o, host)
	}
	_, after := measure()
	perPair := (after - before) / n
	t.Logf("%d KiB for both ends of a connection over loopback", perPair>>10)
	if perPair > 400<<10 {
		t.Errorf("%d KiB for both ends of a connection", perPair>>10)
	}
	runtime.KeepAlive(conns)
}
