//go:build linux

package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// untilSeen is a definition that is applied when the host has the file seen.
const untilSeen = `graph: seen
resources:
  exec:
  - {name: wait, cmd: "until test -e /var/tmp/seen; do sleep 0.02; done", shell: /bin/sh, state: present}
`

// TestOneConnection allows one host at a time; each ends by its own convergence, since the group is never there at once.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	var most int
	var p *process
	ready := make(chan struct{})
	busy, connected := map[string]bool{}, map[string]int{}
	see := func(e event) bool {
		<-ready
		if e.Type == "state_changed" {
			most = max(most, established(t, p.cmd.Process.Pid))
		}
		switch {
		case e.Type == "state_changed" && (e.State == "Connecting" || e.State == "Running"):
			busy[e.Host] = true
		case e.Type == "state_changed" && e.State == "Done":
			delete(busy, e.Host)
		case e.Type == "payload_started": // its connection has been seen now; or it might all be over before anything is
			connected[e.Host] = established(t, p.cmd.Process.Pid)
			l.host(e.Host).write(t, "/var/tmp/seen", "")
		}
		if len(busy) > 1 {
			t.Errorf("at work together: %v", busy)
		}
		return true
	}
	p = l.startWith(see, l.args("--json", "--max-connections", "1", "--converged-timeout", "200ms", l.file("seen.yaml", untilSeen, 0o600))...)
	close(ready)
	p.wantCode(0)
	if most > 1 {
		t.Errorf("%d connections at once", most)
	}
	converged := map[string]bool{}
	for _, e := range p.all() {
		if e.Type == "converged" {
			converged[e.Host] = true
		}
	}
	for _, h := range l.hosts {
		if r := p.wantOutcome(h.name, "ok"); !r.Converged || !converged[h.name] {
			t.Errorf("%+v; converged: %v", r, converged)
		}
		if connected[h.name] != 1 {
			t.Errorf("%d connections while the payload of %s runs", connected[h.name], h.name)
		}
		if err := os.Remove(h.outside("/var/tmp/seen")); err != nil {
			t.Error(err)
		}
		h.checkCacheOnly(t, p.runID())
	}
	if converged[""] {
		t.Error("a group converged that was never there")
	}
}

func (l *lab) host(name string) *host {
	return l.hosts[slices.IndexFunc(l.hosts, func(h *host) bool { return h.name == name })]
}

// established counts the TCP connections of a process.
func established(t *testing.T, pid int) int {
	t.Helper()
	held, n := socketsOf(t, pid), 0
	for _, fields := range procNet(t, "tcp") {
		if held[fields[9]] && strings.EqualFold(fields[3], "01") {
			n++
		}
	}
	return n
}
