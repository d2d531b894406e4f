//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestStayThroughRefusal has a host refuse us after it was well: a run that stays tries again, rarely, and the payload goes on.
// One that refuses us from the beginning is given up, so that no account is hammered.
func TestStayThroughRefusal(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	h, never := l.hosts[0], l.hosts[1]
	if err := os.WriteFile(filepath.Join(filepath.Dir(never.KeyFile), "authorized_keys"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := l.start(l.args("--json", "--stay", "--", "sh", "-c", counting)...)
	first := p.awaitAttached("h1", 1)
	if r := p.result("h2"); r.Outcome != "failed" || r.Attempts != 1 {
		t.Errorf("a host that never let us in: %+v", r)
	}
	keys := filepath.Join(filepath.Dir(h.KeyFile), "authorized_keys")
	good, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keys, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if h.KillSessions() == 0 {
		t.Error("there was no session")
	}
	refused := p.await("refused", func(e event) bool { return e.Type == "host_troubled" && e.Host == "h1" && e.Kind == "denied" })
	if !refused.Retry || time.Duration(refused.RetryIn) < 2*time.Minute {
		t.Errorf("%+v", refused)
	}
	if err := syscall.Kill(first.PID, 0); err != nil {
		t.Errorf("the payload: %v", err)
	}
	// A stop does not wait for the next attempt. It needs to be let in to end the payload.
	if err := os.WriteFile(keys, good, 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGINT)
	p.wantCode(130)
	if r := p.result("h1"); r.LeftBehind != "" {
		t.Errorf("%+v", r)
	}
	h.checkCacheOnly(t, p.runID())
	l.checkInitiator()
}
