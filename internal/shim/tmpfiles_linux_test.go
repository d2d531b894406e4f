package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
)

// beside is another session of the same run, in the same base.
func (s *session) beside(host string) *session {
	s.t.Helper()
	other := *s
	other.spec.Host, other.dir = host, filepath.Join(filepath.Dir(s.dir), host)
	if err := os.MkdirAll(other.dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(other.killShim)
	return &other
}

// inCache has the session's shim be a copy of the program in the base's cache, as step 3 leaves it.
func (s *session) inCache() {
	s.t.Helper()
	data, err := os.ReadFile(program)
	if err != nil {
		s.t.Fatal(err)
	}
	name := filepath.Join(s.base, "cache", "0123", "mgmt-remote-shim")
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, data, 0o700)); err != nil {
		s.t.Fatal(err)
	}
	s.via = []string{name}
}

// unlocked waits until nobody holds a directory: of a process with several threads, that is a moment after its first one is dead to others.
func unlocked(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	eventually(t, dir+" unlocked", func() bool { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil })
}

// TestTemporaryFilesAreCleaned has the real systemd-tmpfiles clean a directory in which everything is too old, as it does /tmp and /var/tmp
// every day. What a live session needs stays, what a dead one left goes, and with the last session the cache.
func TestTemporaryFilesAreCleaned(t *testing.T) {
	tool, err := exec.LookPath("systemd-tmpfiles")
	if err != nil {
		t.Fatalf("%v: install systemd: make deps", err)
	}
	live := script(t, `echo up; read -r _ < fifo; echo down`)
	live.inCache()
	dead := live.beside("h2")
	for _, s := range []*session{live, dead} {
		s.write()
		if err := syscall.Mkfifo(s.path("fifo"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, w := live.welcome("start", nil)
	c.outputUntil("up\n")
	other, _ := dead.welcome("start", nil)
	other.outputUntil("up\n")
	dead.killShim()
	other.kill()
	unlocked(t, dead.dir)

	top := filepath.Dir(live.base)
	config := filepath.Join(t.TempDir(), "aged.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, "d %s - - - 1us\n", top), 0o600); err != nil {
		t.Fatal(err)
	}
	clean := func() {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), tool, "--clean", config).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	files := func(dir string) []string {
		t.Helper()
		found, err := leftovers.Files(dir)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	before := slices.Concat(files(live.dir), files(live.base+"/cache"))
	clean()
	if after := slices.Concat(files(live.dir), files(live.base+"/cache")); !slices.Equal(before, after) {
		t.Errorf("of a live session %q was left of %q", after, before)
	}
	if _, err := os.Lstat(dead.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dead session is still there: %v, %q", err, files(dead.dir))
	}

	c.kill()
	again, x := live.welcome("attach", nil) // through the program in the cache
	if x.PayloadPid != w.PayloadPid {
		t.Errorf("payload %d became %d", w.PayloadPid, x.PayloadPid)
	}
	if err := os.WriteFile(live.path("fifo"), []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	if out, _, exit := again.collect(0); out != "up\ndown\n" || exit.Code != 0 {
		t.Errorf("%q, %v", out, exit)
	}
	again.cleanUp()
	live.gone(int(x.ShimPid))
	unlocked(t, live.base+"/cache/0123")
	clean()
	if left := files(top); len(left) > 0 {
		t.Errorf("left after the last session: %q", left)
	}
}
