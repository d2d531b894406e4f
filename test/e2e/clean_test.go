//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// deafToTerm is a payload that only SIGKILL ends, and so outlives its shim.
const deafToTerm = `trap '' TERM; echo up; while :; do sleep 0.1; done`

// clean runs `mgmt-remote clean` on all hosts of the lab and returns what it said.
func (l *lab) clean(want int, more ...string) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), l.runFor)
	defer cancel()
	cmd := l.command(ctx, append([]string{"clean"}, l.args(more...)[1:]...)...)
	cmd.Env = l.env()
	out, err := cmd.CombinedOutput()
	code := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		l.t.Fatal(err)
	}
	if code != want {
		l.t.Fatalf("clean ended with %d, want %d:\n%s", code, want, out)
	}
	return string(out)
}

func wantSaid(t *testing.T, out string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(out, word) {
			t.Errorf("%q is not in\n%s", word, out)
		}
	}
}

// kill ends the initiator as a crash does, and waits until it is gone.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// shimOf returns the process of the session's shim.
func (h *host) shimOf(t *testing.T, run string) int {
	t.Helper()
	data, err := os.ReadFile(h.session(run) + "/shim.json")
	if err != nil {
		t.Fatal(err)
	}
	var record struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(data, &record); err != nil || record.PID < 2 {
		t.Fatalf("%s: %v", data, err)
	}
	return record.PID
}

// awaitDead waits until a process is gone or waits for its parent to notice.
func awaitDead(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(endFor); ; time.Sleep(20 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives", pid)
		}
	}
}

// TestCleanDeadSession kills initiator and shim. clean ends what the payload left and removes the session.
func TestCleanDeadSession(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	p := l.start(l.args("--json", "--", "sh", "-c", deafToTerm)...)
	p.awaitOutput("h1", "up")
	payload, run := p.awaitAttached("h1", 1).PID, p.runID()
	shim := h.shimOf(t, run)
	p.kill()
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitDead(t, shim)

	out := l.clean(0, "--dry-run", "--cache")
	wantSaid(t, out, "would be removed", "would be ended", run+"/h1", "/cache")
	if err := syscall.Kill(payload, 0); err != nil {
		t.Errorf("the payload after --dry-run: %v", err)
	}
	if _, err := os.Stat(h.session(run) + "/shim.json"); err != nil {
		t.Errorf("after --dry-run: %v", err)
	}
	h.checkCache(t)

	wantSaid(t, l.clean(0), "removed", "ended", run+"/h1", strconv.Itoa(payload))
	awaitDead(t, payload)
	h.checkCacheOnly(t, run)
	h.checkCache(t)

	wantSaid(t, l.clean(0, "--cache"), "removed", "/cache")
	h.checkNothing(t, run)
	wantSaid(t, l.clean(0), "nothing was left")
}

// TestCleanLiveSession holds that a session that lives is spared, also with --live while its initiator does.
func TestCleanLiveSession(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	p := l.start(l.args("--json", "--", "sh", "-c", `echo up; `+untilGo)...)
	p.awaitOutput("h1", "up")
	run := p.runID()
	shim := h.shimOf(t, run)

	wantSaid(t, l.clean(0, "--live", "--cache"), "left alone", "this machine drives it", "kept")
	p.kill()
	wantSaid(t, l.clean(0, "--cache"), "alive", "run "+run, "shim "+strconv.Itoa(shim), "kept")
	if err := syscall.Kill(shim, 0); err != nil {
		t.Errorf("the shim: %v", err)
	}
	wantSaid(t, l.clean(0, "--live", "--cache"), "stopped", "removed")
	awaitDead(t, shim)
	h.checkNothing(t, run)
}
