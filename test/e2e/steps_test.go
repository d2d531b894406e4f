//go:build linux

package e2e

import "testing"

func TestCommandTwice(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	p := l.run(l.args("--json", "--", "sh", "-c", "echo hi from {{.Host}}")...)
	p.wantCode(0)
	for _, h := range l.hosts {
		p.wantOutcome(h.name, "ok")
		if got, want := p.output(h.name, false), "hi from "+h.name+"\n"; got != want {
			t.Errorf("%s: output %q, want %q", h.name, got, want)
		}
		h.checkCacheOnly(t, p.runID())
	}
}
