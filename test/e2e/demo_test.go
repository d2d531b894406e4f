//go:build linux

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestDemo runs the demo as a person would and looks at what it says; that it can fail is tested where it is made.
func TestDemo(t *testing.T) {
	t.Parallel()
	const hosts = 3
	l := emptyLab(t)
	p := l.run("demo", "--hosts", fmt.Sprint(hosts))
	p.wantCode(0)
	out := p.plain.String()
	for i := range hosts {
		for _, step := range []string{"connect", "make directory", "copy", "tunnel", "run", "finish", "close tunnel", "clean up", "disconnect"} {
			if !hasLine(out, fmt.Sprintf("demo%d", i+1), step) {
				t.Errorf("no line about demo%d and %q", i+1, step)
			}
		}
	}
	for _, want := range []string{
		"3 machines, each an SSH server in this process",
		"all nine steps done on 3 hosts", "each has what all of them exported", "converged together through the etcd", "nothing of ours left in any sandbox",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	checkOwnFiles(t, l)
}

// TestDemoJSON: with --json stdout is events and nothing else.
func TestDemoJSON(t *testing.T) {
	t.Parallel()
	l := emptyLab(t)
	p := l.run("demo", "--hosts", "1", "--json")
	p.wantCode(0)
	if lines := strings.Count(p.plain.String(), "\n"); lines != len(p.all()) {
		t.Errorf("%d lines, %d of them events", lines, len(p.all()))
	}
	p.wantOutcome("demo1", "ok")
	if last := p.all()[len(p.all())-1]; last.Type != "run_finished" || !last.Converged {
		t.Errorf("the last event is %+v", last)
	}
}

// TestDemoInterrupted cleans up like any run.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	l := emptyLab(t)
	p := l.start("demo", "--hosts", "2", "--json")
	p.awaitStarted("demo1")
	p.interrupt(1)
	p.wantCodeWithin(130, soon)
	checkOwnFiles(t, l)
}

// checkOwnFiles fails the test unless the directory of the initiator, its temporary one too, is as empty as it was.
func checkOwnFiles(t *testing.T, l *lab) {
	t.Helper()
	entries, err := os.ReadDir(l.dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left in the initiator's directory: %v, %v", entries, err)
	}
}

func hasLine(out string, words ...string) bool {
lines:
	for line := range strings.Lines(out) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		return true
	}
	return false
}
