//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// standin builds the program that is mgmt in these tests: see package mgmtstandin.
var standin = sync.OnceValues(func() (string, error) {
	file, err := filepath.Abs("../../bin/mgmtstandin")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildFor)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", file, "../mgmtstandin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the stand-in for mgmt: %w\n%s", err, out)
	}
	return file, nil
})

// mgmt are the arguments of a run of mgmt on all hosts, with this code.
func (l *lab) mgmt(code string, more ...string) []string {
	l.t.Helper()
	binary, err := standin()
	if err != nil {
		l.t.Fatal(err)
	}
	return l.args(append([]string{"--json", "--payload", "mgmt", "--binary", binary, l.file("site.mcl", code, 0o600)}, more...)...)
}

// wantConvergedSince fails the test unless the group converged, and that so long after a moment.
func (p *process) wantConvergedSince(since time.Time, timeout time.Duration) {
	p.t.Helper()
	e := p.await("converged", func(e event) bool { return e.Type == "converged" })
	if d := e.At.Sub(since); d < timeout {
		p.t.Errorf("converged %v after the break, want %v or more", d, timeout)
	}
}

// TestMgmt has two hosts apply what was deployed once, work together and converge.
func TestMgmt(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{
		"unix": {"--endpoint", "unix"}, "tcp": {"--endpoint", "tcp"}, "no cache": {"--no-cache"}, "noop": {"--noop"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2)
			p := l.run(append(l.mgmt(`count
write $HOME/applied by mgmt
meet h1 h2
@h1 try /mgmt-remote/$MGMT_REMOTE_RUN/quiet/h2
@h1 try /mgmt-remote/$MGMT_REMOTE_RUN/exports/h2/file/x
@h1 try /mgmt-remote/$MGMT_REMOTE_RUN/hosts/h1/state
@h1 try /elsewhere
@h1 try /_mgmt/anything
converged
`, "-v", "--converged-timeout", "1s"), flags...)...)
			p.wantCode(0)
			for _, h := range l.hosts {
				if r := p.wantOutcome(h.name, "ok"); !r.Converged || r.Exit == nil || r.Exit.Code != 0 {
					t.Errorf("%+v", r)
				}
				out := p.output(h.name, false)
				for _, want := range []string{"deploys: 1\n", "met h1 h2\n", "interrupted\n"} {
					if !strings.Contains(out, want) {
						t.Errorf("%s: no %q in %q", h.name, want, out)
					}
				}
				applied := filepath.Join(h.Home, "applied")
				data, err := os.ReadFile(applied)
				switch {
				case name == "noop" && !os.IsNotExist(err):
					t.Errorf("%s was changed: %v", h.name, err)
				case name != "noop" && (err != nil || string(data) != "by mgmt\n"):
					t.Errorf("%s has %q, %v", h.name, data, err)
				case name != "noop":
					if err := os.Remove(applied); err != nil {
						t.Error(err)
					}
				}
				if name == "no cache" {
					h.checkNothing(t, p.runID())
				} else {
					h.checkCacheOnly(t, p.runID())
				}
			}
			top := "/mgmt-remote/" + p.runID()
			want := fmt.Sprintf("%s/quiet/h2 refused\n%s/exports/h2/file/x refused\n%s/hosts/h1/state refused\n/elsewhere refused\n/_mgmt/anything allowed\n", top, top, top)
			if !strings.Contains(p.output("h1", false), want) {
				t.Errorf("h1 said %q, want %q", p.output("h1", false), want)
			}
			if !strings.Contains(p.stderr.String(), "deploying "+filepath.Join(l.dir, "site.mcl")) {
				t.Errorf("what the deploy said is not in the log: %s", p.stderr)
			}
			l.checkInitiator()
		})
	}
}

// TestMgmtCode has the two other forms of code.
func TestMgmtCode(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	binary, err := standin()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(l.dir, "site")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.file("site/metadata.yaml", "main: main.mcl\n", 0o600)
	l.file("site/main.mcl", "converged\n", 0o600)
	for _, code := range []string{dir, l.file("site.yaml", "converged\n", 0o600)} {
		p := l.run(l.args("--payload", "mgmt", "--binary", binary, "--converged-timeout", "0", code)...)
		p.wantCode(0)
	}
	l.checkInitiator()
}

// breakFor is how long a group has to be quiet that a test breaks once more before that is over: longer than the test needs for it.
const breakFor = 12 * time.Second

// TestMgmtDiverges holds that the shortest divergence begins the group's time anew.
func TestMgmtDiverges(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	p := l.start(l.mgmt("converged\nawait $HOME/go\nflap\n", "--converged-timeout", breakFor.String())...)
	p.awaitQuiet(0, l.hosts...)
	before := time.Now()
	l.hosts[1].goOn(t)
	p.wantConvergedSince(before, breakFor)
	p.wantCode(0)
}

// TestMgmtLosesItsConnection holds that a payload that is quiet is known to be quiet on the next connection, from when
// on the group's time begins anew.
func TestMgmtLosesItsConnection(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	p := l.start(l.mgmt("converged\n@h2 await $HOME/go\n@h2 diverged\n@h2 converged\n", "--converged-timeout", breakFor.String())...)
	first := p.awaitAttached("h2", 1)
	p.awaitQuiet(0, l.hosts...)
	before := time.Now()
	if l.hosts[1].KillSessions() == 0 {
		t.Error("no session")
	}
	l.hosts[1].goOn(t) // perhaps while nobody is attached
	if again := p.awaitAttached("h2", 2); again.PID != first.PID || !again.Reattached {
		t.Errorf("first %+v, then %+v", first, again)
	}
	p.wantConvergedSince(before, breakFor)
	p.wantCode(0)
	for _, h := range l.hosts {
		p.wantOutcome(h.name, "ok")
		h.checkCacheOnly(t, p.runID())
	}
}

// TestMgmtNeverQuiet holds that the last word counts.
func TestMgmtNeverQuiet(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	p := l.run(l.mgmt("converged\n@h2 diverged\n", "--converged-timeout", "8s", "--max-runtime", "16s")...) // the second word comes in time
	p.wantCode(3)
	l.checkInitiator()
}

// TestMgmtCrashes holds that a crash fails its host and nobody else.
func TestMgmtCrashes(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	p := l.start(l.mgmt("@h2 converged\n@h2 crash\nawait $HOME/go\nconverged\n", "--converged-timeout", "1s")...)
	p.result("h2") // before that, the group is not to be quiet
	l.hosts[0].goOn(t)
	p.wantCode(2)
	if r := p.wantOutcome("h2", "payload failed"); r.Exit == nil || r.Exit.Code != 3 {
		t.Errorf("%+v", r)
	}
	if r := p.wantOutcome("h1", "ok"); !r.Converged {
		t.Errorf("%+v", r)
	}
	for _, h := range l.hosts {
		h.checkCacheOnly(t, p.runID())
	}
}

// TestMgmtIsInterrupted holds that ^C ends mgmt in order.
func TestMgmtIsInterrupted(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	p := l.start(l.mgmt("meet h1 h2\n")...)
	p.awaitOutput("h1", "met")
	p.awaitOutput("h2", "met")
	p.signal(syscall.SIGINT)
	p.wantCode(130)
	for _, h := range l.hosts {
		if r := p.wantOutcome(h.name, "canceled"); r.Exit == nil || r.Exit.Code != 0 {
			t.Errorf("%+v", r)
		}
		h.checkCacheOnly(t, p.runID())
	}
	l.checkInitiator()
}

// TestMgmtDeployFails holds that nothing happens on any host then.
func TestMgmtDeployFails(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	p := l.run(l.mgmt("mistake\n")...)
	p.wantCode(1)
	wantText(t, p.stderr.String(), `^mgmt-remote: deploy: .*mgmtstandin deploy lang .*/site.mcl: exit status 1: `, `type error in .*/site.mcl \(use -v`)
	if len(p.all()) != 0 {
		t.Errorf("events %+v", p.all())
	}
	l.hosts[0].checkNothing(t, "mgmt-remote-"+fmt.Sprint(os.Getuid()))
	l.checkInitiator()
}

// TestMgmtDeployIsInterrupted holds that a deploy is not waited for after ^C, and that no host is begun.
func TestMgmtDeployIsInterrupted(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	p := l.start(l.mgmt("hang\n", "-v")...)
	p.awaitStderr("deploying")
	p.signal(syscall.SIGINT)
	p.wantCode(130)
	p.wantOutcome("h1", "canceled")
	l.hosts[0].checkNothing(t, p.runID())
	l.checkInitiator()
}

// TestMgmtForAnotherPlatform has a host that says it is another machine, and an mgmt that is for another one.
func TestMgmtForAnotherPlatform(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	words := shortDir(t)
	if err := os.WriteFile(filepath.Join(words, "uname"), []byte("#!/bin/sh\necho Linux 6.1.0 aarch64\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	other := l.add(sshd.Start(t, sshd.Options{OwnVarTmp: true, Config: []string{"SetEnv PATH=" + words + ":/usr/bin:/bin"}}))
	p := l.run(l.mgmt("converged\n", "--converged-timeout", "1s")...)
	p.wantCode(2)
	p.wantOutcome("h1", "ok")
	if r := p.wantOutcome("h2", "failed"); !strings.Contains(r.Reason, "mgmt is built for linux/amd64, the host is linux/arm64") || r.Remedy == "" {
		t.Errorf("%+v", r)
	}
	other.checkNothing(t, p.runID())

	elf := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\xb7\x00\x01" + strings.Repeat("\x00", 43)
	p = l.run(l.args("--payload", "mgmt", "--binary", l.file("mgmt", elf, 0o700), l.file("site.mcl", "", 0o600))...)
	p.wantCode(1)
	wantText(t, p.stderr.String(), `is built for linux/arm64, and this machine, which deploys the code with it, is linux/amd64`)
}
