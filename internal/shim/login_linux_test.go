package shim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const sessionCgroups = "9:name=systemd:/user.slice/user-1000.slice/session-7.scope\n0::/user.slice/user-1000.slice/session-7.scope\n"

func TestOutlive(t *testing.T) {
	const warn = "warning"
	for name, tc := range map[string]struct {
		cgroups string
		uid     int
		logind  string // what busctl prints; "": it fails
		linger  string
		want    string // the words before the daemon, "" for none, warn for a warning
	}{
		"no systemd":          {"0::/\n", 1000, "b true\nas 0\nas 0\n", "Linger=yes\n", ""},
		"a service":           {"0::/system.slice/session-cleaner.service\n", 1000, "b true\nas 0\nas 0\n", "", ""},
		"no logind":           {sessionCgroups, 1000, "", "", ""},
		"it kills nobody":     {sessionCgroups, 1000, "b false\nas 0\nas 1 \"root\"\n", "", ""},
		"it kills":            {sessionCgroups, 1000, "b true\nas 0\nas 1 \"root\"\n", "Linger=no\n", warn},
		"the user lingers":    {sessionCgroups, 1000, "b true\nas 0\nas 1 \"root\"\n", "Linger=yes\n", "systemd-run --scope --quiet --user --"},
		"no loginctl":         {sessionCgroups, 1000, "b true\nas 0\nas 0\n", "", warn},
		"excluded":            {sessionCgroups, 1000, "b true\nas 0\nas 2 \"root\" \"anna\"\n", "", ""},
		"excluded and listed": {sessionCgroups, 1000, "b true\nas 1 \"anna\"\nas 1 \"anna\"\n", "", ""},
		"only others":         {sessionCgroups, 1000, "b true\nas 1 \"bert\"\nas 0\n", "", ""},
		"only this user":      {sessionCgroups, 1000, "b false\nas 1 \"anna\"\nas 0\n", "", warn},
		"root":                {sessionCgroups, 0, "b true\nas 0\nas 1 \"root\"\n", "", ""},
		"root is not spared":  {sessionCgroups, 0, "b true\nas 0\nas 0\n", "", "systemd-run --scope --quiet --"},
		"anna became root":    {sessionCgroups, 0, "b true\nas 0\nas 1 \"root\"\n", "", "systemd-run --scope --quiet --"},
		"anna became bert":    {sessionCgroups, 1001, "b true\nas 0\nas 1 \"bert\"\n", "Linger=no\n", warn},
		"garbage":             {sessionCgroups, 1000, "b true\n", "", ""},
		"more garbage":        {sessionCgroups, 1000, "b true\nas 2 \"x\"\nas 0\n", "", ""},
	} {
		l := login{cgroups: tc.cgroups, uid: tc.uid, user: "anna", owner: "anna", ask: func(argv ...string) (string, error) {
			out := map[string]string{"busctl": tc.logind, "loginctl": tc.linger}[argv[0]]
			if out == "" {
				return "", errors.New("no answer")
			}
			return out, nil
		}}
		if tc.uid == 0 {
			l.user, l.owner = "root", "root"
		}
		if strings.HasPrefix(name, "anna became") {
			l.owner = "anna"
		}
		before, warning := l.outlive()
		if got := strings.Join(before, " "); got != strings.TrimSuffix(tc.want, warn) || (warning != "") != (tc.want == warn) {
			t.Errorf("%s: %q, warning %q", name, got, warning)
		}
		if warning != "" && !strings.Contains(warning, "enable-linger anna") {
			t.Errorf("%s: the warning does not help: %s", name, warning)
		}
	}
}

func FuzzParseStrings(f *testing.F) {
	f.Add(`as 2 "root" "anna"`)
	f.Add(`as 1 "a`)
	f.Fuzz(func(t *testing.T, text string) {
		names, err := parseStrings(text)
		if err != nil {
			return
		}
		quoted := fmt.Sprintf("as %d", len(names))
		for _, n := range names {
			quoted += fmt.Sprintf(" %q", n)
		}
		if again, err := parseStrings(quoted); !strings.ContainsFunc(strings.Join(names, ""), func(r rune) bool { return r <= ' ' }) &&
			(err != nil || !slices.Equal(again, names)) {
			t.Fatalf("%q became %q (%v)", names, again, err)
		}
	})
}

// loginScope makes a cgroup as a login session has it, and returns what starts a process in it.
func loginScope(t *testing.T) *syscall.SysProcAttr {
	t.Helper()
	root, err := os.MkdirTemp("", "cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", root, "cgroup2", 0, ""); err != nil {
		t.Fatalf("this test needs root, and cgroups v2: %v", err)
	}
	parent, err := os.MkdirTemp(root, "mgmt-remote-test-")
	if err != nil {
		t.Fatal(err)
	}
	scope := filepath.Join(parent, "session-1.scope")
	if err := os.Mkdir(scope, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(scope, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Close(fd)
		eventually(t, "cgroup empty", func() bool { return os.Remove(scope) == nil })
		if err := os.Remove(parent); err != nil {
			t.Error(err)
		}
		// The children of tests beside this one have everything open until they run their own programs.
		eventually(t, "cgroups unmounted", func() bool { return unix.Unmount(root, 0) == nil })
		if err := os.Remove(root); err != nil {
			t.Error(err)
		}
	})
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
}

// standIn puts a program of that name in front of PATH. It is a shell script, which notes that it was called.
func standIn(t *testing.T, dir, name, text string) {
	t.Helper()
	text = "#!/bin/sh\necho " + name + " \"$*\" >>" + dir + "/calls\n" + text + "\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestDaemonOutlivesItsLogin has scripts in the place of systemd's programs: this machine need not run systemd.
func TestDaemonOutlivesItsLogin(t *testing.T) {
	const kills = "echo b true; echo as 0; echo as 0"
	for name, tc := range map[string]struct {
		busctl, systemdRun string
		wrapped            bool
		warning            string
	}{
		"logind kills nobody":    {busctl: "echo b false; echo as 0; echo as 0"},
		"in a scope of its own":  {busctl: kills, systemdRun: `while [ "$1" != -- ]; do shift; done; shift; IN_SCOPE=yes exec "$@"`, wrapped: true},
		"systemd-run fails":      {busctl: kills, systemdRun: "echo no bus >&2; exit 1", wrapped: true, warning: "systemd-run failed"},
		"systemd-run hangs":      {busctl: kills, systemdRun: "exec sleep 1000", wrapped: true, warning: "systemd-run failed"},
		"busctl hangs":           {busctl: "exec sleep 1000"},
		"systemd-run is missing": {busctl: kills, warning: "systemd-run failed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := script(t, `echo "scope: $IN_SCOPE"`)
			s.write()
			dir := t.TempDir()
			standIn(t, dir, "busctl", tc.busctl)
			path := dir + ":" + os.Getenv("PATH")
			if tc.systemdRun != "" {
				standIn(t, dir, "systemd-run", tc.systemdRun)
			} else if tc.warning != "" {
				path = dir
				standIn(t, dir, "busctl", "PATH=/usr/bin:/bin\n"+tc.busctl)
			}
			t.Parallel() // from here on: a program can't be run while a child that is just forked has it open for writing
			s.start = &exec.Cmd{SysProcAttr: loginScope(t), Env: append(os.Environ(), "PATH="+path, "LOGNAME=root")}
			c, w := s.welcome("start", nil)
			out, _, exit := c.collect(0)
			if inScope := tc.wrapped && tc.warning == ""; out != map[bool]string{true: "scope: yes\n", false: "scope: \n"}[inScope] || exit.Code != 0 {
				t.Errorf("got %q, %v", out, exit)
			}
			switch {
			case tc.warning == "" && len(w.Warnings) > 0, tc.warning != "" && (len(w.Warnings) != 1 || !strings.Contains(w.Warnings[0], tc.warning)):
				t.Errorf("warnings %q", w.Warnings)
			}
			calls, err := os.ReadFile(filepath.Join(dir, "calls"))
			if err != nil || strings.Contains(string(calls), "systemd-run --scope --quiet -- /") != tc.wrapped {
				t.Errorf("called (%v):\n%s", err, calls)
			}
			if !w.StartedNow || w.ShimPid != int32(s.record().Starter.PID) {
				t.Errorf("welcome %v, record %+v", w, s.record())
			}
			again, w2 := s.welcome("attach", nil) // the next initiator is told, too
			if !slices.Equal(w2.Warnings, w.Warnings) {
				t.Errorf("then warnings %q", w2.Warnings)
			}
			again.collect(0)
			again.cleanUp()
			s.gone(int(w.ShimPid))
			again.kill()
			c.kill()
		})
	}
}

func TestNoQuestionsWithoutALogin(t *testing.T) {
	s := newSession(t, "true")
	s.write()
	dir := t.TempDir()
	standIn(t, dir, "busctl", "exit 1")
	s.start = &exec.Cmd{Env: append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))}
	c, _ := s.welcome("start", nil)
	c.collect(0)
	if calls, err := os.ReadFile(filepath.Join(dir, "calls")); err == nil {
		t.Errorf("called: %s", calls)
	}
	c.cleanUp()
}
