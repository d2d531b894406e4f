//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// background starts a run, or continues one, in the background and returns its ID and its initiator.
func (l *lab) background(args ...string) (run string, initiator *os.Process) {
	l.t.Helper()
	p := l.run(args...)
	p.wantCode(0)
	run = strings.TrimSpace(p.plain.String())
	if len(run) != 8 {
		l.t.Fatalf("printed %q", run)
	}
	initiator = l.initiatorOf(run)
	l.t.Cleanup(func() { _ = initiator.Kill() }) // usually gone
	return run, initiator
}

// initiatorOf returns the process that drives the run. It is no number, which may be that of another process as soon as this one has ended.
func (l *lab) initiatorOf(run string) *os.Process {
	l.t.Helper()
	data, err := os.ReadFile(filepath.Join(l.runDir(run), "initiator.json"))
	var tenure struct {
		Owner struct {
			PID int `json:"pid"`
		} `json:"owner"`
	}
	if err == nil {
		err = json.Unmarshal(data, &tenure)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	initiator, err := os.FindProcess(tenure.Owner.PID)
	if err != nil {
		l.t.Fatal(err)
	}
	return initiator
}

func (l *lab) runDir(run string) string { return filepath.Join(l.dir, "mgmt-remote", "runs", run) }

// TestDetach runs a fleet without a terminal and follows it from others.
func TestDetach(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	run, initiator := l.background(l.args("--detach", "--", publicSelf, "onceonly")...)
	if sid, err := sessionOf(initiator.Pid); err != nil || sid != initiator.Pid {
		t.Errorf("the initiator is in terminal session %d, %v", sid, err)
	}
	if st, err := os.Stat(filepath.Join(l.runDir(run), "initiator.log")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("its log: %v, %v", st, err)
	}
	first := l.start("attach", "--json")
	second := l.start("attach", run)
	if first.runID() != run {
		t.Errorf("attached to %s", first.runID())
	}
	for _, h := range l.hosts {
		first.awaitAnyOutput(h.name)
	}
	second.awaitStdout("h1") // a signal before it follows would just end it
	second.signal(syscall.SIGINT)
	second.wantCode(130)
	if got := second.stderr.String(); !strings.Contains(got, "goes on") {
		t.Errorf("said %q", got)
	}
	status := l.run("status", "--json")
	status.wantCode(0)
	if !strings.Contains(status.plain.String(), `"state":"running"`) {
		t.Errorf("status: %s", status.plain.String())
	}
	l.run("retry", run, "h1").wantCode(0)
	l.run("retry", run, "nobody").wantCode(1)
	for _, h := range l.hosts {
		h.goOn(t)
	}
	first.wantCode(0)
	first.wantOutcome("h1", "ok")
	first.wantOutcome("h2", "ok")
	awaitGone(t, initiator)

	after := l.run("attach", run)
	after.wantCode(0)
	if got := after.plain.String(); !strings.Contains(got, "h1") || !strings.Contains(got, "ok") {
		t.Errorf("its end: %s", got)
	}
	for _, h := range l.hosts {
		h.wantOneStart(t)
		l.wantWholeLog(t, run, h.name)
	}
	l.run("runs", "prune").wantCode(0)
	gone := l.run("attach", run)
	gone.wantCode(1)
	l.checkInitiator()
}

// TestDetachFails holds that what is wrong with a run that is to go on in the background is told at once, in the foreground.
func TestDetachFails(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	p := l.run("run", "--detach", "-H", "h1", "--converge", "nonsense", "--", "true")
	p.wantCode(1)
	if got := p.stderr.String(); strings.Count(got, "nonsense") != 1 {
		t.Errorf("said %q", got)
	}
}

// TestTakeOver has one initiator relieve another, which is well.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	first := l.start(l.args("--json", "--", publicSelf, "onceonly")...)
	run := first.runID()
	for _, h := range l.hosts {
		first.awaitAnyOutput(h.name)
	}
	second := l.start("resume", "--json", "--take-over", run)
	first.wantCode(5)
	for _, h := range l.hosts {
		first.wantOutcome(h.name, "taken over")
		second.awaitAnyOutput(h.name)
		h.goOn(t)
	}
	second.wantCode(0)
	for _, h := range l.hosts {
		second.wantOutcome(h.name, "ok")
		h.wantOneStart(t)
		h.checkCacheOnly(t, run)
	}
	l.checkInitiator()
}

// TestTakeOverFromAnotherMachine continues a run from a copy of its state, as it would be on another machine: hosts tell the old initiator,
// which leaves.
func TestTakeOverFromAnotherMachine(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	first := l.start(l.args("--json", "--", publicSelf, "onceonly")...)
	run := first.runID()
	for _, h := range l.hosts {
		first.awaitAnyOutput(h.name)
	}
	// A copy of a live etcd may be torn; that of one that holds still is not.
	first.signal(syscall.SIGSTOP)
	awaitStopped(t, first.cmd.Process.Pid)
	elsewhere := t.TempDir()
	there := filepath.Join(elsewhere, "mgmt-remote", "runs")
	if err := os.MkdirAll(there, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", l.runDir(run), there).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	first.signal(syscall.SIGCONT)
	tenure := filepath.Join(there, run, "initiator.json")
	data, err := os.ReadFile(tenure)
	if err != nil {
		t.Fatal(err)
	}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte(`"machine":"`+name+`"`), []byte(`"machine":"old-laptop"`), 1)
	if err := os.WriteFile(tenure, data, 0o600); err != nil {
		t.Fatal(err)
	}
	l.stateHome = elsewhere
	refused := l.run("resume", run)
	refused.wantCode(1)
	if got := refused.stderr.String(); !strings.Contains(got, "old-laptop") || !strings.Contains(got, "--take-over") {
		t.Errorf("said %q", got)
	}
	second := l.start("resume", "--json", "--take-over", run)
	first.wantCode(5)
	for _, h := range l.hosts {
		first.wantOutcome(h.name, "taken over")
		second.awaitAnyOutput(h.name)
		h.goOn(t)
	}
	second.wantCode(0)
	for _, h := range l.hosts {
		h.wantOneStart(t)
		h.checkCacheOnly(t, run)
	}
}

// TestResumeAllAndStop continues what was interrupted in the background, and stops one run that runs and one that nobody drives.
func TestResumeAllAndStop(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	var runs []string
	for range 2 {
		p := l.start(l.args("--json", "--keep-state", "--", "sh", "-c", counting)...)
		p.awaitAttached("h1", 1)
		runs = append(runs, p.runID())
		p.signal(syscall.SIGKILL)
		p.wantCode(-1)
	}
	p := l.run("resume", "--all")
	p.wantCode(0)
	got := strings.Fields(p.plain.String())
	if len(got) != 2 || strings.Join(got, " ") != runs[1]+" "+runs[0] { // the newest first
		t.Errorf("continued %q of %q", got, runs)
	}
	// One is killed again, and stopped by somebody who continues it for that; the other one is stopped as it runs.
	killed := l.initiatorOf(runs[0])
	if err := killed.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, killed)
	l.run("stop", runs[0]).wantCode(0)
	running := l.initiatorOf(runs[1])
	follower := l.start("attach", "--json", runs[1])
	follower.await("begin", func(e event) bool { return e.Type == "run_started" })
	l.run("stop", runs[1]).wantCode(0)
	follower.wantCode(0)
	follower.wantOutcome("h1", "canceled")
	awaitGone(t, running)
	for _, run := range runs {
		l.hosts[0].checkCacheOnly(t, run)
	}
}

func sessionOf(pid int) (int, error) {
	sid, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sid), nil
}

// awaitStopped waits until all threads of a process that was sent SIGSTOP hold still: one that was writing comes to the end of that first.
func awaitStopped(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(runFor); ; time.Sleep(time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(threads) == 0 {
			t.Fatalf("threads of process %d: %v, %v", pid, threads, err)
		}
		if !slices.ContainsFunc(threads, func(path string) bool {
			stat, err := os.ReadFile(path)
			return err == nil && !bytes.Contains(stat, []byte(") T ")) // none that ended meanwhile
		}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not stop", pid)
		}
	}
}

// awaitGone waits until a process that is no child of ours has ended.
func awaitGone(t *testing.T, p *os.Process) {
	t.Helper()
	deadline := time.Now().Add(runFor)
	for p.Signal(syscall.Signal(0)) == nil {
		if state, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Pid), "stat")); err == nil && bytes.Contains(state, []byte(") Z ")) {
			return // nobody reaps orphans in this container
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives", p.Pid)
		}
		time.Sleep(20 * time.Millisecond) // there is nothing to wait for: it is not our child
	}
}
