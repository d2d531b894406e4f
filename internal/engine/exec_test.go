package engine

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// once runs a definition with one exec named e until it is quiet or stuck, and returns its last event.
func once(t *testing.T, fields string, args ...any) Event {
	t.Helper()
	r := start(t, parse(t, "resources: {exec: [{name: e, "+fields+"}]}", args...), Options{})
	defer r.stop()
	r.until("an end", func() bool { return r.status() != Busy })
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) != 1 {
		t.Fatalf("events %+v", r.events)
	}
	return r.events[0]
}

func TestExec(t *testing.T) {
	dir := t.TempDir()
	if ev := once(t, `cmd: "echo  $HOME 'a b'"`); ev.Kind != Applied || ev.Output != "$HOME 'a b'\n" || ev.Change != "run echo $HOME 'a b'" {
		t.Errorf("without a shell: %+v", ev)
	}
	if ev := once(t, `cmd: "echo 'a  b' $X $PWD", shell: sh, env: {X: 7}, cwd: %s`, dir); ev.Output != "a  b 7 "+dir+"\n" {
		t.Errorf("with a shell: %+v", ev)
	}
	if ev := once(t, `cmd: echo, args: ["a  b", $X]`); ev.Output != "a  b $X\n" {
		t.Errorf("args: %+v", ev)
	}
	if ev := once(t, `cmd: echo, ifcmd: "exit 1", ifshell: sh`); ev.Kind != Checked {
		t.Errorf("condition says no: %+v", ev)
	}
	if ev := once(t, `cmd: echo, ifcmd: "true"`); ev.Kind != Applied {
		t.Errorf("condition says yes: %+v", ev)
	}
	if ev := once(t, `cmd: echo, ifcmd: /no/such/program`); ev.Kind != Failed || !strings.Contains(ev.Err.Error(), "ifcmd: ") {
		t.Errorf("condition fails: %+v", ev)
	}
	if ev := once(t, `cmd: echo, ifcmd: "kill -9 $$", ifshell: sh`); ev.Kind != Failed {
		t.Errorf("condition killed: %+v", ev)
	}
	if ev := once(t, `cmd: /no/such/program`); ev.Kind != Failed {
		t.Errorf("no such program: %+v", ev)
	}
	if ev := once(t, `cmd: "head -c 100000 /dev/zero; echo end", shell: sh`); len(ev.Output) != command.MaxOutput || !strings.HasSuffix(ev.Output, "end\n") {
		t.Errorf("long output: %d bytes", len(ev.Output))
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if ev := once(t, `cmd: "id -u; id -g", shell: sh, user: 12345, group: 54321`); ev.Output != "12345\n54321\n" {
			t.Errorf("as another user: %+v", ev)
		}
	}
	if ev := once(t, `cmd: id -u, user: no-such-user`); ev.Kind != Failed || !strings.Contains(ev.Err.Error(), "unknown user") {
		t.Errorf("unknown user: %+v", ev)
	}
	if ev := once(t, `cmd: id -u`); ev.Output != me.Uid+"\n" {
		t.Errorf("as myself: %+v", ev)
	}
}

// gone reports whether a process has ended; one that nobody has waited for yet counts as ended.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

func pidIn(t *testing.T, path string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// eventuallyGone gives the system a moment: a killed process is not gone at once.
func eventuallyGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !gone(pid) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("process %d lives on", pid)
		}
	}
}

func TestExecTimeoutEndsTheGroup(t *testing.T) {
	pidFile := in(t.TempDir(), "pid")
	for timeout := 1; ; timeout *= 2 {
		ev := once(t, `cmd: "echo said; sleep 1000 & echo $! >%[1]s.new; mv %[1]s.new %[1]s; wait", shell: sh, timeout: %[2]d`, pidFile, timeout)
		if ev.Kind != Failed || ev.Err.Error() != fmt.Sprintf("not done after %ds", timeout) {
			t.Errorf("timeout told as %+v", ev)
		}
		if read(t, pidFile) != "-" {
			if ev.Output != "said\n" {
				t.Errorf("output %q", ev.Output)
			}
			break
		}
		if t.Logf("%ds were too short for the command to begin", timeout); timeout > 60 {
			t.Fatal("it never begins")
		}
	}
	eventuallyGone(t, pidIn(t, pidFile))
}

// TestExecEndsWithTheEngine: even a command that ignores SIGTERM, and what it started.
func TestExecEndsWithTheEngine(t *testing.T) {
	dir := t.TempDir()
	r := start(t, parse(t, `resources: {exec: [{name: e, shell: sh, cmd: "trap '' TERM; (trap '' TERM; exec sleep 1000) & echo $! >%[1]s.new; mv %[1]s.new %[1]s; wait; sleep 1000"},
		{name: w, cmd: "true", ifcmd: "test -e %[1]s", watchcmd: "until test -e %[1]s; do sleep 0.01; done; echo; exec sleep 1000", watchshell: sh}]}`, in(dir, "pid")), Options{})
	r.untilCount("exec[w]", Applied, 1)
	r.stop()
	if n := r.count("exec[e]", Failed); n != 0 {
		t.Error("a command that we ended was told as failed")
	}
	eventuallyGone(t, pidIn(t, in(dir, "pid")))
}

// TestDaemonSurvives: what a command leaves in the background is no reason to wait, and not to be killed.
func TestDaemonSurvives(t *testing.T) {
	pidFile := in(t.TempDir(), "pid")
	if ev := once(t, `cmd: "sleep 1000 & echo $! >%s", shell: sh`, pidFile); ev.Kind != Applied {
		t.Errorf("told as %+v", ev)
	}
	pid := pidIn(t, pidFile)
	if gone(pid) {
		t.Error("the daemon was ended")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestWatchCommand(t *testing.T) {
	dir := t.TempDir()
	fifo := in(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, parse(t, `resources: {exec: [{name: e, cmd: echo, watchcmd: "cat %s"}]}`, fifo), Options{})
	r.untilCount("exec[e]", Applied, 1)
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // blocks until the watch command reads
	if err != nil {
		t.Fatal(err)
	}
	for n := 2; n <= 4; n++ {
		if _, err := w.WriteString("line\n"); err != nil {
			t.Fatal(err)
		}
		r.untilCount("exec[e]", Applied, n)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r.untilCount("exec[e]", WatchEnded, 1)
	if ev := r.last("exec[e]", WatchEnded); ev.Delay != watchRestart || !strings.Contains(ev.Err.Error(), "exit status 0") {
		t.Errorf("end of the watch command told as %+v", ev)
	}
	if w, err = os.OpenFile(fifo, os.O_WRONLY, 0); err != nil { // it runs again
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r.stop()
}

func TestPollInterval(t *testing.T) {
	r := start(t, parse(t, `resources: {exec: [{name: e, cmd: echo, ifcmd: "false", pollint: 1}]}`), Options{})
	r.untilCount("exec[e]", Checked, 2)
	r.stop()
}

func TestUnknownSpec(t *testing.T) {
	if _, err := New(&graph.Definition{Resources: []graph.Resource{{ID: graph.ID{Kind: "x", Name: "y"}}}}, Options{}); err == nil {
		t.Error("accepted a resource without a kind")
	}
	if _, err := New(&graph.Definition{}, Options{Parallel: -1}); err == nil {
		t.Error("accepted a negative Parallel")
	}
}

func TestCanceledBeforeTheStart(t *testing.T) {
	e, err := New(parse(t, "resources: {exec: [{name: e, cmd: sleep 1000}]}"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Run(ctx); err != nil {
		t.Error(err)
	}
}
