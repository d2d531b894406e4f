//go:build linux

package e2e

import (
	"strconv"
	"strings"
	"testing"
)

// TestChaosReboot reboots one of two hosts while payloads run: see sshd.Server.Reboot for what that is here, and what is faked.
func TestChaosReboot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy string
		reboot func(*host)
	}{
		"a power cut fails":                        {"fail", func(h *host) { h.PowerCycle() }},
		"a power cut that leaves nothing fails":    {"fail", func(h *host) { h.PowerCycle(h.VarTmp) }},
		"a power cut is rerun":                     {"rerun", func(h *host) { h.PowerCycle() }},
		"a power cut that leaves nothing is rerun": {"rerun", func(h *host) { h.PowerCycle(h.VarTmp) }},
		"a shutdown is rerun":                      {"rerun", func(h *host) { h.Reboot() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newNetLab(t, 2)
			r := l.startSteady("--on-reboot", c.policy)
			before := len(r.output("h1", false))
			from := len(r.all())
			c.reboot(l.hosts[0])
			if c.policy == "fail" {
				r.wantRebootFailed()
			} else {
				r.wantRerun(from, before)
			}
			if got := r.result("h2"); got.Attempts != 1 {
				t.Errorf("the other host was harmed: %+v", got)
			}
		})
	}
}

// wantRebootFailed ends the other payload and fails the test unless h1 says why it failed, with nothing started again or left.
func (r *steadyRun) wantRebootFailed() {
	r.t.Helper()
	end := r.result("h1")
	if end.Outcome != "failed" || !strings.Contains(end.Reason, "the host was rebooted while the payload ran") || !strings.Contains(end.Remedy, "--on-reboot") {
		r.t.Errorf("%+v", end)
	}
	r.l.hosts[1].goOn(r.t)
	r.wantCode(2)
	r.wantOutcome("h2", "ok")
	r.wantCount("h2")
	r.wantLives("h1", 1)
	for _, h := range r.l.hosts {
		h.checkCacheOnly(r.t, r.runID())
	}
	r.l.checkInitiator()
}

// wantRerun waits for the second life of h1's payload, ends all, and fails the test unless it was told, its output goes on where the
// first life's ended, its writes arrive, and nothing is left.
func (r *steadyRun) wantRerun(from, before int) {
	r.t.Helper()
	told := r.awaitFrom(from, "h1 is rerun", func(e event) bool { return e.Type == "payload_rerun" && e.Host == "h1" })
	if told.Count != 1 {
		r.t.Errorf("%+v", told)
	}
	again := r.awaitFrom(from, "h1 was started again", func(e event) bool { return e.Type == "payload_started" && e.Host == "h1" && !e.Reattached })
	if first := r.first["h1"]; again.Epoch <= first.Epoch {
		r.t.Errorf("first %+v, then %+v", first, again)
	}
	r.awaitPut("h1", len(r.all()))
	for _, h := range r.l.hosts {
		r.awaitNews(h.name)
		h.goOn(r.t)
	}
	r.wantCode(0)
	if end := r.wantOutcome("h1", "ok"); end.Reruns != 1 {
		r.t.Errorf("%+v", end)
	}
	if end := r.wantOutcome("h2", "ok"); end.Reruns != 0 {
		r.t.Errorf("%+v", end)
	}
	r.wantCount("h2")
	if lives := r.wantLives("h1", 2); len(lives) == 2 {
		if len(lives[0]) < before {
			r.t.Errorf("of the first life, %d bytes were there and %d are", before, len(lives[0]))
		}
		if !strings.HasSuffix(lives[1], "\nend\n") {
			r.t.Errorf("the last life ends with %q", lives[1][max(0, len(lives[1])-20):])
		}
	}
	for _, h := range r.l.hosts {
		h.checkCacheOnly(r.t, r.runID())
	}
	r.l.checkInitiator()
}

// wantLives fails the test unless the pieces of the host's output follow each other, and its stdout is 1, 2, 3, … so many times. It
// returns the lives.
func (p *process) wantLives(host string, n int) []string {
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
	var lives []string
	want := 1
	for line := range strings.Lines(p.output(host, false)) {
		switch line {
		case "1\n":
			lives, want = append(lives, line), 2
		case strconv.Itoa(want) + "\n", "end\n":
			lives[len(lives)-1] += line
			want++
		default:
			p.t.Errorf("%s: %q instead of %d", host, line, want)
			return lives
		}
	}
	if len(lives) != n {
		p.t.Errorf("%s: %d lives, not %d", host, len(lives), n)
	}
	return lives
}
