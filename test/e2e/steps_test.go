//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// untilGo is a shell command that ends when the file go is in the host's home.
const untilGo = `until test -e "$HOME/go"; do sleep 0.02; done`

func (h *host) goOn(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.Home, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// motd is a definition that every host can have: its /var/tmp is its own.
const motd = `graph: motd
resources:
  file:
  - name: motd
    path: /var/tmp/motd
    content: "hello\n"
    mode: "0640"
    state: exists
  exec:
  - {name: count, cmd: "wc -c < /var/tmp/motd > /var/tmp/count", shell: /bin/sh, state: present}
edges:
- {name: e, from: {kind: file, name: motd}, to: {kind: exec, name: count}}
`

// checkMotd fails the test unless motd was applied; it removes what the definition made.
func (h *host) checkMotd(t *testing.T) {
	t.Helper()
	// Both are looked at before one of them goes: an engine that is still there makes them again.
	files := []string{"/var/tmp/count", "/var/tmp/motd"}
	for i, want := range []string{"6\n", "hello\n"} {
		got, err := os.ReadFile(h.outside(files[i]))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s is %q, %v, want %q", h.name, files[i], got, err, want)
		}
	}
	for _, file := range files {
		if err := os.Remove(h.outside(file)); err != nil {
			t.Error(err)
		}
	}
}

// nineSteps are the names in --json, in order.
var nineSteps = []string{"connect", "make directory", "copy", "tunnel", "run", "finish", "close tunnel", "clean up", "disconnect"}

func (p *process) wantNineSteps(host string) {
	p.t.Helper()
	var began, done []string
	for _, e := range p.all() {
		switch {
		case e.Type == "step_started" && e.Host == host:
			began = append(began, e.Step)
		case e.Type == "step_done" && e.Host == host:
			done = append(done, e.Step)
		}
	}
	if !slices.Equal(began, nineSteps) || !slices.Equal(done, nineSteps) {
		p.t.Errorf("%s: steps began %q, done %q", host, began, done)
	}
}

// TestNineStepsCommand looks at three hosts from outside while a command runs there, and afterwards.
func TestNineStepsCommand(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	p := l.start(l.args("--json", "--", "sh", "-c", `own="/mgmt-remote/{{.Run}}/hosts/{{.Host}}/"
		until keys=$(etcdctl get --prefix $own) && echo "$keys" | grep -q Running; do sleep 0.1; done # it is written when the host is known to run
		echo "$keys"; echo looked; `+untilGo)...)
	run := p.runID()
	for _, h := range l.hosts {
		p.awaitOutput(h.name, "looked")
		// Its own keys, asked by the payload itself through its endpoint, tunnel and gateway.
		want := fmt.Sprintf("/mgmt-remote/%s/hosts/%s/state\nRunning\nlooked\n", run, h.name)
		if got := p.output(h.name, false); got != want {
			t.Errorf("%s: etcd has %q, want %q", h.name, got, want)
		}
		h.checkSession(t, p)
	}
	checkNoListener(t, "initiator", p.cmd.Process.Pid, l.dir)
	for _, h := range l.hosts {
		h.goOn(t)
	}
	p.wantCode(0)
	for _, h := range l.hosts {
		p.wantNineSteps(h.name)
		p.wantOutcome(h.name, "ok")
		h.checkCacheOnly(t, run)
	}
	l.checkInitiator()
}

// TestNineStepsGraph is the same with the engine as the payload, ended with ^C since nothing else was asked for.
func TestNineStepsGraph(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	p := l.start(l.args("--json", l.file("motd.yaml", motd, 0o600))...)
	run := p.runID()
	for _, h := range l.hosts {
		p.await(h.name+" is quiet", func(e event) bool { return e.Type == "quiet_reported" && e.Host == h.name && e.Quiet })
		h.checkSession(t, p)
		if got, err := os.ReadFile(filepath.Join(h.session(run), "graph.yaml")); err != nil || string(got) != motd {
			t.Errorf("%s: graph.yaml is %q, %v", h.name, got, err)
		}
		h.checkMotd(t)
	}
	// The engine heals what the test removed.
	for _, h := range l.hosts {
		p.await(h.name+" is quiet again", healed(h.name))
		h.wantFile(t, "/var/tmp/motd", "hello\n")
	}
	p.signal(os.Interrupt)
	p.wantCode(130)
	for _, h := range l.hosts {
		p.wantNineSteps(h.name)
		p.wantOutcome(h.name, "canceled")
		for _, file := range []string{"/var/tmp/motd", "/var/tmp/count"} { // whether the command ran again, too
			_ = os.Remove(h.outside(file))
		}
		h.checkCacheOnly(t, run)
	}
	l.checkInitiator()
}

// healed matches the second time that a host becomes quiet.
func healed(host string) func(event) bool {
	quiet, times := false, 0
	return func(e event) bool {
		if e.Type == "quiet_reported" && e.Host == host {
			if e.Quiet && !quiet {
				times++
			}
			quiet = e.Quiet
		}
		return times == 2
	}
}

// session is the session directory, as the test sees it.
func (h *host) session(run string) string { return filepath.Join(h.base(), run, h.name) }

// checkSession looks at a host while its payload runs.
func (h *host) checkSession(t *testing.T, p *process) {
	t.Helper()
	run := p.runID()
	started := p.await(h.name+" started", func(e event) bool { return e.Type == "payload_started" && e.Host == h.name })
	h.checkModes(t, run)
	h.checkCache(t)
	h.checkTree(t, run, started.PID)
	h.checkDoors(t, run)
}

// checkModes holds step 2 and 3: everything belongs to the user and to nobody else.
func (h *host) checkModes(t *testing.T, run string) {
	t.Helper()
	seen := map[string]bool{}
	err := filepath.WalkDir(h.base(), func(path string, _ fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = os.Lstat(path)
		}
		if errors.Is(err, fs.ErrNotExist) { // a temporary file, which has its name by now: what must be there is looked for below
			return nil
		}
		if err != nil {
			return err
		}
		seen[path] = true
		want := fs.FileMode(0o600)
		if info.IsDir() || strings.HasPrefix(path, filepath.Join(h.base(), "cache")) {
			want = 0o700
		}
		stat, _ := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != want || int(stat.Uid) != os.Getuid() || info.Mode()&(fs.ModeSymlink|fs.ModeSetuid|fs.ModeSetgid) != 0 {
			t.Errorf("%s: %v of uid %d, want %v and uid %d", path, info.Mode(), stat.Uid, want, os.Getuid())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", "session.json", "shim.json", "lock", "ctl.sock", "endpoint.sock"} {
		if path := filepath.Join(h.session(run), name); !seen[path] {
			t.Errorf("%s: no %s", h.name, path)
		}
	}
}

// checkCache holds step 3: what is in the cache is what its name says.
func (h *host) checkCache(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.base(), "cache", "*", "*"))
	if err != nil || len(files) == 0 {
		t.Errorf("%s: cache: %q, %v", h.name, files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		sum := sha256.Sum256(data)
		if got, want := hex.EncodeToString(sum[:]), filepath.Base(filepath.Dir(file)); got != want {
			t.Errorf("%s has the hash %s", file, got)
		}
	}
}

// checkInitiator fails the test unless the initiator left nothing in its own state and temporary directories.
func (l *lab) checkInitiator() {
	l.t.Helper()
	for _, pattern := range []string{"mgmt-remote/runs/*", "mgmt-remote-*"} {
		left, err := filepath.Glob(filepath.Join(l.dir, pattern))
		left = slices.DeleteFunc(left, func(dir string) bool { // kept for --retry-failed
			_, err := os.Stat(filepath.Join(dir, "shrunk"))
			return err == nil
		})
		if err != nil || len(left) > 0 {
			l.t.Errorf("left of the initiator: %q, %v", left, err)
		}
	}
}

// TestSecondRun holds that the cache works, and that without it nothing stays.
func TestSecondRun(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	graph := l.file("motd.yaml", motd, 0o600)
	for i, flags := range [][]string{nil, nil, {"--no-cache"}} {
		p := l.run(l.args(append([]string{"--json", "--converged-timeout", "100ms", graph}, flags...)...)...)
		p.wantCode(0)
		for _, h := range l.hosts {
			r := p.wantOutcome(h.name, "ok")
			h.checkMotd(t)
			if again := i == 1; (r.BytesSent == 0) != again {
				t.Errorf("run %d: %s was sent %d bytes", i+1, h.name, r.BytesSent)
			} else if again && r.BytesSkipped == 0 {
				t.Errorf("run %d: %s skipped nothing", i+1, h.name)
			}
			h.checkCacheOnly(t, p.runID())
		}
	}
}

func TestNoCache(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	for i := range 2 {
		p := l.start(l.args("--json", "--no-cache", "--", "sh", "-c", "echo up; "+untilGo)...)
		run := p.runID()
		for _, h := range l.hosts {
			p.awaitOutput(h.name, "up")
			if shim, err := filepath.Glob(filepath.Join(h.session(run), "bin", "*")); err != nil || len(shim) == 0 {
				t.Errorf("%s: no program in the session: %q, %v", h.name, shim, err)
			}
			h.goOn(t)
		}
		p.wantCode(0)
		for _, h := range l.hosts {
			if err := os.Remove(filepath.Join(h.Home, "go")); err != nil {
				t.Error(err)
			}
			if r := p.wantOutcome(h.name, "ok"); r.BytesSent == 0 || r.BytesSkipped != 0 {
				t.Errorf("run %d: %s was sent %d bytes, %d skipped", i+1, h.name, r.BytesSent, r.BytesSkipped)
			}
			h.checkNothing(t, run)
		}
	}
}

// TestSharedMachine has three names for one machine, where all sessions share a base: nobody removes or breaks what another needs.
func TestSharedMachine(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	var hosts []string
	for i := range 6 {
		hosts = append(hosts, "-H", fmt.Sprintf("n%d=%s@127.0.0.1:%d", i, h.User, h.Port))
	}
	for _, flags := range [][]string{{"--no-cache"}, {"--no-cache"}, nil, {"--no-cache"}} {
		args := append([]string{"run", "--json", "--known-hosts", l.knownHosts(), "-i", h.KeyFile}, hosts...)
		p := l.run(append(append(args, flags...), "--", "echo", "{{.Host}}")...)
		p.wantCode(0)
		for i := range 6 {
			name := fmt.Sprintf("n%d", i)
			p.wantOutcome(name, "ok")
			if got := p.output(name, false); got != name+"\n" {
				t.Errorf("%s: output %q", name, got)
			}
		}
		h.checkCacheOnly(t, p.runID())
	}
}
