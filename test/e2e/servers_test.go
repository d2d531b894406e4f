//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// etcdctlPatience has etcdctl wait longer than its five seconds for an answer: the machine may be busy.
const etcdctlPatience = `export ETCDCTL_COMMAND_TIMEOUT=60s; `

// throughEtcd puts and gets through the tunnel, and says who carries it.
const throughEtcd = etcdctlPatience + `etcdctl put /mgmt-remote/{{.Run}}/kv/a b && etcdctl get --print-value-only /mgmt-remote/{{.Run}}/kv/a`

// wantTunnel runs a command that uses etcd on one host and fails the test unless that works, over this kind of tunnel.
func wantTunnel(t *testing.T, l *lab, kind string) {
	t.Helper()
	h := l.hosts[0]
	p := l.run(l.args("--json", "--no-cache", "--", "sh", "-c", throughEtcd)...)
	p.wantCode(0)
	p.wantOutcome(h.name, "ok")
	if got := p.output(h.name, false); got != "OK\nb\n" {
		t.Errorf("output %q", got)
	}
	e := p.await("tunnel", func(e event) bool { return e.Type == "step_done" && e.Step == "tunnel" })
	if e.Detail != kind {
		t.Errorf("tunnel over %q, want %q", e.Detail, kind)
	}
	p.wantNineSteps(h.name)
	h.checkCacheOnly(t, p.runID())
	leftovers.Check(t, h.VarTmp)
}

// TestServers runs on servers that are set up in ways people set them up.
func TestServers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		config []string
		noSFTP bool
		tunnel string
	}{
		"plain":              {tunnel: "forward"},
		"MaxSessions 1":      {config: []string{"MaxSessions 1"}, tunnel: "forward"},
		"no stream local":    {config: []string{"AllowStreamLocalForwarding no"}, tunnel: "stdio"},
		"no tcp forwarding":  {config: []string{"AllowTcpForwarding no"}, tunnel: "stdio"}, // sshd refuses unix sockets with it
		"no forwarding":      {config: []string{"DisableForwarding yes"}, tunnel: "stdio"},
		"Debian's subsystem": {config: []string{"Subsystem sftp /usr/lib/openssh/sftp-server"}, noSFTP: true, tunnel: "forward"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := emptyLab(t)
			l.add(sshd.Start(t, sshd.Options{Config: tc.config, NoSFTP: tc.noSFTP, OwnVarTmp: true}))
			wantTunnel(t, l, tc.tunnel)
		})
	}
}

func TestDropbear(t *testing.T) {
	t.Parallel()
	l := emptyLab(t)
	l.add(sshd.StartDropbear(t, sshd.Options{OwnVarTmp: true}))
	wantTunnel(t, l, "stdio")
}

// TestNoSFTP has everything copied through a shell, a newer definition while the payload runs, too.
func TestNoSFTP(t *testing.T) {
	t.Parallel()
	for name, config := range map[string][]string{
		"no subsystem":  {"MaxSessions 2"}, // a copy while the payload runs takes one
		"no program":    {"Subsystem sftp /nonexistent/sftp-server"},
		"other program": {"Subsystem sftp /bin/cat /etc/passwd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := emptyLab(t)
			h := l.add(sshd.Start(t, sshd.Options{NoSFTP: true, OwnVarTmp: true, Config: config}))
			const graph = "graph: g\nresources:\n  file:\n  - {name: f, path: /var/tmp/f, content: %s, state: exists}\n"
			file := l.file("g.yaml", fmt.Sprintf(graph, "one"), 0o600)
			p := l.start(l.args("--json", "--no-cache", file)...)
			h.awaitFile(t, "f", "one")
			l.file("g.yaml", fmt.Sprintf(graph, "two"), 0o600)
			h.awaitFile(t, "f", "two")
			p.signal(os.Interrupt)
			p.wantCode(130)
			p.wantNineSteps("h1")
			if err := os.Remove(filepath.Join(h.VarTmp, "f")); err != nil {
				t.Error(err)
			}
			h.checkNothing(t, p.runID())
		})
	}
}

// awaitFile waits until a file in the host's /var/tmp has this content.
func (h *host) awaitFile(t *testing.T, name, want string) {
	t.Helper()
	for deadline := time.Now().Add(runFor); ; time.Sleep(20 * time.Millisecond) {
		got, err := os.ReadFile(filepath.Join(h.VarTmp, name))
		if err == nil && string(got) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s has %q, %v; want %q", h.name, name, got, err, want)
		}
	}
}

// TestNoSessionLeft has a server that allows one session, for a tunnel that needs a second.
func TestNoSessionLeft(t *testing.T) {
	t.Parallel()
	l := emptyLab(t)
	h := l.add(sshd.Start(t, sshd.Options{Config: []string{"MaxSessions 1", "AllowStreamLocalForwarding no"}, OwnVarTmp: true}))
	p := l.run(l.args("--json", "--no-cache", "--", "sh", "-c", throughEtcd)...)
	p.wantCode(2)
	r := p.wantOutcome("h1", "failed")
	if !strings.Contains(r.Remedy, "MaxSessions") || r.Attempts != 1 || r.LeftBehind != "" {
		t.Errorf("%+v", r)
	}
	h.checkNothing(t, p.runID())
}

func TestNoexec(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOEXEC, "size=16m"); err != nil {
		t.Fatalf("mount: %v (the tests need root)", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	l := newLab(t, 1)
	p := l.run(l.args("--json", "--prefix", dir, "--", "true")...)
	p.wantCode(2)
	r := p.wantOutcome("h1", "failed")
	if !strings.Contains(r.Reason, dir) || !strings.Contains(r.Reason, "noexec") || !strings.Contains(r.Remedy, "--prefix") || r.Attempts != 1 {
		t.Errorf("%+v", r)
	}
	l.hosts[0].checkNothing(t, p.runID())
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the prefix: %v, %v", left, err)
	}
}

// TestNoisyShell has a login shell whose rc file writes to both streams, as bash reads it when sshd starts it (in Debian's
// build).
func TestNoisyShell(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	const rc = "echo read >> \"$HOME/noise\"; echo 'welcome, mgmt-remote'; printf 'no end'; echo trouble >&2\n"
	if err := os.WriteFile(filepath.Join(h.Home, ".bashrc"), []byte(rc), 0o600); err != nil {
		t.Fatal(err)
	}
	p := l.run(l.args("--json", "--no-cache", "--", "sh", "-c", throughEtcd)...)
	p.wantCode(0)
	if got := p.output("h1", false); got != "OK\nb\n" {
		t.Errorf("output %q", got)
	}
	if noise, err := os.ReadFile(filepath.Join(h.Home, "noise")); err != nil || len(noise) == 0 {
		t.Errorf("the shell was not noisy: %v", err)
	}
	for _, name := range []string{".bashrc", "noise"} {
		if err := os.Remove(filepath.Join(h.Home, name)); err != nil {
			t.Error(err)
		}
	}
	h.checkNothing(t, p.runID())
}
