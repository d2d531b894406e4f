package shim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// TestOutputHasNoLossAndNoRepetition drops the connection again and again while the payload writes.
func TestOutputHasNoLossAndNoRepetition(t *testing.T) {
	const lines = 60_000
	s := script(t, fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo $i; done", lines))
	s.write()
	var want strings.Builder
	for i := range lines {
		fmt.Fprintln(&want, i+1)
	}
	var got strings.Builder
	command, pid := "start", int32(0)
	for drops := 0; ; drops++ {
		// Little credit makes many small steps; every attach goes on where the last one came to.
		limit := uint64(got.Len()) + 1<<14
		c, w := s.welcome(command, func(h *wire.Hello) { h.OutputFrom, h.Credit = uint64(got.Len()), limit })
		if pid != 0 && w.PayloadPid != pid {
			t.Fatalf("payload %d became %d", pid, w.PayloadPid)
		}
		command, pid = "attach", w.PayloadPid
		if drops < 12 {
			for uint64(got.Len()) < limit {
				o := c.recv().GetOutput()
				if o == nil || int(o.Offset) != got.Len() {
					t.Fatalf("got %v at %d", o, got.Len())
				}
				got.Write(o.Data)
			}
			c.send(&wire.Frame{Kind: &wire.Frame_Ack{Ack: &wire.Ack{Offset: uint64(got.Len())}}})
			c.kill()
			continue
		}
		c.send(&wire.Frame{Kind: &wire.Frame_Credit{Credit: &wire.Credit{Limit: 1 << 40}}})
		rest, gaps, _ := c.collect(uint64(got.Len()))
		got.WriteString(rest)
		if gaps != nil || got.String() != want.String() {
			t.Errorf("%d bytes, want %d; gaps %v", got.Len(), want.Len(), gaps)
		}
		c.cleanUp()
		return
	}
}

// TestNobodyTakesTheOutput: an endless payload neither fills the disk nor waits, and what is gone is told to the byte.
func TestNobodyTakesTheOutput(t *testing.T) {
	const limit = 1 << 20
	s := script(t, "exec yes 0123456789abcde")
	s.spec.OutputCap = limit
	s.write()
	c, w := s.welcome("start", nil)
	c.kill()
	segments := func() []int {
		t.Helper()
		seqs, err := listSegments(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		return seqs
	}
	most := int64(0)
	eventually(t, "many times the cap written", func() bool {
		before := segments()
		use := diskUse(t, s.dir)
		after := segments()
		if slices.Equal(before, after) { // otherwise what is gone was counted together with what came in its place
			most = max(most, use)
		}
		return most > 0 && len(after) > 0 && after[len(after)-1] > 50*4 // a segment is a quarter of the cap
	})
	if most > limit+limit/4+64<<10 {
		t.Errorf("%d bytes on disk, the cap is %d", most, limit)
	}
	if err := syscall.Kill(int(w.PayloadPid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "exit recorded", func() bool { e, err := loadExit(s.dir); return err == nil && e != nil }) // and nothing dropped any more
	c, _ = s.welcome("attach", nil)
	out, gaps, exit := c.collect(0) // checks that every offset is there or in a gap
	if len(gaps) != 1 || gaps[0].From != 0 || exit.OutputEnd < 40*limit {
		t.Fatalf("gaps %v, exit %v", gaps, exit)
	}
	line := "0123456789abcde\n"
	want := strings.Repeat(line, len(out)/len(line)+2)[gaps[0].To%uint64(len(line)):]
	if out != want[:len(out)] || len(out) > limit {
		t.Errorf("%d bytes are not those that belong at %d", len(out), gaps[0].To)
	}
	if log := s.shimLog(); log != "" {
		t.Errorf("the shim says: %s", log)
	}
}

func TestShimAsACommandOfAnotherProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := newSession(t, "echo", "hello")
	s.via = []string{self, "shim"}
	s.write()
	c, _ := s.welcome("start", nil)
	if out, _, _ := c.collect(0); out != "hello\n" {
		t.Errorf("got %q", out)
	}
	c.cleanUp()
}

func TestPipeEndsWithItsChannelAndTheDaemonStays(t *testing.T) {
	s := newSession(t, "sleep", "1000")
	s.write()
	for name, end := range map[string]func(*client){
		"stdin ends": func(c *client) {
			if err := c.in.Close(); err != nil {
				t.Error(err)
			}
		},
		"hung up, then stdin ends": func(c *client) {
			if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Error(err)
			}
			c.send(&wire.Frame{Kind: &wire.Frame_Ping{Ping: &wire.Ping{Id: 1}}})
			if c.recv().GetPong() == nil {
				t.Error("no pong after SIGHUP")
			}
			if err := c.in.Close(); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, w := s.welcome("start", nil)
			end(c)
			if err := c.cmd.Wait(); err != nil {
				t.Errorf("the pipe process: %v; %s", err, c.errs)
			}
			_, again := s.welcome("attach", nil)
			if again.ShimPid != w.ShimPid || again.PayloadPid != w.PayloadPid {
				t.Errorf("%v, then %v", w, again)
			}
		})
	}
}

// TestPipeEndsWhenNobodyReads closes only the channel's way back.
func TestPipeEndsWhenNobodyReads(t *testing.T) {
	s := script(t, "while :; do echo y; done")
	s.write()
	c, w := s.welcome("start", nil)
	r, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	marker := wire.NewMarker()
	cmd := exec.Command(program, "attach", s.dir, marker)
	cmd.Stdout = pw
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	second := wire.NewConn(pipeEnds{r, in})
	if err := second.SkipTo(marker, wire.MaxNoise); err != nil {
		t.Fatal(err)
	}
	if err := second.Send(&wire.Frame{Kind: &wire.Frame_Hello{Hello: s.hello()}}); err != nil {
		t.Fatal(err)
	}
	if f, err := second.Recv(); err != nil || f.GetWelcome() == nil {
		t.Fatalf("got %v, %v", f, err)
	}
	if err := pw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil && cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Errorf("the pipe process was killed by a signal: %v", err)
	}
	_ = in.Close() // the process is gone
	c.kill()
	if startOf(int(w.ShimPid)) == "" || startOf(int(w.PayloadPid)) == "" {
		t.Error("shim or payload has ended with the pipe")
	}
}

// TestSessionThatGoesWhileOneAttaches: what is being removed is not started once more.
func TestSessionThatGoesWhileOneAttaches(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "h1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir) // as an attach does first
	if err := os.Rename(dir, dir+".gone"); err != nil {
		t.Fatal(err)
	}
	if err := startDaemon(dir, mayStart, nil); !errors.Is(err, errNoSession) {
		t.Errorf("%v", err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"start"}, {"start", "a"}, {"bogus"}, {"tunnel", "/x", "1"}} {
		out, err := exec.Command(program, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "usage:") {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
	if out, err := exec.Command(program, "version").Output(); err != nil || !strings.Contains(string(out), "protocol 1") {
		t.Errorf("version: %q, %v", out, err)
	}
	if out, err := exec.Command(program, "serve", "/").CombinedOutput(); err == nil || !strings.Contains(string(out), "only") {
		t.Errorf("serve by hand: %q, %v", out, err)
	}
}
