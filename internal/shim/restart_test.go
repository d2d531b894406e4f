package shim

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

var (
	well   = &wire.Exit{}
	badly  = &wire.Exit{Code: 1}
	killed = &wire.Exit{Code: -1, Signal: 9}
)

func TestBackoff(t *testing.T) {
	const s = time.Second
	ran := func(exit *wire.Exit, d time.Duration) func(*backoff) time.Duration {
		return func(b *backoff) time.Duration {
			delay, ok := b.next(exit, d)
			if !ok {
				return -1
			}
			return delay
		}
	}
	for name, tc := range map[string]struct {
		policy wire.Restart
		runs   []func(*backoff) time.Duration
		want   []time.Duration // -1: not again
	}{
		"nothing said":         {wire.Restart{}, []func(*backoff) time.Duration{ran(badly, 0)}, []time.Duration{-1}},
		"never":                {wire.Restart{Policy: "never"}, []func(*backoff) time.Duration{ran(killed, 0)}, []time.Duration{-1}},
		"on failure, well":     {wire.Restart{Policy: "on-failure"}, []func(*backoff) time.Duration{ran(badly, 0), ran(killed, 0), ran(well, 0)}, []time.Duration{s, 2 * s, -1}},
		"always":               {wire.Restart{Policy: "always"}, slices.Repeat([]func(*backoff) time.Duration{ran(well, 0)}, 8), []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s}},
		"well for a minute":    {wire.Restart{Policy: "always"}, []func(*backoff) time.Duration{ran(badly, 0), ran(badly, 59*s), ran(badly, 60*s), ran(badly, 0)}, []time.Duration{s, 2 * s, s, 2 * s}},
		"own delays":           {wire.Restart{Policy: "always", First: 3 * s, Max: 4 * s}, slices.Repeat([]func(*backoff) time.Duration{ran(well, 0)}, 3), []time.Duration{3 * s, 4 * s, 4 * s}},
		"first beyond max":     {wire.Restart{Policy: "always", First: 90 * s}, slices.Repeat([]func(*backoff) time.Duration{ran(well, 0)}, 2), []time.Duration{90 * s, 90 * s}},
		"limit":                {wire.Restart{Policy: "always", Limit: 2}, slices.Repeat([]func(*backoff) time.Duration{ran(well, 0)}, 3), []time.Duration{s, 2 * s, -1}},
		"limit of what failed": {wire.Restart{Policy: "on-failure", Limit: 1}, []func(*backoff) time.Duration{ran(badly, 0), ran(badly, 61*s), ran(badly, 0)}, []time.Duration{s, s, -1}},
	} {
		b := newBackoff(tc.policy)
		var got []time.Duration
		for _, run := range tc.runs {
			got = append(got, run(&b))
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestBackoffStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBackoff(wire.Restart{
			Policy: wire.RestartAlways, First: rapid.Custom(seconds).Draw(t, "first"), Max: rapid.Custom(seconds).Draw(t, "max"),
			Limit: rapid.IntRange(0, 5).Draw(t, "limit"),
		})
		for inRow := range 20 {
			delay, ok := b.next(badly, 0)
			if ok != (b.Limit == 0 || inRow < b.Limit) {
				t.Fatalf("restart %d: %v with limit %d", inRow, ok, b.Limit)
			}
			if ok && (delay < b.First || delay > b.Max) {
				t.Fatalf("delay %v is not within %v and %v", delay, b.First, b.Max)
			}
		}
	})
}

func seconds(t *rapid.T) time.Duration {
	return time.Duration(rapid.IntRange(0, 1000).Draw(t, "s")) * time.Second
}

// fakeRun ends after a while, or when it is told to.
type fakeRun struct {
	id    int
	lasts time.Duration
	exit  *wire.Exit
	told  chan struct{}
	rest  *[]int // the runs whose rest was ended
}

func (r *fakeRun) pid() int { return r.id }
func (r *fakeRun) wait() *wire.Exit {
	select {
	case <-time.After(r.lasts):
		return r.exit
	case <-r.told:
		return killed
	}
}
func (*fakeRun) signal(syscall.Signal) error { return nil }
func (r *fakeRun) end(context.Context, ...stage) error {
	close(r.told)
	return nil
}
func (r *fakeRun) endRest(context.Context, ...stage) error {
	*r.rest = append(*r.rest, r.id)
	return nil
}

// rig is a keeper of fake runs; start says how the next one goes.
type rig struct {
	*keeper
	starts []time.Duration // since the beginning
	told   []int           // process IDs that restarted was told
	rest   []int
}

func newRig(t *testing.T, policy wire.Restart, start func(n int) (*fakeRun, error)) *rig {
	r, began := &rig{}, time.Now()
	r.keeper = newKeeper(policy, func() (oneRun, error) {
		r.starts = append(r.starts, time.Since(began))
		f, err := start(len(r.starts))
		if err != nil {
			return nil, err
		}
		f.id, f.told, f.rest = len(r.starts), make(chan struct{}), &r.rest
		return f, nil
	}, func(pid int, _ *wire.Exit) { r.told = append(r.told, pid) }, &logger{w: t.Output()})
	return r
}

func TestKeeperStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, wire.Restart{Policy: wire.RestartOnFailure}, func(n int) (*fakeRun, error) {
			switch n {
			case 1:
				return &fakeRun{lasts: 5 * time.Second, exit: badly}, nil
			case 2, 3:
				return nil, errors.New("the program is being replaced")
			case 4:
				return &fakeRun{lasts: 100 * time.Second, exit: killed}, nil
			default:
				return &fakeRun{exit: well}, nil
			}
		})
		if err := r.begin(); err != nil {
			t.Fatal(err)
		}
		if exit := r.keep(); exit != well {
			t.Errorf("exit %v", exit)
		}
		const s = time.Second
		if want := []time.Duration{0, 6 * s, 8 * s, 12 * s, 113 * s}; !slices.Equal(r.starts, want) {
			t.Errorf("started after %v, want %v", r.starts, want)
		}
		if !slices.Equal(r.told, []int{4, 5}) || !slices.Equal(r.rest, []int{1, 1, 1, 4}) {
			t.Errorf("told of %v, ended the rest of %v", r.told, r.rest)
		}
	})
}

func TestKeeperGivesUpWhereNothingStartsAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, wire.Restart{Policy: wire.RestartAlways, Limit: 2}, func(n int) (*fakeRun, error) {
			if n > 1 {
				return nil, errors.New("gone")
			}
			return &fakeRun{exit: &wire.Exit{OutputEnd: 7}}, nil
		})
		if err := r.begin(); err != nil {
			t.Fatal(err)
		}
		if exit := r.keep(); exit.Error != "gone" || exit.OutputEnd != 7 || len(r.starts) != 3 {
			t.Errorf("exit %v after %d starts", exit, len(r.starts))
		}
	})
}

func TestKeeperStartsNothingAfterTheEnd(t *testing.T) {
	for name, after := range map[string]time.Duration{"while it runs": 5 * time.Second, "while it waits": 11 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, wire.Restart{Policy: wire.RestartAlways, First: time.Hour}, func(int) (*fakeRun, error) {
					return &fakeRun{lasts: 10 * time.Second, exit: badly}, nil
				})
				if err := r.begin(); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				time.AfterFunc(after, func() {
					if err := r.end(t.Context()); err != nil {
						t.Error(err)
					}
				})
				if exit := r.keep(); !failed(exit) {
					t.Errorf("exit %v", exit)
				}
				if took := time.Since(began); took != after || len(r.starts) != 1 {
					t.Errorf("%d starts, the end after %v", len(r.starts), took)
				}
				if err := r.begin(); !errors.Is(err, errEnough) {
					t.Errorf("started after the end: %v", err)
				}
			})
		})
	}
}

// counting is a session whose payload says the how manieth it is, and does what the script says then; $n is that number.
func counting(t *testing.T, text string) *session {
	t.Helper()
	s := newSession(t)
	file := filepath.Join(s.base, "n")
	s.spec.Argv = []string{"/bin/sh", "-c", "n=$(($(cat " + file + " 2>/dev/null || echo 0)+1)); echo $n >" + file + "; echo run $n; " + text}
	s.spec.Restart = wire.Restart{Policy: wire.RestartOnFailure, First: 50 * time.Millisecond}
	return s
}

func TestRestartKeepsTheSession(t *testing.T) {
	s := counting(t, `sleep 1000 & [ $n = 3 ] || { read -r _ < go; exit $n; }; echo "$ETCDCTL_ENDPOINTS"`)
	s.write()
	if err := syscall.Mkfifo(s.path("go"), 0o600); err != nil {
		t.Fatal(err)
	}
	ends, err := os.OpenFile(s.path("go"), os.O_RDWR, 0) // for both, so that what is written stays until it is read
	if err != nil {
		t.Fatal(err)
	}
	defer ends.Close()
	end := func() { // has the run end that the client knows of
		t.Helper()
		if _, err := ends.WriteString("\n"); err != nil {
			t.Fatal(err)
		}
	}
	c, w := s.welcome("start", nil)
	end()
	if w.Restarts != 0 {
		t.Errorf("welcome %v", w)
	}
	// Output, then the news of the restart, then output of the next run; offsets go on.
	var got strings.Builder
	pids := []int32{w.PayloadPid}
	for exit := (*wire.Exit)(nil); exit == nil; {
		switch k := c.recv().Kind.(type) {
		case *wire.Frame_Output:
			if int(k.Output.Offset) != got.Len() {
				t.Fatalf("output at %d, want %d", k.Output.Offset, got.Len())
			}
			got.Write(k.Output.Data)
		case *wire.Frame_Restarted:
			r := k.Restarted
			if want := int32(len(pids)); int32(r.Count) != want || r.Exit.Code != want || int(r.Exit.OutputEnd) > got.Len() {
				t.Errorf("restart %v behind %d bytes", r, got.Len())
			}
			pids = append(pids, r.PayloadPid)
			if len(pids) < 3 {
				end()
			}
		case *wire.Frame_Exit:
			exit = k.Exit
			if exit.Code != 0 || int(exit.OutputEnd) != got.Len() {
				t.Errorf("exit %v", exit)
			}
		default:
			t.Fatalf("got %v", k)
		}
	}
	if want := "run 1\nrun 2\nrun 3\nunix://" + s.path(endpointSocket) + "\n"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
	rec := s.record()
	if len(pids) != 3 || rec.Starts != 3 || rec.Payload.PID != int(pids[2]) {
		t.Errorf("process IDs %v, record %+v", pids, rec)
	}
	for _, pid := range pids[:2] {
		if (group{int(pid), int(w.ShimPid)}).alive() {
			t.Errorf("something of run %d is left", pid)
		}
	}
	_, w = s.welcome("attach", nil)
	if w.Restarts != 2 || w.PayloadPid != pids[2] || w.Exit == nil {
		t.Errorf("welcome %v", w)
	}
}

func TestRestartIsNotForWhatNeverStarted(t *testing.T) {
	s := newSession(t, "no-such-program-anywhere")
	s.spec.Restart.Policy = wire.RestartAlways
	s.write()
	c, _ := s.welcome("start", nil)
	if _, _, exit := c.collect(0); exit.Error == "" {
		t.Errorf("exit %v", exit)
	}
}

// TestEndWhileWaitingToRestart: whatever ends a session, it is at once, with the last exit.
func TestEndWhileWaitingToRestart(t *testing.T) {
	for name, end := range map[string]func(*session, *client, *wire.Welcome){
		"finish":  func(_ *session, c *client, _ *wire.Welcome) { c.finish(3600_000, 3600_000, false) },
		"SIGTERM": func(s *session, _ *client, w *wire.Welcome) { s.terminate(w) },
	} {
		t.Run(name, func(t *testing.T) {
			s := counting(t, "exit 9")
			s.spec.Restart.First = time.Hour
			s.write()
			c, w := s.welcome("start", nil)
			c.outputUntil("run 1\n")
			s.gone(int(w.PayloadPid))
			end(s, c, w)
			if _, _, exit := c.collect(6); exit.Code != 9 {
				t.Errorf("exit %v", exit)
			}
			if n := s.record().Starts; n != 1 {
				t.Errorf("started %d times", n)
			}
		})
	}
}

func TestOrphanWhileWaitingToRestart(t *testing.T) {
	t.Parallel() // it takes its time
	s := counting(t, "exit 9")
	s.spec.Restart.First, s.spec.OrphanTimeout = time.Hour, orphanTimeout
	s.write()
	c, w := s.welcome("start", nil)
	c.kill()
	s.gone(int(w.ShimPid))
	s.nothingLeft(s.dir)
}

// TestDeadShimRestartsNothing: the policy is the living shim's alone.
func TestDeadShimRestartsNothing(t *testing.T) {
	s := counting(t, "exec sleep 1000")
	s.spec.Restart.Policy = wire.RestartAlways
	s.write()
	c, w := s.welcome("start", nil)
	c.outputUntil("run 1\n")
	if err := syscall.Kill(int(w.PayloadPid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if f := c.recv(); f.GetRestarted().GetExit().GetSignal() != int32(syscall.SIGKILL) {
		t.Fatalf("got %v", f)
	}
	c.outputUntil("run 2\n")
	s.killShim()
	c, w = s.welcome("start", nil)
	if w.StartedNow || w.Restarts != 1 || w.Exit.GetError() == "" {
		t.Errorf("welcome %v", w)
	}
	if out, _, _ := c.collect(0); out != "run 1\nrun 2\n" {
		t.Errorf("output %q", out)
	}
	if data, err := os.ReadFile(filepath.Join(s.base, "n")); err != nil || strings.TrimSpace(string(data)) != strconv.Itoa(2) {
		t.Errorf("%q runs, %v", data, err)
	}
}
