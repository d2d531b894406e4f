package freshroot_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/freshroot"
)

// outer is the environment variable through which the tests below tell the inner process what the machine has.
const outer = "FRESHROOT_OUTER"

func TestNothingReachesTheMachine(t *testing.T) {
	paths := []string{"/etc/passwd", "/etc/freshroot-was-here", "/tmp/freshroot-was-here", "/run/freshroot-was-here", "/var/lib/dpkg/status"}
	before := contents(t, paths)
	freshroot.Run(t, func() {
		for _, path := range paths {
			if err := os.WriteFile(path, []byte("changed\n"), 0o600); err != nil {
				t.Error(err)
			}
		}
		// What nothing on the machine writes to at the same time: what comes anew below an overlay shows in it.
		if out, err := exec.Command("rm", "-rf", "/var/lib/dpkg").CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
		for _, got := range contents(t, paths[:4]) {
			if got != "changed\n" {
				t.Errorf("inside, a file has %q", got)
			}
		}
	})
	if isInside() {
		return
	}
	for i, after := range contents(t, paths) { // others may change them meanwhile, but not to this
		if after == "changed\n" || after == "" && before[i] != "" {
			t.Errorf("%s of the machine changed", paths[i])
		}
	}
}

// isInside is for what stands after Run.
func isInside() bool { return os.Getpid() == 1 }

func contents(t *testing.T, paths []string) []string {
	t.Helper()
	var list []string
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		list = append(list, string(data))
	}
	return list
}

func TestWhatIsInside(t *testing.T) {
	if os.Getenv(outer) == "" {
		secret := filepath.Join(t.TempDir(), "on-the-machine")
		if err := os.WriteFile(secret, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv(outer, secret)
	}
	freshroot.Run(t, func() {
		if os.Getpid() != 1 {
			t.Errorf("pid %d, want 1 of a namespace of its own", os.Getpid())
		}
		if _, err := os.Stat(os.Getenv(outer)); !os.IsNotExist(err) {
			t.Errorf("a file in /tmp of the machine is seen: %v", err)
		}
		if _, err := os.Stat("freshroot_linux_test.go"); err != nil {
			t.Errorf("the working directory: %v", err)
		}
		if err := os.WriteFile(filepath.Join(t.TempDir(), "x"), nil, 0o600); err != nil {
			t.Errorf("temporary files: %v", err)
		}
		binary, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(binary, "-test.list=TestWhat").CombinedOutput(); err != nil || !strings.Contains(string(out), "TestWhatIsInside") {
			t.Errorf("the test binary: %v %s", err, out)
		}
		if err := os.WriteFile(binary, nil, 0o600); err == nil {
			t.Error("the test binary of the machine can be overwritten")
		}
		if out, err := exec.Command("sh", "-c", "echo x >/dev/null && ls /proc/1/stat").CombinedOutput(); err != nil {
			t.Errorf("/dev and /proc: %v %s", err, out)
		}
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil || strings.Contains(string(mounts), os.Getenv("HOME")+" ") {
			t.Errorf("mounts of the machine are left: %v\n%s", err, mounts)
		}
	})
}

func TestSubtestsHaveTheirOwn(t *testing.T) {
	for _, name := range []string{"one", "two (with a name)"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			freshroot.Run(t, func() {
				if _, err := os.Stat("/etc/mine"); !os.IsNotExist(err) {
					t.Errorf("the other one's file is seen: %v", err)
				}
				if err := os.WriteFile("/etc/mine", []byte(name), 0o600); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A process that the body leaves ends with it, though nobody waits for it.
func TestProcessesEnd(t *testing.T) {
	if os.Getenv(outer) == "" {
		t.Setenv(outer, fmt.Sprintf("31536001.%d%d", os.Getpid(), time.Now().UnixNano())) // to sleep for; nobody else does
	}
	argument := os.Getenv(outer)
	freshroot.Run(t, func() {
		cmd := exec.Command("setsid", "sleep", argument)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if out, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat"); err != nil {
			t.Errorf("it does not run: %s %v", out, err)
		}
	})
	if isInside() {
		return
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(lines) == 0 {
		t.Fatalf("processes: %v %v", lines, err)
	}
	for _, path := range lines {
		if line, err := os.ReadFile(path); err == nil && strings.Contains(string(line), argument) {
			t.Errorf("%s lives: %q", path, line)
		}
	}
}

// failing is the environment variable that makes TestPlantedFailures fail on purpose.
const failing = "FRESHROOT_FAIL"

// A harness that can't fail is none: a failed assertion, a panic, a body that ends the process and a body that no
// process reached must fail the outer test, which is run as a process of its own for this.
func TestFailuresAreSeen(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for how, want := range map[string]string{
		"error": "planted failure", "panic": "planted panic", "exit": "did not come to its end", "subtest": "planted in a subtest",
		"unreached": "did not come to its end", "user": "run as root",
	} {
		cmd := exec.Command(binary, "-test.run=^TestPlantedFailures$", "-test.v")
		cmd.Env = append(os.Environ(), failing+"="+how)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) || !strings.Contains(string(out), "--- FAIL: TestPlantedFailures") {
			t.Errorf("%s: %v, output lacks %q:\n%s", how, err, want, out)
		}
	}
}

func TestPlantedFailures(t *testing.T) {
	how := os.Getenv(failing)
	switch {
	case how == "user":
		if err := syscall.Setuid(65534); err != nil {
			t.Fatal(err)
		}
	case how == "unreached" && isInside():
		return
	}
	freshroot.Run(t, func() {
		switch how {
		case "error":
			t.Error("planted failure")
		case "panic":
			panic("planted panic")
		case "exit":
			os.Exit(0)
		case "subtest":
			t.Run("sub", func(t *testing.T) { t.Error("planted in a subtest") })
		}
	})
}
