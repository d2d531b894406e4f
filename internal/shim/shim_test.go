package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

func TestRunToTheEnd(t *testing.T) {
	s := script(t, `echo out; echo err >&2; echo "$ETCDCTL_ENDPOINTS $MGMT_REMOTE_RUN $MGMT_REMOTE_HOST $PWD $X"; umask; exit 3`)
	s.spec.Env = []string{"X=at @E@"}
	s.spec.EndpointMark = "@E@"
	s.spec.RemoveBase = true
	s.write()
	c, w := s.welcome("start", nil)
	if !w.StartedNow || w.Nonce != "nonce-1" || w.BootId != bootID() || w.Version != 1 || w.PayloadPid == 0 {
		t.Errorf("welcome %v", w)
	}
	out, _, exit := c.collect(0)
	endpoint := "unix://" + s.path(endpointSocket)
	for _, want := range []string{"out\n", "err\n", fmt.Sprintf("%s run1 h1 %s at %s\n", endpoint, s.dir, endpoint)} {
		if !strings.Contains(out, want) {
			t.Errorf("output %q lacks %q", out, want)
		}
	}
	if exit.Code != 3 || exit.Signal != 0 || exit.Error != "" || exit.MaxRssKib == 0 {
		t.Errorf("exit %v", exit)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if fi, err := e.Info(); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), fi.Mode(), err)
		}
	}
	if data, err := os.ReadFile(s.path(recordFile)); err != nil || strings.Contains(string(data), s.spec.Token) || strings.Count(string(data), "\n") != 1 {
		t.Errorf("record %q, %v: want one line without the token", data, err)
	}
	c.cleanUp()
	s.gone(int(w.ShimPid))
	s.nothingLeft(s.base)
}

func TestConcurrentStartsStartOnce(t *testing.T) {
	s := newSession(t)
	count := filepath.Join(s.base, "starts")
	s.spec.Argv = []string{"/bin/sh", "-c", "echo started >>" + count + "; exec sleep 1000"}
	s.write()
	const n = 8
	var wg sync.WaitGroup
	welcomes := make([]*wire.Welcome, n)
	for i := range n {
		wg.Go(func() {
			c := s.pipe("start")
			if err := c.conn.Send(&wire.Frame{Kind: &wire.Frame_Hello{Hello: s.hello()}}); err != nil {
				t.Error(err)
				return
			}
			f, err := c.conn.Recv()
			if err != nil {
				t.Error(err)
				return
			}
			welcomes[i] = f.GetWelcome()
		})
	}
	wg.Wait()
	now := 0
	for _, w := range welcomes {
		if w.GetPayloadPid() == 0 || w.GetPayloadPid() != welcomes[0].GetPayloadPid() {
			t.Errorf("welcome %v", w)
		}
		if w.GetStartedNow() {
			now++
		}
	}
	// The welcome says that the shell was started, not how far it is.
	eventually(t, "a start", func() bool { fi, err := os.Stat(count); return err == nil && fi.Size() > 0 })
	if data, err := os.ReadFile(count); err != nil || string(data) != "started\n" || now != 1 {
		t.Errorf("starts: %q, %v; %d were told that they started it", data, err, now)
	}
}

func TestPayloadSurvivesItsConnection(t *testing.T) {
	s := newSession(t)
	fifo := filepath.Join(s.base, "go")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s.spec.Argv = []string{"/bin/sh", "-c", "echo one; read x <" + fifo + "; echo two; exit 0"}
	s.write()
	c, w := s.welcome("start", nil)
	c.outputUntil("one\n")
	c.kill()
	if err := os.WriteFile(fifo, []byte("x\n"), 0o600); err != nil { // it goes on alone
		t.Fatal(err)
	}
	eventually(t, "exit recorded", func() bool { e, err := loadExit(s.dir); return err == nil && e != nil })
	c, w2 := s.welcome("attach", func(h *wire.Hello) { h.OutputFrom = 2 })
	if w2.PayloadPid != w.PayloadPid || w2.ShimPid != w.ShimPid || w2.StartedNow {
		t.Errorf("second welcome %v after %v", w2, w)
	}
	if out, gaps, exit := c.collect(2); out != "e\ntwo\n" || gaps != nil || exit.Code != 0 {
		t.Errorf("got %q, %v, %v", out, gaps, exit)
	}
	c, w3 := s.welcome("attach", nil)
	if w3.Exit == nil || w3.Exit.OutputEnd != 8 {
		t.Errorf("third welcome %v", w3)
	}
	c.collect(0)
	c.cleanUp()
}

func TestOutputGoesAsFarAsCredit(t *testing.T) {
	s := script(t, `printf 0123456789; printf abcdefghij`)
	s.write()
	c, _ := s.welcome("start", func(h *wire.Hello) { h.Credit = 4 })
	eventually(t, "exit recorded", func() bool { e, err := loadExit(s.dir); return err == nil && e != nil })
	var got strings.Builder
	for limit := 4; ; limit = min(limit+3, 20) {
		for got.Len() < limit {
			o := c.recv().GetOutput()
			if o == nil || int(o.Offset) != got.Len() {
				t.Fatalf("got %v at %d", o, got.Len())
			}
			got.Write(o.Data)
		}
		// Nothing comes without credit: the next frame is the answer to the ping.
		c.send(&wire.Frame{Kind: &wire.Frame_Ping{Ping: &wire.Ping{Id: uint64(limit)}}})
		if limit == 20 {
			break
		}
		if p := c.recv().GetPong(); p == nil || int(p.Id) != limit || got.Len() != limit {
			t.Fatalf("at credit %d: %d bytes, then %v", limit, got.Len(), p)
		}
		c.send(&wire.Frame{Kind: &wire.Frame_Credit{Credit: &wire.Credit{Limit: uint64(min(limit+3, 20))}}})
	}
	if got.String() != "0123456789abcdefghij" {
		t.Errorf("got %q", got.String())
	}
}

func TestCapIsReportedAsGap(t *testing.T) {
	s := script(t, `i=0; while [ $i -lt 4000 ]; do echo "line $i of many lines"; i=$((i+1)); done`)
	s.spec.OutputCap = 16 << 10
	s.write()
	c, _ := s.welcome("start", func(h *wire.Hello) { h.Credit = 0 })
	eventually(t, "exit recorded", func() bool { e, err := loadExit(s.dir); return err == nil && e != nil })
	c.send(&wire.Frame{Kind: &wire.Frame_Credit{Credit: &wire.Credit{Limit: 1 << 40}}})
	out, gaps, _ := c.collect(0)
	if len(gaps) == 0 || gaps[0].From != 0 || !strings.HasSuffix(out, "line 3999 of many lines\n") || len(out) > 32<<10 || len(out) < 1<<10 {
		t.Errorf("%d bytes, gaps %v", len(out), gaps)
	}
}

func TestNewestAttachWins(t *testing.T) {
	s := newSession(t, "sleep", "1000")
	s.write()
	first, _ := s.welcome("start", nil)
	second, _ := s.welcome("attach", nil)
	if r := first.recv().GetRefused(); r.GetReason() != wire.Refused_EVICTED {
		t.Errorf("the first got %v", r)
	}
	if err := first.cmd.Wait(); err != nil {
		t.Errorf("the first pipe process: %v", err)
	}
	if _, f := s.attach("attach", func(h *wire.Hello) { h.Token = "guess" }); f.GetRefused().GetReason() != wire.Refused_BAD_TOKEN {
		t.Errorf("a wrong token got %v", f)
	}
	if _, f := s.attach("attach", func(h *wire.Hello) { h.MinVersion, h.MaxVersion = 9, 12 }); f.GetRefused().GetReason() != wire.Refused_VERSION {
		t.Errorf("a version from the future got %v", f)
	}
	if _, f := s.attach("attach", func(h *wire.Hello) { h.Fence = 4 }); f.GetRefused().GetReason() != wire.Refused_FENCED {
		t.Errorf("an old fencing token got %v", f)
	}
	second.send(&wire.Frame{Kind: &wire.Frame_Ping{Ping: &wire.Ping{Id: 1}}}) // none of them did it harm
	if second.recv().GetPong() == nil {
		t.Error("no pong")
	}
	s.welcome("attach", func(h *wire.Hello) { h.Fence = 6 })
	if r := second.recv().GetRefused(); r.GetReason() != wire.Refused_FENCED {
		t.Errorf("the one that was taken over from got %v", r)
	}
	// The fencing token outlives the shim.
	s.killShim()
	if _, f := s.attach("attach", nil); f.GetRefused().GetReason() != wire.Refused_FENCED {
		t.Errorf("the old fencing token got %v", f)
	}
}

func TestFinishEscalates(t *testing.T) {
	s := script(t, `trap 'echo int' INT; trap 'echo term' TERM; echo ready; while :; do sleep 1000 & wait; done`)
	s.write()
	c, w := s.welcome("start", nil)
	c.outputUntil("ready\n")
	// The time between the first two signals goes by alone. SIGKILL follows when the payload has said that they came.
	c.finish(300, 3600_000, false)
	if out := c.outputUntil("term\n"); out != "int\nterm\n" {
		t.Errorf("got %q", out)
	}
	c.finish(0, 300, false)
	if _, _, exit := c.collect(15); exit.Code != -1 || exit.Signal != int32(syscall.SIGKILL) {
		t.Errorf("exit %v", exit)
	}
	if g := (group{int(w.PayloadPid), int(w.ShimPid)}); g.alive() {
		t.Error("somebody of the group is left")
	}
}

func TestFinishGoesOnWithoutInitiator(t *testing.T) {
	s := script(t, `trap '' INT; echo ready; sleep 1000`)
	s.write()
	c, w := s.welcome("start", nil)
	c.outputUntil("ready\n")
	c.finish(200, 200, true)
	c.send(&wire.Frame{Kind: &wire.Frame_Ping{Ping: &wire.Ping{Id: 1}}})
	if f := c.recv(); f.GetPong() == nil && f.GetExit() == nil { // either tells that the shim has read it
		t.Fatalf("got %v", f)
	}
	c.kill()
	s.gone(int(w.PayloadPid))
	s.gone(int(w.ShimPid))
	s.nothingLeft(filepath.Join(s.base, "run1"))
}

func TestLaterFinishIsQuicker(t *testing.T) {
	s := script(t, `trap '' INT TERM; echo ready; while :; do sleep 1000; done`)
	s.write()
	c, _ := s.welcome("start", nil)
	c.outputUntil("ready\n")
	c.finish(3600_000, 0, false)
	c.finish(0, 0, true)
	if _, _, exit := c.collect(6); exit.Signal != int32(syscall.SIGKILL) {
		t.Errorf("exit %v", exit)
	}
	if u := c.recv().GetCleanedUp(); u == nil || u.Error != "" {
		t.Errorf("got %v, want a clean-up", u)
	}
}

// TestLaterFinishIsNeverSlower: whoever leaves after having asked for the payload's death does not take that back.
func TestLaterFinishIsNeverSlower(t *testing.T) {
	s := script(t, `trap '' INT TERM; echo ready; while :; do sleep 1000; done`)
	s.write()
	c, _ := s.welcome("start", nil)
	c.outputUntil("ready\n")
	c.finish(500, 500, false)
	c.finish(3600_000, 3600_000, true)
	if _, _, exit := c.collect(6); exit.Signal != int32(syscall.SIGKILL) {
		t.Errorf("exit %v", exit)
	}
	if u := c.recv().GetCleanedUp(); u == nil || u.Error != "" {
		t.Errorf("got %v, want a clean-up", u)
	}
}

func TestDescendantsDontDelayTheExit(t *testing.T) {
	s := script(t, `sleep 1000 & echo $!; exit 7`)
	s.write()
	c, _ := s.welcome("start", nil)
	out, _, exit := c.collect(0) // within patience, which is less than the descendant lives
	if exit.Code != 7 {
		t.Errorf("exit %v", exit)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || startOf(pid) == "" {
		t.Fatalf("the descendant %d is not there (%v)", pid, err)
	}
	c.cleanUp()
	s.gone(pid)
}

// An engine gives each of its commands a process group of its own.
func TestDescendantsInOtherGroupsAreEndedToo(t *testing.T) {
	s := script(t, `exec bash -c 'set -m; sleep 1000 & echo $!'`)
	s.write()
	c, w := s.welcome("start", nil)
	out, _, _ := c.collect(0)
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || startOf(pid) == "" {
		t.Fatalf("the descendant %d is not there (%v)", pid, err)
	}
	if pgid, err := syscall.Getpgid(pid); err != nil || pgid == int(w.PayloadPid) {
		t.Fatalf("the descendant is in group %d (%v): this tests nothing", pgid, err)
	}
	c.cleanUp()
	s.gone(pid)
}

func TestShimKilled(t *testing.T) {
	s := script(t, `trap 'echo got term >`+"term"+`; exit 0' TERM; (trap '' TERM; echo ready; exec sleep 1000) & while :; do wait; done`)
	s.write()
	c, w := s.welcome("start", nil)
	c.outputUntil("ready\n")
	if err := syscall.Kill(int(w.ShimPid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.gone(int(w.PayloadPid)) // by the parent-death signal
	s.unserved()
	if data, err := os.ReadFile(s.path("term")); err != nil || string(data) != "got term\n" {
		t.Errorf("the payload's trap: %q, %v", data, err)
	}
	g := group{int(w.PayloadPid), int(w.ShimPid)}
	if !g.alive() {
		t.Fatal("the descendant that ignores SIGTERM should still be there")
	}
	c, w2 := s.welcome("start", nil)
	if w2.PayloadPid != w.PayloadPid || w2.ShimPid == w.ShimPid || w2.StartedNow || w2.Exit.GetError() == "" || w2.Nonce != "nonce-1" {
		t.Errorf("welcome %v", w2)
	}
	if g.alive() {
		t.Error("the group was not ended before the welcome")
	}
	if out, _, exit := c.collect(0); out != "ready\n" || exit.Code != -1 {
		t.Errorf("got %q, %v", out, exit)
	}
	c.cleanUp()
	s.nothingLeft(filepath.Join(s.base, "run1"))
}

func TestCrashBetweenRecordAndStartIsNoSecondStart(t *testing.T) {
	s := script(t, `echo never`)
	s.write()
	if err := os.WriteFile(s.path(recordFile), nil, 0o600); err != nil { // torn by a power failure
		t.Fatal(err)
	}
	c, w := s.welcome("start", nil)
	if out, _, exit := c.collect(0); out != "" || exit.Error == "" || w.PayloadPid != 0 || w.StartedNow {
		t.Errorf("welcome %v, output %q, exit %v", w, out, exit)
	}
}

// TestHostShutDown: who is attached hears of the end, and so does the next one.
func TestHostShutDown(t *testing.T) {
	s := script(t, `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done`)
	s.spec.Restart.Policy = wire.RestartAlways // not against the host's will
	s.write()
	c, w := s.welcome("start", nil)
	c.outputUntil("ready\n")
	s.terminate(w)
	for _, attached := range []bool{true, false} {
		out, _, exit := c.collect(map[bool]uint64{true: 6}[attached])
		if !strings.HasSuffix(out, "bye\n") || exit.Code != 0 || !exit.ShutDown || !strings.Contains(exit.Error, "shut down") {
			t.Errorf("attached %v: got %q, %v", attached, out, exit)
		}
		if attached {
			s.gone(int(w.ShimPid))
			s.unserved()
			c, _ = s.welcome("start", nil)
		}
	}
	if starts := s.record().Starts; starts != 1 {
		t.Errorf("started %d times", starts)
	}
	c.cleanUp()
}

// TestHostShutDownIsBounded: a payload that ignores SIGTERM gets SIGKILL before the system's own patience is over.
func TestHostShutDownIsBounded(t *testing.T) {
	t.Parallel() // it takes its time
	s := script(t, `trap '' TERM; echo ready; while :; do sleep 1000; done`)
	s.write()
	c, w := s.welcome("start", nil)
	c.outputUntil("ready\n")
	c.kill()
	s.terminate(w)
	s.gone(int(w.ShimPid)) // within patience, where systemd's is 90 seconds
	if exit, err := loadExit(s.dir); err != nil || exit.GetSignal() != int32(syscall.SIGKILL) || !strings.Contains(exit.GetError(), "shut down") {
		t.Errorf("exit record %v, %v", exit, err)
	}
}

func (s *session) terminate(w *wire.Welcome) {
	s.t.Helper()
	if err := syscall.Kill(int(w.ShimPid), syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
}

func TestOrphanEnds(t *testing.T) {
	t.Parallel() // it takes its time
	s := newSession(t, "sleep", "1000")
	s.spec.OrphanTimeout = orphanTimeout
	s.write()
	c, w := s.welcome("start", nil)
	c.kill()
	s.gone(int(w.ShimPid))
	s.gone(int(w.PayloadPid))
	s.nothingLeft(filepath.Join(s.base, "run1"))
	if _, err := os.Stat(s.base); err != nil {
		t.Errorf("the base is only removed on request: %v", err)
	}
}

func TestPayloadThatCantBeStarted(t *testing.T) {
	noShebang := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(noShebang, []byte("\x7fnot a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ argv0, want string }{
		"missing":        {filepath.Join(t.TempDir(), "program"), "does not exist"},
		"not in PATH":    {"no-such-program-anywhere", "PATH"},
		"not executable": {"/etc/passwd", "not executable"},
		"not a program":  {noShebang, "another system"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t, tc.argv0)
			s.write()
			c, w := s.welcome("start", nil)
			if w.PayloadPid != 0 || !strings.Contains(w.Exit.GetError(), tc.want) || w.Exit.Code != -1 {
				t.Errorf("welcome %v", w)
			}
			if _, _, exit := c.collect(0); exit.Error != w.Exit.Error {
				t.Errorf("exit %v", exit)
			}
			c.cleanUp()
		})
	}
}

func TestRefusedBeforeAnythingIsStarted(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*session)
		command string
		want    wire.Refused_Reason
		text    string
	}{
		"attach to nothing": {(*session).write, "attach", wire.Refused_NO_SESSION, "nothing was started"},
		"no spec":           {func(*session) {}, "start", wire.Refused_NO_SESSION, "session.json"},
		"no directory":      {func(s *session) { s.dir += "x" }, "start", wire.Refused_NO_SESSION, "no directory"},
		"open directory": {func(s *session) {
			s.write()
			if err := os.Chmod(s.dir, 0o755); err != nil {
				s.t.Fatal(err)
			}
		}, "start", wire.Refused_START_FAILED, "open to others"},
		"no token":     {func(s *session) { s.spec.Token = ""; s.write() }, "start", wire.Refused_START_FAILED, "token"},
		"long path":    {func(s *session) { s.deepen(120); s.write() }, "start", wire.Refused_START_FAILED, "shorter prefix"},
		"foreign host": {func(s *session) { s.spec.Endpoint = "pigeon"; s.write() }, "start", wire.Refused_START_FAILED, "pigeon"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSession(t, "true")
			tc.prepare(s)
			c := s.pipe(tc.command)
			r := c.recv().GetRefused()
			if r.GetReason() != tc.want || !strings.Contains(r.GetText(), tc.text) {
				t.Errorf("got %v", r)
			}
			if strings.Contains(r.GetText(), "secret-token") {
				t.Error("the token is in the text")
			}
			if _, started, _ := loadRecord(s.dir); started {
				t.Error("the session counts as started")
			}
		})
	}
}

// deepen makes the session directory's path n bytes longer.
func (s *session) deepen(n int) {
	s.dir = filepath.Join(s.dir, strings.Repeat("d", n))
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
}

func TestLongPathsAreNothingToOwnSockets(t *testing.T) {
	s := newSession(t, "true")
	s.deepen(120)
	s.spec.Endpoint = wire.EndpointTCP
	s.write()
	c, _ := s.welcome("start", nil)
	if _, _, exit := c.collect(0); exit.Code != 0 || exit.Error != "" {
		t.Errorf("exit %v", exit)
	}
	c.cleanUp()
}

func TestNothingForeignIsRemoved(t *testing.T) {
	s := newSession(t, "true")
	s.write()
	c, _ := s.welcome("start", nil)
	c.collect(0)
	other := s.spec
	other.Host = "h2"
	s.spec = other
	s.write() // the directory became somebody else's
	c.send(&wire.Frame{Kind: &wire.Frame_AckExit{AckExit: &wire.AckExit{CleanUp: true}}})
	if u := c.recv().GetCleanedUp(); u == nil || !strings.Contains(u.Error, "h2") {
		t.Errorf("got %v", u)
	}
	if _, err := os.Stat(s.dir); err != nil {
		t.Errorf("the directory: %v", err)
	}
}
