//go:build linux

package netlab

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// pings sends so many pings from one node to another's address and returns how many were answered.
func pings(t *testing.T, from *Node, addr string, n int) int {
	t.Helper()
	cmd := from.Command(t.Context(), "ping", "-n", "-i", "0.01", "-W", "1", "-c", strconv.Itoa(n), addr)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		t.Fatalf("ping: %v\n%s", err, out)
	}
	return strings.Count(string(out), "bytes from")
}

func TestLinks(t *testing.T) {
	l := New(t, 2)
	a, b := l.Hosts[0], l.Hosts[1]
	cut := func(what string, addr string) {
		t.Helper()
		if got := pings(t, l.Initiator, addr, 3); got != 0 {
			t.Errorf("%s: %d of 3 pings came back", what, got)
		}
	}
	l.AwaitReach(a)
	a.Down()
	cut("down", a.Addr)
	l.AwaitReach(b) // while the other one is down
	a.Up()
	l.AwaitReach(a)
	a.Swallow()
	cut("swallowed", a.Addr)
	a.Pass()
	l.AwaitReach(a)
	a.Lose(50)
	if got := pings(t, l.Initiator, a.Addr, 100); got < 5 || got > 60 { // a quarter is expected: both directions lose
		t.Errorf("of 100 pings %d came back", got)
	}
	a.Pass()
	old := a.Addr
	a.Move("198.18.0.77")
	l.AwaitReach(a)
	cut("the old address", old)
}

func TestDelay(t *testing.T) {
	echo := listen(t)
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	slow := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- Delay(ctx, slow, echo.Addr().String(), 50*time.Millisecond) }()
	c, err := net.Dial("tcp", slow.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	big := strings.Repeat("0123456789abcdef", 1<<16)
	go func() { _, _ = io.WriteString(c, big) }()
	got := make([]byte, len(big))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != big {
		t.Errorf("the echo differs: %v", err)
	}
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Errorf("there and back in %v, sooner than twice the delay", took)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived its relay")
	}
	_ = c.Close()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
