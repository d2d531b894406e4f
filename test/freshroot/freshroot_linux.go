package freshroot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The environment of the test binary in its namespaces.
const (
	envTest = "FRESHROOT_TEST" // name of the one test whose body runs there
	envDir  = "FRESHROOT_DIR"  // an empty directory of the machine, to mount on
)

// finished is what the inner process writes to its descriptor 3 when the body has ended, however it ended.
const finished = "finished"

// Run runs body with a fresh root and waits for it. body may use t as always, subtests included; what it says and whether
// it fails is then told as of the outer test. What stands around Run in the test runs twice: on the machine, and in the
// inner process, there before Run still on the machine's files. Best is nothing.
//
// The changes of one body are not seen by another, even of the same test. Tests with a fresh root may be parallel.
func Run(t *testing.T, body func()) {
	t.Helper()
	switch os.Getenv(envTest) {
	case t.Name():
		inside(t, body)
	case "":
		outside(t)
	default: // the inner process comes by on its way to a subtest
		t.Logf("not the test that this process is for: %s", os.Getenv(envTest))
	}
}

// outside runs the test binary again for the calling test.
func outside(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("run as root: a fresh root needs new namespaces and an overlay of /")
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.CommandContext(t.Context(), binary, arguments(t)...)
	// A TMPDIR below the machine's /tmp is not there any more.
	cmd.Env = append(os.Environ(), envTest+"="+t.Name(), envDir+"="+t.TempDir(), "TMPDIR=/tmp")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		Unshareflags: syscall.CLONE_NEWNS, // package syscall then also makes all mounts private
		Pdeathsig:    syscall.SIGKILL,
	}
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Start()
	if closeErr := write.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		t.Fatalf("start %s in new namespaces: %v", binary, err)
	}
	err = cmd.Wait()
	said, readErr := io.ReadAll(read)
	switch {
	case err != nil:
		t.Errorf("with a fresh root: %v\n%s", err, out.Bytes())
	case readErr != nil || string(said) != finished:
		t.Errorf("with a fresh root, the test did not come to its end: %q %v\n%s", said, readErr, out.Bytes())
	case testing.Verbose():
		t.Logf("with a fresh root:\n%s", out.Bytes())
	}
}

// arguments are those of the inner test binary.
func arguments(t *testing.T) []string {
	parts := strings.Split(t.Name(), "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	args := []string{
		"-test.run=" + strings.Join(parts, "/"), "-test.count=1",
		"-test.v=" + strconv.FormatBool(testing.Verbose()), "-test.short=" + strconv.FormatBool(testing.Short()),
	}
	if deadline, limited := t.Deadline(); limited { // a bit less, so that the outer test can tell where the inner one hangs
		args = append(args, "-test.timeout="+(time.Until(deadline)*9/10).String())
	}
	return args
}

// inside makes the root fresh and runs body. It is in the inner process, which has nothing to do after this.
func inside(t *testing.T, body func()) {
	t.Helper()
	said := os.NewFile(3, "finished")
	defer func() {
		if _, err := said.WriteString(finished); err != nil {
			t.Errorf("tell the outer process: %v", err)
		}
		_ = said.Close() // the process ends now
	}()
	syscall.CloseOnExec(int(said.Fd()))
	if err := enter(os.Getenv(envDir)); err != nil {
		t.Fatalf("no fresh root (it needs overlayfs and the right to mount): %v", err)
	}
	if err := errors.Join(os.Unsetenv(envTest), os.Unsetenv(envDir)); err != nil {
		t.Fatal(err)
	}
	body()
}

// enter makes a fresh root and moves this process there. dir is an empty directory.
func enter(dir string) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	syscall.Umask(0o022) // the directories below are for programs of all users
	root := filepath.Join(dir, "root")
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	if err := mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for _, d := range []string{root, upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+upper+",workdir="+work); err != nil {
		return err
	}
	for _, d := range []string{"run", "tmp", "var/tmp"} {
		if err := mount("tmpfs", filepath.Join(root, d), "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=01777"); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "run"), 0o755); err != nil {
		return err
	}
	if err := mount("proc", filepath.Join(root, "proc"), "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return err
	}
	if err := mount("/dev", filepath.Join(root, "dev"), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", filepath.Join(root, "dev/shm"), "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=01777"); err != nil {
		return err
	}
	for _, path := range []string{wd, binary} {
		if err := show(root, path); err != nil {
			return err
		}
	}
	return pivot(root, wd)
}

// show makes path, a file or directory, readable at the same place in root unless it is there already.
func show(root, path string) error {
	target := filepath.Join(root, path)
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		if err = os.MkdirAll(filepath.Dir(target), 0o755); err == nil {
			err = os.WriteFile(target, nil, 0o755)
		}
	}
	if err != nil {
		return err
	}
	if err := mount(path, target, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	return mount("", target, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "") // a bind mount ignores it at first
}

// pivot makes root the root of this mount namespace. The old one can't be reached afterwards, by chroot(2) tricks neither.
func pivot(root, wd string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	// The old root is mounted over the new one and taken away again; pivot_root(2) describes this.
	if err := syscall.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return os.Chdir(wd)
}

func mount(source, target, fstype string, flags uintptr, options string) error {
	if err := syscall.Mount(source, target, fstype, flags, options); err != nil {
		return fmt.Errorf("mount %s%s on %s: %w", fstype, source, target, err)
	}
	return nil
}
