package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

func openRun(t testing.TB, root, id string) *Run {
	t.Helper()
	r, err := OpenRun(RunOptions{Root: root, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func closeRun(t testing.TB, r *Run) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func record(t testing.TB, r *Run, host string, rec SessionRecord) {
	t.Helper()
	if err := r.Record(t.Context(), host, rec); err != nil {
		t.Fatal(err)
	}
}

func TestNewRun(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "runs")
	r := openRun(t, root, "")
	defer closeRun(t, r)
	if err := validID(r.ID()); err != nil {
		t.Error(err)
	}
	if r.Dir() != filepath.Join(root, r.ID()) || r.EtcdDir() != filepath.Join(r.Dir(), "etcd") {
		t.Errorf("dir %s, etcd %s", r.Dir(), r.EtcdDir())
	}
	record(t, r, "a", SessionRecord{Phase: PhaseStarting})
	l, err := r.Log("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Gap(0, 10), l.Append(10, []byte("x")), l.Close()); err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %o", path, st.Mode().Perm())
		}
		return nil
	})
	if err != nil || files != 4 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestDefaultRoot(t *testing.T) {
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	if got, err := rootDir(""); err != nil || got != filepath.Join(state, "mgmt-remote", "runs") {
		t.Errorf("got %s, %v", got, err)
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_STATE_HOME", "relative")
	if got, err := rootDir(""); err != nil || got != filepath.Join(home, ".local", "state", "mgmt-remote", "runs") {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestOneProcessDrivesARun(t *testing.T) {
	root := t.TempDir()
	r := openRun(t, root, "")
	// A second descriptor is refused in the same process as in another one: flock belongs to the open file.
	_, err := OpenRun(RunOptions{Root: root, ID: r.ID()})
	if !errors.Is(err, ErrLocked) || fault.KindOf(err) != fault.Environment {
		t.Fatalf("got %v", err)
	}
	if out, err := exec.Command("flock", "-n", r.Dir(), "true").CombinedOutput(); err == nil {
		t.Errorf("another process got the lock: %s", out)
	}
	closeRun(t, r)
	closeRun(t, openRun(t, root, r.ID()))
}

func TestOpenRunRefuses(t *testing.T) {
	root := t.TempDir()
	r := openRun(t, root, "")
	closeRun(t, r)

	if _, err := OpenRun(RunOptions{Root: root, ID: "zzzzzzzz"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a run that isn't there: %v", err)
	}
	for _, id := range []string{"..", "../a", "ABCDEFGH", "abcdefg", "abcdefghi", "abc/efgh", ".removed"} {
		if _, err := OpenRun(RunOptions{Root: root, ID: id}); err == nil || !strings.Contains(err.Error(), "no run ID") {
			t.Errorf("%q: %v", id, err)
		}
	}
	if err := os.Symlink(r.Dir(), filepath.Join(root, "linklink")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRun(RunOptions{Root: root, ID: "linklink"}); err == nil {
		t.Error("followed a symlink")
	}
	if err := os.Chmod(r.Dir(), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRun(RunOptions{Root: root, ID: r.ID()}); err == nil || !strings.Contains(err.Error(), "0700") {
		t.Errorf("an open directory: %v", err)
	}
}

func TestIDsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id, err := newID()
		if err != nil || seen[id] || validID(id) != nil {
			t.Fatalf("%q: %v", id, err)
		}
		seen[id] = true
	}
}

func TestRecordsSurvive(t *testing.T) {
	root := t.TempDir()
	r := openRun(t, root, "")
	if rec, ok := r.Session("a"); ok {
		t.Fatalf("a new run knows %v", rec)
	}
	full := SessionRecord{
		Phase: PhaseFinished, Nonce: "n", Token: "t", Base: "/var/tmp/b", Dir: "/var/tmp/b/r/a", Shim: []string{"/shim", "shim"}, BootID: "boot",
		Fence: 3, Epoch: 1 << 60, Exit: &ExitRecord{Code: 7, Signal: 9, Error: "why"},
	}
	record(t, r, "a", SessionRecord{Phase: PhaseStarting, Nonce: "n"})
	record(t, r, "a", full)
	record(t, r, "b", SessionRecord{Phase: PhaseStarted})
	closeRun(t, r)
	if err := r.Record(t.Context(), "a", full); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}

	r = openRun(t, root, r.ID())
	defer closeRun(t, r)
	got, ok := r.Session("a")
	if !ok {
		t.Fatal("it is gone")
	}
	if !reflect.DeepEqual(got, full) {
		t.Errorf("got %+v, want %+v", got, full)
	}
	if hosts := r.Sessions(); len(hosts) != 2 || hosts[0] != "a" || hosts[1] != "b" {
		t.Errorf("hosts %v", hosts)
	}
}

func TestRecordRefuses(t *testing.T) {
	r := openRun(t, t.TempDir(), "")
	defer closeRun(t, r)
	if err := r.Record(t.Context(), "a", SessionRecord{}); err == nil {
		t.Error("took a record without a phase")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// With a context that has ended either side of the race is right, but a success must be visible.
	err := r.Record(ctx, "a", SessionRecord{Phase: PhaseStarting})
	if _, ok := r.Session("a"); err == nil && !ok {
		t.Error("success without a record")
	} else if err != nil && fault.KindOf(err) != fault.Canceled {
		t.Errorf("got %v", err)
	}
}

func TestManyRecordAtOnce(t *testing.T) {
	root := t.TempDir()
	r := openRun(t, root, "")
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			host := fmt.Sprintf("h%d", i)
			for epoch := range uint64(5) {
				record(t, r, host, SessionRecord{Phase: PhaseStarted, Epoch: epoch})
				if rec, ok := r.Session(host); !ok || rec.Epoch != epoch {
					t.Errorf("%s: %+v", host, rec)
				}
			}
		})
	}
	wg.Wait()
	closeRun(t, r)
	r = openRun(t, root, r.ID())
	defer closeRun(t, r)
	if n := len(r.Sessions()); n != 200 {
		t.Errorf("%d hosts", n)
	}
}

func TestRemove(t *testing.T) {
	root := t.TempDir()
	r := openRun(t, root, "")
	record(t, r, "a", SessionRecord{Phase: PhaseStarted})
	for i := range 9 {
		record(t, r, fmt.Sprintf("b%d", i), SessionRecord{Phase: PhaseStarting})
	}
	err := r.Remove()
	if !errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), "a, b0, b1, b2, b3, and 5 more") {
		t.Fatalf("got %v", err)
	}
	for _, host := range r.Sessions() {
		record(t, r, host, SessionRecord{Phase: PhaseCleaned})
	}
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func BenchmarkRecord(b *testing.B) {
	for _, hosts := range []int{1, 1000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			r := openRun(b, b.TempDir(), "")
			defer closeRun(b, r)
			rec := SessionRecord{Phase: PhaseStarted, Nonce: "0123456789abcdef", Token: "0123456789abcdef0123456789abcdef",
				Base: "/var/tmp/mgmt-remote-0", Dir: "/var/tmp/mgmt-remote-0/abcdefgh/host", BootID: "4d5c1b62-6a0f-4d53-9d4e-0123456789ab"}
			b.ResetTimer()
			var wg sync.WaitGroup
			for i := range hosts {
				wg.Go(func() {
					host := fmt.Sprintf("host%d", i)
					for range b.N/hosts + 1 {
						record(b, r, host, rec)
					}
				})
			}
			wg.Wait()
		})
	}
}
