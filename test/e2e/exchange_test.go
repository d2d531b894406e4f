//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exchange is a definition that every host has: each offers its address and a file, takes those of all others, and makes a list of
// hosts from the addresses.
const exchange = `graph: exchange
resources:
  file:
  - {name: site, path: /var/tmp/site/}
  - {name: addresses, path: /var/tmp/site/hosts.d/}
  - {name: keys, path: /var/tmp/site/keys/}
  - {name: hosts, path: /var/tmp/site/hosts, fragments: [/var/tmp/site/hosts.d/]}
  - {name: "@@address-{{.Host}}", path: "/address-{{.Host}}", content: {{printf "%s %s\n" .Addr .Host | yaml}}}
  - {name: "@@key-{{.Host}}", path: "/key-{{.Host}}", source: /var/tmp/key}
collect:
- {kind: file, pattern: /var/tmp/site/hosts.d/, name: "address-*"}
- {kind: file, pattern: /var/tmp/site/keys/, name: "key-*"}
`

// settleFor is how long the group of TestExchange has to be quiet: longer than the test needs from one of its steps to the next.
const settleFor = 20 * time.Second

// TestExchange has five hosts, none of which can reach another, exchange what each of them offers, and lets change, drift and death
// happen to them while they do.
func TestExchange(t *testing.T) {
	t.Parallel()
	l := newLab(t, 5)
	l.runFor = 6 * time.Minute
	for _, h := range l.hosts {
		h.write(t, "/var/tmp/key", "key of "+h.name+"\n")
	}
	p := l.start(l.args("--json", "--converged-timeout", settleFor.String(), l.file("site.yaml.tmpl", exchange, 0o600))...)
	pids := map[string]int{}
	for _, h := range l.hosts {
		pids[h.name] = p.awaitAttached(h.name, 1).PID
	}
	for _, h := range l.hosts {
		h.wantFile(t, "/var/tmp/site/hosts", hostsList(l.hosts))
		for _, other := range l.hosts {
			h.wantFile(t, "/var/tmp/site/keys/key-"+other.name, "key of "+other.name+"\n")
		}
	}
	p.awaitQuiet(0, l.hosts...)

	// A changed export reaches all others, and nobody was started again for it.
	from := len(p.all())
	l.hosts[1].write(t, "/var/tmp/key", "another key of h2\n")
	for _, h := range l.hosts {
		h.wantFile(t, "/var/tmp/site/keys/key-h2", "another key of h2\n")
	}
	p.awaitQuiet(from, l.hosts[1])

	// What drifts on one host is healed there; the group hears that there was something to do.
	from = len(p.all())
	l.hosts[2].write(t, "/var/tmp/site/hosts", "nonsense\n")
	l.hosts[2].wantFile(t, "/var/tmp/site/hosts", hostsList(l.hosts))
	p.awaitFrom(from, "h3 is not quiet", func(e event) bool { return e.Type == "quiet_reported" && e.Host == "h3" && !e.Quiet })
	p.awaitQuiet(from, l.hosts[2])

	// What a dead host offered goes, with nobody left who would renew it; the rest go on and converge.
	dead, rest := l.hosts[4], l.hosts[:4]
	killed := time.Now()
	if err := syscall.Kill(pids[dead.name], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, h := range rest {
		h.wantFile(t, "/var/tmp/site/hosts", hostsList(rest))
		h.wantNoFile(t, "/var/tmp/site/keys/key-h5")
	}
	converged := p.await("converged", func(e event) bool { return e.Type == "converged" })
	if converged.Members != len(rest) {
		t.Errorf("%+v, want %d members", converged, len(rest))
	}
	if waited := converged.At.Sub(killed); waited < settleFor {
		t.Errorf("converged %v after a change, before %v were over", waited, settleFor)
	}
	p.wantCode(2)
	p.wantOutcome(dead.name, "payload failed")
	for _, h := range rest {
		if r := p.wantOutcome(h.name, "ok"); !r.Converged || r.Attempts != 1 {
			t.Errorf("%+v", r)
		}
		if n := strings.Count(p.output(h.name, false), "file[hosts]: applied"); n > 12 {
			t.Errorf("%s wrote its list %d times", h.name, n)
		}
	}
	for _, h := range l.hosts {
		for _, path := range []string{"/var/tmp/site", "/var/tmp/key"} {
			if err := os.RemoveAll(h.outside(path)); err != nil {
				t.Error(err)
			}
		}
		h.checkCacheOnly(t, p.runID())
	}
	l.checkInitiator()
}

// hostsList is what the hosts make of their addresses.
func hostsList(hosts []*host) string {
	var list strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&list, "127.0.0.1 %s\n", h.name)
	}
	return list.String()
}

// awaitQuiet waits until the last word of each host about itself is that there is nothing to do, said after the first events.
func (p *process) awaitQuiet(from int, hosts ...*host) {
	p.t.Helper()
	quiet := map[string]bool{}
	p.awaitFrom(from, "all are quiet", func(e event) bool {
		if e.Type == "quiet_reported" {
			quiet[e.Host] = e.Quiet
		}
		for _, h := range hosts {
			if !quiet[h.name] {
				return false
			}
		}
		return true
	})
}

// write writes a file of the host from outside.
func (h *host) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(h.outside(path), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantFile waits until a file of the host has this content.
func (h *host) wantFile(t *testing.T, path, want string) {
	t.Helper()
	h.awaitPath(t, path, func(got string, err error) bool { return err == nil && got == want }, want)
}

// wantNoFile waits until there is no such file on the host.
func (h *host) wantNoFile(t *testing.T, path string) {
	t.Helper()
	h.awaitPath(t, path, func(_ string, err error) bool { return errors.Is(err, fs.ErrNotExist) }, "nothing")
}

func (h *host) awaitPath(t *testing.T, path string, good func(string, error) bool, want string) {
	t.Helper()
	for deadline := time.Now().Add(runFor); ; time.Sleep(20 * time.Millisecond) {
		got, err := os.ReadFile(h.outside(path))
		if good(string(got), err) {
			return
		}
		if time.Now().After(deadline) {
			dir, _ := os.ReadDir(filepath.Dir(h.outside(path)))
			t.Fatalf("%s: %s is %q, %v (beside it %v), want %q", h.name, path, got, err, dir, want)
		}
	}
}
