package leftovers

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestMentions(t *testing.T) {
	const dir = "/tmp/a"
	for s, want := range map[string]bool{
		"/tmp/a": true, "/tmp/a/b": true, "--dir=/tmp/a": true, "x:/tmp/a:y": true, "/tmp/a (deleted)": true,
		"/tmp/ab": false, "/private/tmp/a": false, "/tmp/a.old": false, "/tmp/ab /tmp/a": true, "": false, "\x00/tmp/a\x00": true,
	} {
		if got := mentions(s, dir); got != want {
			t.Errorf("mentions(%q, %q) = %v, want %v", s, dir, got, want)
		}
	}
}

func TestParseStat(t *testing.T) {
	p, err := parseStat("12 (a) (b)) S 3 4 5 0 -1 0\n")
	if err != nil || p.PPID != 3 || p.PGID != 4 || p.SID != 5 || p.Command != "[a) (b)]" {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, bad := range []string{"", "12", "12 (a", "12 (a) S 3 4", "12 (a) S x 4 5"} {
		if p, err := parseStat(bad); err == nil {
			t.Errorf("parseStat(%q) = %+v, want an error", bad, p)
		}
	}
}

func TestSocketPath(t *testing.T) {
	const head = "0000000000000000: 00000002 00000000 00010000 0001 01 "
	for line, want := range map[string]string{
		head + "12345 /tmp/a b/s":                        "/tmp/a b/s",
		head + "    1 /tmp/s":                            "/tmp/s",
		head + "12345":                                   "",
		head + "12345 @abstract":                         "",
		"Num RefCount Protocol Flags Type St Inode Path": "",
		"": "",
	} {
		if got := socketPath(line); got != want {
			t.Errorf("socketPath(%q) = %q, want %q", line, got, want)
		}
	}
}

func FuzzParsers(f *testing.F) {
	f.Add("12 (a) S 3 4 5")
	f.Add("0: 2 0 1 1 1 12345 /tmp/s")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parseStat(s); err == nil && p.Command == "" {
			t.Error("a process without a name")
		}
		if path := socketPath(s); path != "" && !strings.HasPrefix(path, "/") {
			t.Errorf("not a path: %q", path)
		}
		mentions(s, "/tmp/a")
	})
}

// start runs a shell that says it is ready and then waits for the end of its stdin, so that its life doesn't depend on
// a clock.
func start(t *testing.T, cmd *exec.Cmd) (pid int, stop func()) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("no sign of life: %q, %v", line, err)
	}
	var stopped bool
	stop = func() {
		if !stopped {
			stopped = true
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return cmd.Process.Pid, stop
}

const waitForEOF = "echo ready; cat"

func TestProcesses(t *testing.T) {
	for _, tc := range []struct {
		why  string
		make func(dir string) *exec.Cmd
	}{
		{"cwd", func(dir string) *exec.Cmd {
			c := exec.Command("/bin/sh", "-c", waitForEOF)
			c.Dir = dir
			c.Env = []string{"PATH=/usr/bin:/bin"}
			return c
		}},
		{"cmdline", func(dir string) *exec.Cmd { return exec.Command("/bin/sh", "-c", waitForEOF, "--dir="+dir+"/x") }},
		{"environ", func(dir string) *exec.Cmd {
			c := exec.Command("/bin/sh", "-c", waitForEOF)
			c.Env = append(os.Environ(), "MARK="+dir)
			return c
		}},
		{"exe", func(dir string) *exec.Cmd {
			sh, err := os.ReadFile("/bin/sh")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir+"/sh", sh, 0o700); err != nil {
				t.Fatal(err)
			}
			return &exec.Cmd{Path: dir + "/sh", Args: []string{"sh", "-c", waitForEOF}}
		}},
	} {
		t.Run(tc.why, func(t *testing.T) {
			dir := t.TempDir()
			if found, err := Processes(dir); err != nil || len(found) != 0 {
				t.Fatalf("before: %v, %v", found, err)
			}
			pid, stop := start(t, tc.make(dir))
			found, err := Processes(dir)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(found, func(p Process) bool { return p.PID == pid })
			if i < 0 || found[i].Why != tc.why || found[i].PPID != os.Getpid() {
				t.Errorf("found %v, want pid %d because of %s", found, pid, tc.why)
			}
			stop()
			Check(t, dir+"/gone")
		})
	}
}

func TestProcessesOverSymlink(t *testing.T) {
	dir := t.TempDir()
	real, link := dir+"/real", dir+"/link"
	if err := os.Mkdir(real, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", waitForEOF)
	cmd.Dir = real
	pid, _ := start(t, cmd)
	found, err := Processes(link)
	if err != nil || !slices.ContainsFunc(found, func(p Process) bool { return p.PID == pid }) {
		t.Errorf("found %v, %v, want pid %d", found, err, pid)
	}
}

func TestWithEnv(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", waitForEOF)
	value := t.TempDir()
	cmd.Env = append(os.Environ(), "LEFTOVERS_TEST="+value)
	pid, _ := start(t, cmd)
	found, err := WithEnv("LEFTOVERS_TEST", value)
	if err != nil || !slices.ContainsFunc(found, func(p Process) bool { return p.PID == pid }) {
		t.Errorf("found %v, %v, want pid %d", found, err, pid)
	}
	if found, err = WithEnv("LEFTOVERS_TEST", value+"x"); err != nil || len(found) != 0 {
		t.Errorf("found %v, %v, want nothing", found, err)
	}
}

func TestSocketsAndFiles(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", dir+"/a b.sock")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{dir + "/a b.sock"}
	if !slices.Equal(r.Sockets, want) || !slices.Equal(r.Files, want) {
		t.Errorf("found %+v, want %q as socket and file", r, want)
	}
	if !strings.Contains(r.String(), "socket   "+want[0]) || !strings.Contains(r.String(), "file     "+want[0]) {
		t.Errorf("report says %q", r)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = Find(dir); err != nil || len(r.Sockets) != 0 || !slices.Equal(r.Files, want) {
		t.Errorf("after close: %+v, %v, want only the file", r, err)
	}
}

func TestFindRefusesNonsense(t *testing.T) {
	for _, dir := range []string{"", "/", "/tmp/.."} {
		if r, err := Processes(dir); err == nil {
			t.Errorf("Processes(%q) = %v, want an error", dir, r)
		}
	}
}

type recorder struct{ said []string }

func (*recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*pollEvery)
	defer cancel()
	var r recorder
	check(ctx, &r, dir)
	if len(r.said) != 1 || !strings.Contains(r.said[0], file) {
		t.Errorf("check said %q, want it to name %s", r.said, file)
	}
}

func TestWaitEndsWhenNothingIsLeft(t *testing.T) {
	looks := 0
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := wait(ctx, func() (Report, error) {
		looks++
		if looks < 3 {
			return Report{Files: []string{"/x"}}, nil
		}
		return Report{}, nil
	})
	if err != nil || !r.Empty() || looks != 3 {
		t.Errorf("got %v, %v after %d looks", r, err, looks)
	}
}
