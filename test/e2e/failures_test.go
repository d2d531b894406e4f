//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// wantText fails the test unless text matches all expressions.
func wantText(t *testing.T, text string, expressions ...string) {
	t.Helper()
	for _, e := range expressions {
		if !regexp.MustCompile("(?m)" + e).MatchString(text) {
			t.Errorf("nothing matches %q in\n%s", e, text)
		}
	}
}

// swapKeys gives the first host the second one's key in known_hosts.
func swapKeys(t *testing.T, first, second *host) {
	t.Helper()
	key := strings.Join(strings.Fields(string(ssh.MarshalAuthorizedKey(second.HostKey)))[:2], " ")
	old, err := os.ReadFile(first.KnownHostsFile)
	if err != nil {
		t.Fatal(err)
	}
	where, _, _ := strings.Cut(string(old), " ")
	if err := os.WriteFile(first.KnownHostsFile, []byte(where+" "+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBadHostsAmongGood(t *testing.T) {
	t.Parallel()
	l := newLab(t, 4)
	l.hosts[1].Stop()
	swapKeys(t, l.hosts[2], l.hosts[3])
	p := l.run(l.args("--retry-for", "300ms", "--", "echo", "on {{.Host}}")...)
	p.wantCode(2)
	out := p.plain.String()
	wantText(t, out, `^h1 .*on h1$`, `^h4 .*on h4$`,
		`^HOST +RESULT +TIME +COPIED$`, `^h1 +ok `, `^h2 +unreachable `, `^h3 +failed `, `^h4 +ok `, `^2 of 4 hosts ok$`,
		`^h2: .*connection refused`,
		`^h3: .*`+regexp.QuoteMeta(ssh.FingerprintSHA256(l.hosts[2].HostKey)))
	if strings.Contains(out, "on h2") || strings.Contains(out, "on h3") {
		t.Errorf("it ran where it must not:\n%s", out)
	}
	if log := l.hosts[2].Log(); strings.Contains(log, "Accepted") || strings.Contains(log, "publickey") {
		t.Errorf("keys were offered to a host that is not the one we know:\n%s", log)
	}
	l.checkInitiator()
}

func TestOnlyUnreachable(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	l.hosts[1].Stop()
	p := l.run(l.args("--json", "--retry-for", "0", "--", "true")...)
	p.wantCode(4)
	p.wantOutcome("h1", "ok")
	if r := p.wantOutcome("h2", "unreachable"); r.Attempts != 1 || r.Reason == "" || r.LeftBehind != "" {
		t.Errorf("%+v", r)
	}
}

func TestUnreachableComesBack(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	h.Stop()
	p := l.start(l.args("--json", "--", "echo", "hi")...)
	p.await("an attempt failed", func(e event) bool { return e.Type == "host_troubled" && e.Kind == "unreachable" && e.Retry })
	h.Restart()
	p.wantCode(0)
	p.wantOutcome("h1", "ok")
	if got := p.output("h1", false); got != "hi\n" {
		t.Errorf("output %q", got)
	}
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	known := filepath.Join(l.dir, "my_hosts")
	run := func(policy string) *process {
		return l.run("run", "--known-hosts", known, "-i", h.KeyFile, "-H", h.arg(), "--host-key", policy, "--retry-for", "0", "--", "echo", "hi")
	}
	if err := os.WriteFile(known, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fingerprint := regexp.QuoteMeta(ssh.FingerprintSHA256(h.HostKey))

	p := run("strict")
	p.wantCode(2)
	wantText(t, p.plain.String(), `^h1 +failed `, `^h1: .*`+fingerprint, `what to do: .*accept-new`)
	if strings.Contains(h.Log(), "Accepted") {
		t.Error("logged in to an unknown host")
	}

	p = run("accept-new")
	p.wantCode(0)
	if data, err := os.ReadFile(known); err != nil || !strings.Contains(string(data), strings.Fields(string(ssh.MarshalAuthorizedKey(h.HostKey)))[1]) {
		t.Errorf("known_hosts: %q, %v", data, err)
	}
	p = run("strict")
	p.wantCode(0)

	other := l.add(sshd.Start(t, sshd.Options{}))
	data, err := os.ReadFile(known)
	if err != nil {
		t.Fatal(err)
	}
	mine := strings.Fields(string(ssh.MarshalAuthorizedKey(h.HostKey)))[1]
	theirs := strings.Fields(string(ssh.MarshalAuthorizedKey(other.HostKey)))[1]
	changed := strings.ReplaceAll(string(data), mine, theirs)
	if err := os.WriteFile(known, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, policy := range []string{"strict", "accept-new"} {
		p = run(policy)
		p.wantCode(2)
		wantText(t, p.plain.String(), `^h1 +failed `, `^h1: .*changed`, fingerprint, `what to do: `)
		if data, err := os.ReadFile(known); err != nil || string(data) != changed {
			t.Errorf("%s wrote %q, %v", policy, data, err)
		}
	}
	p = run("insecure")
	p.wantCode(0)
	wantText(t, p.stderr.String(), "warning: --host-key=insecure")
}

func TestDeniedIsNotRepeated(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	h := l.hosts[0]
	// The key of the other host, which this one does not know.
	p := l.run("run", "--json", "--known-hosts", l.knownHosts(), "-i", l.hosts[1].KeyFile, "-H", h.arg(), "--", "true")
	p.wantCode(2)
	if r := p.wantOutcome("h1", "failed"); r.Attempts != 1 || r.Remedy == "" {
		t.Errorf("%+v", r)
	}
	if n := strings.Count(h.Log(), "Connection from"); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestConverged(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	p := l.run(l.args("--json", "--converged-timeout", "300ms", l.file("motd.yaml", motd, 0o600))...)
	p.wantCode(0)
	e := p.await("converged", func(e event) bool { return e.Type == "converged" })
	if e.Host != "" || e.Members != 3 {
		t.Errorf("%+v", e)
	}
	for _, h := range l.hosts {
		if r := p.wantOutcome(h.name, "ok"); !r.Converged {
			t.Errorf("%+v", r)
		}
		h.checkMotd(t)
		h.checkCacheOnly(t, p.runID())
	}
	l.checkInitiator()
}

// TestMaxRuntime has a resource that changes all the time, so the group never converges.
func TestMaxRuntime(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	graph := l.file("busy.yaml", `graph: busy
resources:
  exec:
  - {name: tick, cmd: "date >> /var/tmp/ticks", shell: /bin/sh, pollint: 1, watchcmd: "while :; do echo; sleep 0.1; done", watchshell: /bin/sh, state: present}
`, 0o600)
	p := l.run(l.args("--json", "--converged-timeout", "1m", "--max-runtime", "20s", graph)...)
	p.wantCode(3)
	for _, h := range l.hosts {
		p.result(h.name)
		if err := os.Remove(h.outside("/var/tmp/ticks")); err != nil {
			t.Errorf("it did nothing: %v", err)
		}
		h.checkCacheOnly(t, p.runID())
	}
	if e := p.await("run_finished", func(e event) bool { return e.Type == "run_finished" }); !e.TimedOut || e.Converged {
		t.Errorf("%+v", e)
	}
	l.checkInitiator()
}
