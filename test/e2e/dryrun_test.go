//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
)

// TestDryRun looks at a host that has nothing, at one with the programs in its cache, and at one that can't be used. On none of them
// anything is changed, and no run is kept here.
func TestDryRun(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	l.hosts[1].fill(t, l)
	blocked := l.hosts[2].outside("/var/tmp/mgmt-remote-0")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := make([][]string, len(l.hosts))
	for i, h := range l.hosts {
		before[i] = must(leftovers.Files(h.VarTmp))
	}
	p := l.run(l.args("--dry-run", "--json", "--prefix", "/var/tmp", "--", "echo", "never")...)
	p.wantCode(2)
	p.wantOutcome("h1", "ok")
	p.wantOutcome("h2", "ok")
	p.wantOutcome("h3", "failed")
	planned := map[string]int{} // how many programs are in the cache
	for _, e := range p.all() {
		switch e.Type {
		case "host_planned":
			cached := 0
			for _, c := range e.Copies {
				if c.Cached {
					cached++
				}
			}
			planned[e.Host] = cached
		case "payload_started", "output_received":
			t.Errorf("something was run: %+v", e)
		}
	}
	if len(planned) != 2 || planned["h1"] != 0 || planned["h2"] != 1 {
		t.Errorf("planned with so many programs in the cache: %v", planned)
	}
	for i, h := range l.hosts {
		if after := must(leftovers.Files(h.VarTmp)); !slices.Equal(before[i], after) {
			t.Errorf("%s: before %q, after %q", h.name, before[i], after)
		}
	}
	if runs, err := filepath.Glob(filepath.Join(l.dir, "mgmt-remote", "runs", "*")); err != nil || len(runs) > 0 {
		t.Errorf("kept: %q, %v", runs, err)
	}
}

// fill has a first run leave its programs in a host's cache.
func (h *host) fill(t *testing.T, l *lab) {
	t.Helper()
	only := *l
	only.hosts = []*host{h}
	only.run(only.args("--", "true")...).wantCode(0)
	if err := os.RemoveAll(filepath.Join(l.dir, "mgmt-remote")); err != nil {
		t.Fatal(err)
	}
}
