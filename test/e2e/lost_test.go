//go:build linux

package e2e

import (
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// counting counts until the host's home has the file go, twenty times a second, in order to see whether a number is lost or repeated.
const counting = `i=0; until test -e "$HOME/go"; do i=$((i+1)); echo $i; sleep 0.05; done; echo end`

// wantCount fails the test unless the host's output is 1, 2, 3, …, end, and its pieces follow each other.
func (p *process) wantCount(host string) {
	p.t.Helper()
	var next uint64
	for _, e := range p.all() {
		if e.Type == "output_received" && e.Host == host {
			if e.Offset != next {
				p.t.Errorf("%s: output at %d after %d", host, e.Offset, next)
			}
			next = e.Offset + uint64(len(e.Data))
		}
	}
	lines := strings.Split(p.output(host, false), "\n")
	if len(lines) < 3 || lines[len(lines)-2] != "end" || lines[len(lines)-1] != "" {
		p.t.Errorf("%s: the output ends with %q", host, lines[max(0, len(lines)-3):])
		return
	}
	for i, line := range lines[:len(lines)-2] {
		if line != strconv.Itoa(i+1) {
			p.t.Errorf("%s: line %d is %q", host, i+1, line)
			return
		}
	}
}

// awaitAttached waits for the n-th time that the host's payload was started or found again.
func (p *process) awaitAttached(host string, n int) event {
	p.t.Helper()
	seen := 0
	return p.await(fmt.Sprintf("%s: attached %d times", host, n), func(e event) bool {
		if e.Type == "payload_started" && e.Host == host {
			seen++
		}
		return seen == n
	})
}

// awaitNews waits for output of the host behind what there is.
func (p *process) awaitNews(host string) {
	p.t.Helper()
	p.awaitFrom(len(p.all()), host+": more output", func(e event) bool { return e.Type == "output_received" && e.Host == host })
}

// TestLostConnections takes the connections of running payloads away, twice, and restarts the server between.
func TestLostConnections(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	p := l.start(l.args("--json", "--", "sh", "-c", counting)...)
	first := map[string]event{}
	for _, h := range l.hosts {
		first[h.name] = p.awaitAttached(h.name, 1)
		p.awaitOutput(h.name, "\n10\n")
	}
	unharmed := l.hosts[2]
	for round := range 2 {
		for _, h := range l.hosts[:2] {
			if n := h.KillSessions(); n == 0 {
				t.Errorf("%s had no session", h.name)
			}
			if round == 1 {
				h.Restart()
			}
		}
		for _, h := range l.hosts[:2] {
			again := p.awaitAttached(h.name, round+2)
			if again.PID != first[h.name].PID || !again.Reattached || again.Epoch <= first[h.name].Epoch {
				t.Errorf("%s: first %+v, then %+v", h.name, first[h.name], again)
			}
		}
		for _, h := range l.hosts {
			p.awaitNews(h.name)
		}
	}
	for _, h := range l.hosts {
		h.goOn(t)
	}
	p.wantCode(0)
	for _, h := range l.hosts {
		r := p.wantOutcome(h.name, "ok")
		// An attempt while the server restarts is refused, so there can be more than three.
		if h == unharmed && r.Attempts != 1 || h != unharmed && r.Attempts < 3 {
			t.Errorf("%+v", r)
		}
		p.wantCount(h.name)
		h.checkCacheOnly(t, p.runID())
	}
	l.checkInitiator()
}

// TestEtcdAfterLoss holds that the payload's endpoint works again without its doing after the connection was lost.
func TestEtcdAfterLoss(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	p := l.start(l.args("--json", "--", "sh", "-c", `etcdctl watch /mgmt-remote/{{.Run}}/kv/ --prefix & echo up; `+untilGo+
		`; etcdctl --command-timeout 60s put /mgmt-remote/{{.Run}}/kv/a b; until etcdctl get /mgmt-remote/{{.Run}}/kv/a | grep -q b; do :; done; kill $!`)...)
	p.awaitOutput("h1", "up")
	h.KillSessions()
	p.awaitAttached("h1", 2)
	h.goOn(t)
	p.wantCode(0)
	if got := p.output("h1", false); !strings.Contains(got, "OK\n") {
		t.Errorf("output %q", got)
	}
}

// TestLostWhileCopying has a connection that is lost in the middle of a copy, however fast that is.
func TestLostWhileCopying(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	l.linkTo(h).firstCarries(32 << 20)
	big := make([]byte, 64<<20)
	rand.Read(big) // nothing to compress
	script := append([]byte("#!/bin/sh\necho ran $1; exit 0\n"), big...)
	p := l.run(l.args("--json", "--binary", l.file("big", string(script), 0o600), "--", "big", "{{.Host}}")...)
	p.wantCode(0)
	copying := false
	p.await("lost while copying", func(e event) bool {
		if e.Type == "state_changed" && e.Epoch == 1 {
			copying = e.State == "Copying"
		}
		return e.Type == "host_troubled" && copying
	})
	if r := p.wantOutcome("h1", "ok"); r.Attempts != 2 {
		t.Errorf("%+v", r)
	}
	if got := p.output("h1", false); got != "ran h1\n" {
		t.Errorf("output %q", got)
	}
	h.checkCache(t)
	h.checkCacheOnly(t, p.runID())
	if tmp, err := os.ReadDir(h.base() + "/cache"); err != nil || len(tmp) != 2 { // the shim and the program
		t.Errorf("in the cache: %v, %v", tmp, err)
	}
}
