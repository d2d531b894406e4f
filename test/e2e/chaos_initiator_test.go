//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
)

// TestChaosInitiatorKilled kills the initiator (SIGKILL) as each of the nine steps of a host begins that is a tenth of a second away, and has
// another one continue: so that each step is still on its way when the program goes.
func TestChaosInitiatorKilled(t *testing.T) {
	t.Parallel()
	for i, step := range []string{"connect", "make directory", "copy", "tunnel", "run", "finish", "close tunnel", "clean up", "disconnect"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			l := newNetLab(t, 2)
			l.late(0, 100*time.Millisecond)
			var first *process
			ready := make(chan struct{})
			first = l.startWith(func(e event) bool {
				if e.Type == "step_started" && e.Host == "h1" && e.Step == step {
					<-ready
					first.signal(syscall.SIGKILL)
				}
				return true
			}, l.args("--json", "--keep-state", "--", publicSelf, "onceonly")...)
			close(ready)
			run := first.runID()
			later := l.hosts
			if i >= 5 { // the payload has to end for these, and the other must not: or the run might be over before it is killed
				for _, h := range l.hosts {
					first.awaitOutput(h.name, "1\n")
				}
				l.hosts[0].goOn(t)
				later = l.hosts[1:]
			}
			first.wantCode(-1)

			second := l.start("resume", "--json", run)
			for _, h := range later {
				second.awaitAnyOutput(h.name)
				h.goOn(t)
			}
			second.wantCode(0)
			end := second.await("run_finished", func(e event) bool { return e.Type == "run_finished" })
			if end.Run != run || len(end.Results) != len(l.hosts) {
				t.Errorf("%+v", end)
			}
			for _, r := range end.Results {
				if r.Outcome != "ok" {
					t.Errorf("%+v", r)
				}
			}
			for _, h := range l.hosts {
				h.wantOneStart(t)
				l.wantWholeLog(t, run, h.name)
				h.checkCacheOnly(t, run)
			}
		})
	}
}

// TestChaosNothingGrows loses the same connection again and again. What the initiator and the host hold for it, goroutines, descriptors,
// processes and sockets, is the same before and after.
func TestChaosNothingGrows(t *testing.T) {
	t.Parallel()
	const losses = 12
	l := newNetLab(t, 2)
	h := l.hosts[0]
	r := l.startSteady()
	run := r.runID()
	// Only a dying program says how many goroutines it has; the next one goes on with the run, and is in the same state.
	calm := r.dumpGoroutines()

	r.process = l.start("resume", "--json", run)
	r.awaitWell("h1", 0)
	r.awaitWell("h2", 0)
	descriptors, processes, sockets := r.descriptors(), h.processes(t), h.tunnelSockets(t, run)
	for range losses {
		from := len(r.all())
		if h.KillSessions() == 0 {
			t.Error("there was no session")
		}
		r.awaitFrom(from, "h1 is in trouble", func(e event) bool { return e.Type == "host_troubled" && e.Host == "h1" })
		l.run("retry", run).wantCode(0) // the delays grow, and are not what this is about
		r.awaitWell("h1", from)
	}
	// What a loss leaves behind for good is there a dozen times; requests in flight and a connection that is just being closed are few.
	const few = losses / 2
	for what, now := range map[string][2]int{
		"descriptors of the initiator": {descriptors, r.descriptors()},
		"processes on the host":        {processes, h.processes(t)},
		"sockets of tunnels":           {sockets, h.tunnelSockets(t, run)},
		"goroutines of the initiator":  {calm, r.dumpGoroutines()},
	} {
		t.Logf("%s: %d before, %d after %d losses", what, now[0], now[1], losses)
		if now[1] > now[0]+few {
			t.Errorf("%s: %d before, %d after %d losses", what, now[0], now[1], losses)
		}
	}

	r.process = l.start("resume", "--json", run)
	for _, h := range l.hosts {
		r.awaitPut(h.name, 0)
		h.goOn(t)
	}
	r.wantCode(0)
	for _, h := range l.hosts {
		r.wantOutcome(h.name, "ok")
		if now := r.awaitAttached(h.name, 1); now.PID != r.first[h.name].PID {
			t.Errorf("%s: first %+v, at last %+v", h.name, r.first[h.name], now)
		}
		h.checkCacheOnly(t, run)
	}
	// A program that was killed leaves its own temporary files.
	if left, err := filepath.Glob(filepath.Join(l.dir, "mgmt-remote/runs/*")); err != nil || len(left) > 0 {
		t.Errorf("left of the initiator: %q, %v", left, err)
	}
}

// dumpGoroutines ends the program with a list of its goroutines (SIGQUIT), and returns how many there are.
func (p *process) dumpGoroutines() int {
	p.t.Helper()
	p.signal(syscall.SIGQUIT)
	<-p.ended
	n := bytes.Count([]byte(p.stderr.String()), []byte("\ngoroutine "))
	if n < 10 {
		p.t.Errorf("the program has %d goroutines:\n%s", n, p.stderr)
	}
	return n
}

// descriptors is how many files and sockets the program has open.
func (p *process) descriptors() int {
	p.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(entries)
}

// processes is how many there are on the host that sshd started, its own sessions included.
func (h *host) processes(t *testing.T) int {
	t.Helper()
	ps, err := leftovers.Processes(h.Home)
	if err != nil {
		t.Fatal(err)
	}
	return len(slices.DeleteFunc(ps, h.Owns))
}

// tunnelSockets is how many sockets for tunnels there are in the host's session.
func (h *host) tunnelSockets(t *testing.T, run string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(h.VarTmp, "mgmt-remote-"+strconv.Itoa(os.Getuid()), run, h.name, "etcd.*.sock"))
	if err != nil || len(names) == 0 {
		t.Errorf("sockets %q, %v", names, err)
	}
	return len(names)
}
