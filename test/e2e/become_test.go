//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// The accounts of becomeLab: who logs in, and who is not root and has nothing to do with it.
const (
	login = "mrlogin"
	other = "mrother"
)

// becomeLab is a host where somebody logs in who is not root, and what sudo is told there.
func becomeLab(t *testing.T, o sshd.Options) *lab {
	t.Helper()
	l := emptyLab(t)
	o.OwnVarTmp, o.Users = true, []string{login, other}
	l.add(sshd.Start(t, o))
	return l
}

// baseOf is another user's base directory on the host.
func (h *host) baseOf(uid int) string {
	return h.outside(fmt.Sprintf("/var/tmp/mgmt-remote-%d", uid))
}

// TestBecome has a payload run as another user than the one who logs in, and use etcd.
func TestBecome(t *testing.T) {
	t.Parallel()
	const all = "mrlogin ALL=(ALL) NOPASSWD: ALL\n"
	for name, tc := range map[string]struct {
		sudoers, doas string
		hide          []string
		flags         []string
		user          string
		uid           int
	}{
		"root":                       {sudoers: all, flags: []string{"--become"}, user: "root"},
		"another user":               {sudoers: all, flags: []string{"-b", "--become-user", other}, user: other, uid: sshd.FirstUID + 1},
		"a shell only":               {sudoers: "mrlogin ALL=(root) NOPASSWD: /bin/sh\n", flags: []string{"-b"}, user: "root"},
		"strict sudoers":             {sudoers: "Defaults use_pty, secure_path=\"/usr/bin:/bin\", umask=0077, env_reset, !lecture\n" + all, flags: []string{"-b"}, user: "root"},
		"doas":                       {doas: "permit nopass mrlogin as root\n", flags: []string{"-b", "--become-method", "doas"}, user: "root"},
		"doas, another user":         {doas: "permit nopass mrlogin as mrother\n", flags: []string{"-b", "--become-method", "doas", "--become-user", other}, user: other, uid: sshd.FirstUID + 1},
		"a password":                 {sudoers: "mrlogin ALL=(ALL) ALL\n", flags: []string{"-b", "--become-password-command", "echo 'correct horse'; echo more"}, user: "root"},
		"a password each time":       {sudoers: "Defaults timestamp_timeout=0\nmrlogin ALL=(ALL) ALL\n", flags: []string{"-b", "--become-password-command", "echo 'correct horse'"}, user: "root"},
		"a password for nothing":     {sudoers: all, flags: []string{"-b", "--become-password-command", "echo wrong"}, user: "root"},
		"no sftp-server":             {sudoers: all, hide: []string{"/usr/lib/openssh/sftp-server"}, flags: []string{"-b"}, user: "root"},
		"no sftp-server, a password": {sudoers: "Defaults timestamp_timeout=0\nmrlogin ALL=(ALL) ALL\n", hide: []string{"/usr/lib/openssh/sftp-server"}, flags: []string{"-b", "--become-password-command", "echo 'correct horse'"}, user: "root"},
		"no sudo, but doas":          {doas: "permit nopass mrlogin as root\n", hide: []string{"/usr/bin/sudo"}, flags: []string{"-b"}, user: "root"},
		"input and output logs":      {sudoers: "Defaults log_output, iolog_dir=/var/tmp/.sudo-io\n" + all, flags: []string{"-b"}, user: "root"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := becomeLab(t, sshd.Options{Sudoers: tc.sudoers, DoasConf: tc.doas, Hide: tc.hide})
			h := l.hosts[0]
			script := "id -un; id -u; echo $HOME; " + throughEtcd
			p := l.run(l.args(append(tc.flags, "--json", "--no-cache", "--", "sh", "-c", script)...)...)
			p.wantCode(0)
			p.wantOutcome("h1", "ok")
			if got := p.output("h1", false); !strings.HasPrefix(got, fmt.Sprintf("%s\n%d\n", tc.user, tc.uid)) || !strings.HasSuffix(got, "OK\nb\n") {
				t.Errorf("output %q", got)
			}
			e := p.await("tunnel", func(e event) bool { return e.Type == "step_done" && e.Step == "tunnel" })
			if e.Detail != "stdio" { // a socket of sshd would be the login user's
				t.Errorf("tunnel over %q", e.Detail)
			}
			if err := os.RemoveAll(filepath.Join(h.VarTmp, ".sudo-io")); err != nil {
				t.Error(err)
			}
			h.checkNothing(t, p.runID())
			leftovers.Check(t, fmt.Sprintf("/var/tmp/mgmt-remote-%d/%s", tc.uid, p.runID()))
		})
	}
}

// TestBecomePasswordOfTheInventory has the password in an Ansible inventory; the one of a program is for hosts that have none.
func TestBecomePasswordOfTheInventory(t *testing.T) {
	t.Parallel()
	l := becomeLab(t, sshd.Options{Sudoers: "mrlogin ALL=(ALL) ALL\n"})
	h := l.hosts[0]
	inventory := filepath.Join(l.dir, "hosts.ini")
	text := fmt.Sprintf("h1 ansible_host=127.0.0.1 ansible_port=%d ansible_user=%s\n[all:vars]\nansible_become=yes\nansible_become_password='correct horse'\n", h.Port, h.User)
	if err := os.WriteFile(inventory, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := l.run("run", "--known-hosts", l.knownHosts(), "-i", h.KeyFile, "-I", inventory, "--become-password-command", "echo wrong", "--json", "--no-cache", "--", "id", "-un")
	p.wantCode(0)
	if got := p.output("h1", false); got != "root\n" {
		t.Errorf("output %q", got)
	}
	if all := p.plain.String() + p.stderr.String(); strings.Contains(all, "correct horse") {
		t.Errorf("the password is shown:\n%s", all)
	}
	h.checkNothing(t, p.runID())
}

// TestBecomeOwner looks at a session while it runs: all of it is the other user's, and closed to who logged in.
func TestBecomeOwner(t *testing.T) {
	t.Parallel()
	l := becomeLab(t, sshd.Options{Sudoers: "mrlogin ALL=(ALL) NOPASSWD: ALL\n"})
	h := l.hosts[0]
	p := l.start(l.args("-b", "--json", "--", "sh", "-c", "echo up; exec sleep 1000")...)
	pid := p.await("payload", func(e event) bool { return e.Type == "payload_started" }).PID
	files, err := leftovers.Files(h.VarTmp)
	if err != nil || len(files) < 5 {
		t.Fatalf("files of the session: %v, %v", files, err)
	}
	for _, f := range files {
		info, err := os.Lstat(f)
		if errors.Is(err, os.ErrNotExist) { // was temporary
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || stat.Uid != 0 || info.Mode()&0o077 != 0 && info.Mode().IsDir() {
			t.Errorf("%s: uid %d, %v", f, stat.Uid, info.Mode())
		}
	}
	// Who logged in can't enter the base: what is asked there as that user is refused.
	for _, said := range talkAs(t, sshd.FirstUID, h.VarTmp, []string{"unix:mgmt-remote-0/" + p.runID() + "/h1/ctl.sock", "unix:mgmt-remote-0/" + p.runID() + "/h1/endpoint.sock"}) {
		if !strings.HasPrefix(said, "no: ") || !strings.Contains(said, "permission denied") {
			t.Errorf("the login user at a socket: %s", said)
		}
	}
	h.checkTree(t, p.runID(), pid)
	p.signal(os.Interrupt)
	p.wantCode(130)
	for _, f := range must(leftovers.Files(h.VarTmp)) {
		if base := h.baseOf(0); f != base && !strings.HasPrefix(f, base+"/cache") {
			t.Errorf("left: %s", f)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestBecomeReattach drops the link twice while a payload runs as another user: it stays what it was.
func TestBecomeReattach(t *testing.T) {
	t.Parallel()
	l := becomeLab(t, sshd.Options{Sudoers: "Defaults timestamp_timeout=0\nmrlogin ALL=(ALL) ALL\n"})
	h := l.hosts[0]
	asked := filepath.Join(l.dir, "asked")
	secret := "echo once >>" + asked + "; echo 'correct horse'"
	p := l.start(l.args("-b", "--json", "--no-cache", "--become-password-command", secret, "--", "sh", "-c", "while ! etcdctl get --print-value-only /mgmt-remote/{{.Run}}/kv/go | grep -q yes; do sleep 0.2; done; echo done")...)
	first := p.await("payload", func(e event) bool { return e.Type == "payload_started" })
	epoch := first.Epoch
	for range 2 {
		if h.KillSessions() == 0 {
			t.Fatal("no session to kill")
		}
		again := p.await("payload again", func(e event) bool { return e.Type == "payload_started" && e.Epoch > epoch })
		epoch = again.Epoch
		if again.PID != first.PID || !again.Reattached {
			t.Errorf("payload %+v, was %+v", again, first)
		}
	}
	p.signal(os.Interrupt)
	p.wantCode(130)
	if times, err := os.ReadFile(asked); err != nil || string(times) != "once\n" {
		t.Errorf("asked for the password: %q, %v", times, err)
	}
	h.checkNothing(t, p.runID())
}

// TestBecomeResume kills the initiator. The next one asks for the password again, which nobody kept, and finds the session.
func TestBecomeResume(t *testing.T) {
	t.Parallel()
	l := becomeLab(t, sshd.Options{Sudoers: "Defaults timestamp_timeout=0\nmrlogin ALL=(ALL) ALL\n"})
	h := l.hosts[0]
	p := l.start(l.args("-b", "--json", "--no-cache", "--become-password-command", "echo 'correct horse'", "--", "sh", "-c", "echo up; exec sleep 1000")...)
	first := p.await("payload", func(e event) bool { return e.Type == "payload_started" })
	run := p.runID()
	p.kill()
	if err := filepath.WalkDir(l.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "correct horse") {
			t.Errorf("the password is in %s", path)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	nobody := l.run("resume", "--json", run)
	nobody.wantCode(1)
	wantSaid(t, nobody.stderr.String(), "nobody to ask", "--become-password-command")
	again := l.start("resume", "--json", "--become-password-command", "echo 'correct horse'", run)
	second := again.await("payload", func(e event) bool { return e.Type == "payload_started" })
	if second.PID != first.PID || !second.Reattached {
		t.Errorf("payload %+v, was %+v", second, first)
	}
	again.signal(os.Interrupt)
	again.wantCode(130)
	h.checkNothing(t, run)
}

// TestBecomeClean leaves a dead session of another user, which only clean as that user finds.
func TestBecomeClean(t *testing.T) {
	t.Parallel()
	l := becomeLab(t, sshd.Options{Sudoers: "mrlogin ALL=(ALL) NOPASSWD: ALL\n"})
	h := l.hosts[0]
	p := l.start(l.args("-b", "--json", "--", "sh", "-c", deafToTerm)...)
	pid := p.await("payload", func(e event) bool { return e.Type == "payload_started" }).PID
	run := p.runID()
	p.kill()
	shim := h.shimOf(t, run)
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitDead(t, shim)
	wantSaid(t, l.clean(0), "nothing was left")
	wantSaid(t, l.clean(0, "--become", "--cache"), "removed", run)
	awaitDead(t, pid)
	h.checkNothing(t, run)
}

// TestBecomeRefused is about hosts where it can't be done. Each is left at once, with a reason and what to do.
func TestBecomeRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sudoers string
		doas    string
		hide    []string
		flags   []string
		reason  string
		remedy  string
	}{
		"a password is wanted":                     {sudoers: "mrlogin ALL=(ALL) ALL\n", reason: "sudo wants a password for mrlogin to become root", remedy: "--ask-become-pass"},
		"nobody allowed it":                        {reason: "sudo wants a password", remedy: "NOPASSWD"},
		"requiretty":                               {sudoers: "Defaults requiretty\nmrlogin ALL=(ALL) NOPASSWD: ALL\n", reason: "requiretty", remedy: "Defaults:mrlogin !requiretty"},
		"another program only":                     {sudoers: "mrlogin ALL=(ALL) NOPASSWD: /bin/ls\n", reason: "sudo wants a password", remedy: "NOPASSWD"},
		"another user only":                        {sudoers: "mrlogin ALL=(mrother) NOPASSWD: ALL\n", reason: "sudo wants a password", remedy: "NOPASSWD"},
		"a wrong password":                         {sudoers: "mrlogin ALL=(ALL) ALL\n", flags: []string{"--become-password-command", "echo wrong"}, reason: "the password is wrong", remedy: "not tried again"},
		"the right password, another program only": {sudoers: "mrlogin ALL=(ALL) /bin/ls\n", flags: []string{"--become-password-command", "echo correct horse"}, reason: "may not run a shell as root", remedy: "/bin/sh"},
		"the right password, in no sudoers":        {flags: []string{"--become-password-command", "echo correct horse"}, reason: "mrlogin is not in the sudoers file", remedy: "visudo"},
		"doas wants a password":                    {doas: "permit mrlogin as root\n", flags: []string{"--become-method", "doas"}, reason: "doas wants a password", remedy: "permit nopass mrlogin as root"},
		"doas for somebody else":                   {doas: "permit nopass mrother as root\n", flags: []string{"--become-method", "doas"}, reason: "may not become root with doas", remedy: "permit nopass mrlogin as root"},
		"neither sudo nor doas":                    {hide: []string{"/usr/bin/sudo", "/usr/bin/doas"}, reason: "neither sudo nor doas", remedy: "install sudo"},
		"no doas":                                  {hide: []string{"/usr/bin/doas"}, flags: []string{"--become-method", "doas"}, reason: "no doas in a directory", remedy: "--become-method"},
		"no such user":                             {sudoers: "mrlogin ALL=(ALL) NOPASSWD: ALL\n", flags: []string{"--become-user", "mrnone"}, reason: "there is no user mrnone", remedy: "--become-user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := becomeLab(t, sshd.Options{Sudoers: tc.sudoers, DoasConf: tc.doas, Hide: tc.hide})
			p := l.run(l.args(append(tc.flags, "-b", "--json", "--", "true")...)...)
			p.wantCode(2)
			r := p.wantOutcome("h1", "failed")
			if !strings.Contains(r.Reason, tc.reason) || !strings.Contains(r.Remedy, tc.remedy) || r.Attempts != 1 || r.LeftBehind != "" {
				t.Errorf("%+v", r)
			}
			if strings.Contains(p.stderr.String()+p.plain.String(), "correct horse") {
				t.Error("the password is shown")
			}
			l.hosts[0].checkNothing(t, p.runID())
		})
	}
}

// TestBecomeNobodyElse has the login user be who is to be become: nothing is wrapped, and no sudo is needed.
func TestBecomeNobodyElse(t *testing.T) {
	t.Parallel()
	l := becomeLab(t, sshd.Options{})
	p := l.run(l.args("-b", "--become-user", login, "--json", "--no-cache", "--", "id", "-un")...)
	p.wantCode(0)
	if got := p.output("h1", false); got != login+"\n" {
		t.Errorf("output %q", got)
	}
	e := p.await("tunnel", func(e event) bool { return e.Type == "step_done" && e.Step == "tunnel" })
	if e.Detail != "forward" {
		t.Errorf("tunnel over %q", e.Detail)
	}
	l.hosts[0].checkNothing(t, p.runID())
}

// TestBecomeMaxSessions has a server that gives one session to each connection: the payload's is on a second one.
func TestBecomeMaxSessions(t *testing.T) {
	t.Parallel()
	l := becomeLab(t, sshd.Options{Sudoers: "mrlogin ALL=(ALL) NOPASSWD: ALL\n", Config: []string{"MaxSessions 1"}})
	h := l.hosts[0]
	p := l.start(l.args("-b", "--json", "--no-cache", "--", "sh", "-c", throughEtcd+"; exec sleep 1000")...)
	first := p.await("payload", func(e event) bool { return e.Type == "payload_started" })
	p.await("etcd", func(e event) bool { return e.Type == "output_received" && strings.Contains(string(e.Data), "b\n") })
	if h.KillSessions() == 0 {
		t.Fatal("no session to kill")
	}
	again := p.await("payload again", func(e event) bool { return e.Type == "payload_started" && e.Epoch > first.Epoch })
	if again.PID != first.PID || !again.Reattached {
		t.Errorf("payload %+v, was %+v", again, first)
	}
	p.signal(os.Interrupt)
	p.wantCode(130)
	h.checkNothing(t, p.runID())
}

// TestBecomeGraph keeps a graph applied as root, and a newer definition goes there, too.
func TestBecomeGraph(t *testing.T) {
	t.Parallel()
	l := becomeLab(t, sshd.Options{Sudoers: "mrlogin ALL=(ALL) NOPASSWD: ALL\n"})
	h := l.hosts[0]
	const graph = "graph: g\nresources:\n  file:\n  - {name: f, path: /var/tmp/of-root, content: %s, state: exists}\n"
	file := l.file("g.yaml", fmt.Sprintf(graph, "one"), 0o600)
	p := l.start(l.args("-b", "--json", "--no-cache", file)...)
	h.awaitFile(t, "of-root", "one")
	l.file("g.yaml", fmt.Sprintf(graph, "two"), 0o600)
	h.awaitFile(t, "of-root", "two")
	info, err := os.Stat(filepath.Join(h.VarTmp, "of-root"))
	if err != nil {
		t.Fatal(err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != 0 {
		t.Errorf("the file belongs to %v", info.Sys())
	}
	p.signal(os.Interrupt)
	p.wantCode(130)
	if err := os.Remove(filepath.Join(h.VarTmp, "of-root")); err != nil {
		t.Error(err)
	}
	h.checkNothing(t, p.runID())
}

// TestBecomeFromAnyShell has login shells that are none of POSIX, and noisy ones.
func TestBecomeFromAnyShell(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"/bin/bash", "/usr/bin/fish", "/bin/tcsh"} {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			t.Parallel()
			l := becomeLab(t, sshd.Options{Sudoers: "Defaults timestamp_timeout=0\nmrlogin ALL=(ALL) ALL\n", Shell: shell})
			h := l.hosts[0]
			for name, text := range map[string]string{
				".bashrc": "echo welcome; printf 'no end'; echo trouble >&2\n", ".tcshrc": "echo welcome\n", ".config/fish/config.fish": "echo welcome; echo trouble >&2\n",
			} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(h.Home, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(h.Home, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			p := l.run(l.args("-b", "--become-password-command", "echo 'correct horse'", "--json", "--no-cache", "--", "sh", "-c", "id -un; "+throughEtcd)...)
			p.wantCode(0)
			if got := p.output("h1", false); got != "root\nOK\nb\n" {
				t.Errorf("output %q", got)
			}
			h.checkNoProcess(t, p.runID())
			leftovers.Check(t, h.VarTmp)
		})
	}
}

// TestBecomeNothingOfTheLoginUser has a login user who put programs in front of the system's, on a host whose sudo passes on everything. None of
// them is run as the other user, and a base that the user made is not used.
func TestBecomeNothingOfTheLoginUser(t *testing.T) {
	t.Parallel()
	l := becomeLab(t, sshd.Options{
		Shell: "/bin/bash", Sudoers: "Defaults !secure_path, !env_reset\nmrlogin ALL=(ALL) NOPASSWD: ALL\n",
	})
	h := l.hosts[0]
	ran := filepath.Join(h.VarTmp, "ran")
	evil := "#!/bin/sh\n/usr/bin/id -u >>/var/tmp/ran\nexit 1\n"
	for _, name := range []string{
		"sudo", "sh", "ls", "id", "uname", "cat", "rm", "mkdir", "chmod", "df", "gzip", "sha256sum", "mv", "sync", "wc", "busctl", "loginctl", "systemd-run", "etcdctl", "find", "du",
	} {
		if err := os.MkdirAll(filepath.Join(h.Home, "evil"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(h.Home, "evil", name), []byte(evil), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rc := "export PATH=" + h.Home + "/evil:$PATH ENV=" + h.Home + "/evil/sh BASH_ENV=" + h.Home + "/evil/sh CDPATH=/tmp IFS=x\n"
	if err := os.WriteFile(filepath.Join(h.Home, ".bashrc"), []byte(rc), 0o644); err != nil {
		t.Fatal(err)
	}
	made := h.baseOf(0)
	if err := os.Mkdir(made, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(made, sshd.FirstUID, sshd.FirstUID); err != nil {
		t.Fatal(err)
	}
	// The prefix has the second say, so that nothing is written outside the test's directories.
	prefix := "/var/tmp/second"
	if err := os.Mkdir(h.outside(prefix), 0o755); err != nil {
		t.Fatal(err)
	}
	p := l.run(l.args("-b", "--prefix", prefix, "--json", "--no-cache", "--", "sh", "-c", "id -un; echo $PATH; "+throughEtcd)...)
	p.wantCode(0)
	if got := p.output("h1", false); !strings.HasPrefix(got, "root\n/usr/local/sbin:") || !strings.HasSuffix(got, "OK\nb\n") {
		t.Errorf("output %q", got)
	}
	wantSaid(t, l.clean(2, "-b", "--prefix", prefix), "belongs to uid 61000")
	uids, err := os.ReadFile(ran)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if slices.Contains(strings.Fields(string(uids)), "0") {
		t.Errorf("a program of the login user was run as root: %q", uids)
	}
	if left, err := leftovers.Files(h.outside(prefix)); err != nil || len(left) > 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestBecomeInBackground has a run go on without a terminal, retried, looked at and stopped by others; its initiator is killed on the way, and who
// stops the run then gives the password again.
func TestBecomeInBackground(t *testing.T) {
	t.Parallel()
	l := becomeLab(t, sshd.Options{Sudoers: "Defaults timestamp_timeout=0\nmrlogin ALL=(ALL) ALL\n"})
	h := l.hosts[0]
	secret := l.file("secret", sshd.Password+"\n", 0o600)
	flags := []string{"-b", "--become-password-command", "cat " + secret, "--no-cache"}
	run, initiator := l.background(l.args(append(flags, "--detach", "--", "sh", "-c", "echo up; exec sleep 1000")...)...)
	follower := l.start("attach", "--json", run)
	follower.awaitAnyOutput("h1")
	h.KillSessions()
	follower.await("attached again", func(e event) bool { return e.Type == "payload_started" && e.Reattached })
	l.run("retry", run, "h1").wantCode(0)
	status := l.run("status", run)
	status.wantCode(0)
	wantSaid(t, status.plain.String(), "h1", "Running")
	if err := initiator.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, initiator)
	follower.wantCode(1)

	l.run("stop", run).wantCode(1) // nobody to ask
	stop := l.run("stop", "--become-password-command", "cat "+secret, run)
	stop.wantCode(0)
	h.checkNothing(t, run)
}
