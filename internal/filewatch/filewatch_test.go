package filewatch

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// patience is how long a test waits for what must happen; it is only used up by a failing test.
const patience = time.Minute

// rig watches files of a directory of its own, in which everything is written by the test.
type rig struct {
	*testing.T
	dir     string
	changes chan Change
}

func newRig(t *testing.T) *rig {
	return &rig{T: t, dir: t.TempDir(), changes: make(chan Change, 100)}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) check(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) write(name, text string) {
	r.Helper()
	r.check(os.MkdirAll(filepath.Dir(r.path(name)), 0o700))
	r.check(os.WriteFile(r.path(name), []byte(text), 0o600))
}

func (r *rig) replace(name, text string) {
	r.Helper()
	r.write(name+".new", text)
	r.check(os.Rename(r.path(name+".new"), r.path(name)))
}

func (r *rig) link(target, name string) {
	r.Helper()
	r.check(os.Symlink(target, r.path(name+".new")))
	r.check(os.Rename(r.path(name+".new"), r.path(name)))
}

// watch begins to watch a file that the caller knows with this content.
func (r *rig) watch(path, known string) {
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	go func() {
		done <- Watch(ctx, map[string][]byte{path: []byte(known)}, func(c Change) { r.changes <- c })
	}()
	r.Cleanup(func() {
		cancel()
		r.check(<-done)
	})
}

// expect waits for a change to this content. What was there in between may come before.
func (r *rig) expect(text string) {
	r.Helper()
	limit := time.After(patience)
	for {
		select {
		case c := <-r.changes:
			if c.Err == nil && string(c.Content) == text {
				return
			}
		case <-limit:
			r.Fatalf("%q was not told", text)
		}
	}
}

func TestChanges(t *testing.T) {
	for name, c := range map[string]struct {
		path string
		do   func(r *rig)
	}{
		"written in place": {"f", func(r *rig) { r.write("f", "two") }},
		"written in steps": {"f", func(r *rig) {
			f, err := os.OpenFile(r.path("f"), os.O_WRONLY|os.O_TRUNC, 0)
			r.check(err)
			for _, part := range []string{"t", "w", "o"} {
				_, err := f.WriteString(part)
				r.check(err)
			}
			r.check(f.Close())
		}},
		"replaced":                    {"f", func(r *rig) { r.replace("f", "two") }},
		"deleted and made anew":       {"f", func(r *rig) { r.check(os.Remove(r.path("f"))); r.write("f", "two") }},
		"moved away, as some editors": {"f", func(r *rig) { r.check(os.Rename(r.path("f"), r.path("f~"))); r.write("f", "two") }},
		"directory made anew":         {"d/e/f", func(r *rig) { r.check(os.RemoveAll(r.path("d"))); r.write("d/e/f", "two") }},
		"directory replaced": {"d/e/f", func(r *rig) {
			r.write("other/e/f", "two")
			r.check(os.Rename(r.path("d"), r.path("gone")))
			r.check(os.Rename(r.path("other"), r.path("d")))
		}},
		"link turned round":     {"l", func(r *rig) { r.write("two", "two"); r.link("two", "l") }},
		"what a link leads to":  {"l", func(r *rig) { r.replace("f", "two") }},
		"as Kubernetes does it": {"k", func(r *rig) { r.write("v2/f", "two"); r.link("v2", "data") }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for _, file := range []string{"f", "d/e/f", "v1/f"} {
				r.write(file, "one")
			}
			r.link("f", "l")
			r.link("v1", "data")
			r.link("data/f", "k")
			r.watch(r.path(c.path), "before")
			r.expect("one") // from here on it is watched
			c.do(r)
			r.expect("two")
			r.check(os.WriteFile(r.path(c.path), []byte("three"), 0o600)) // and what comes after that
			r.expect("three")
		})
	}
}

func TestWhatWasThereBeforeTheWatchBegan(t *testing.T) {
	r := newRig(t)
	r.write("f", "two")
	r.watch(r.path("f"), "one")
	r.expect("two")
}

func TestTheSameBytesAreNoChange(t *testing.T) {
	r := newRig(t)
	r.write("f", "one")
	r.watch(r.path("f"), "one")
	r.replace("f", "one")
	r.write("f", "one")
	r.write("unrelated", "x")
	r.replace("f", "two")
	r.expect("two")
	r.check(os.Remove(r.path("f")))
	r.replace("f", "two")
	r.replace("f", "three")
	if c := <-r.changes; string(c.Content) != "three" {
		t.Errorf("told %q", c.Content)
	}
}

func TestAFileThatIsNotThereYet(t *testing.T) {
	r := newRig(t)
	r.watch(r.path("new/dir/f"), "")
	r.check(os.Mkdir(r.path("new"), 0o700))
	r.write("new/dir/f", "two")
	r.expect("two")
}

func TestRelativeNames(t *testing.T) {
	r := newRig(t)
	t.Chdir(r.dir)
	r.write("d/f", "one")
	r.watch("d/../d/f", "one")
	r.replace("d/f", "two")
	if c := <-r.changes; c.Path != "d/../d/f" || string(c.Content) != "two" {
		t.Errorf("told %+v", c)
	}
}

func TestWhatCantBeReadIsToldOnce(t *testing.T) {
	r := newRig(t)
	r.write("f", "one")
	r.watch(r.path("f"), "one")
	r.check(os.Remove(r.path("f")))
	r.check(syscall.Mkfifo(r.path("f"), 0o600))
	if c := <-r.changes; c.Err == nil || !strings.Contains(c.Err.Error(), "not a regular file") {
		t.Errorf("told %+v", c)
	}
	r.check(os.Chmod(r.path("f"), 0o640)) // looked at again, no news
	r.write("old", "one")
	time.AfterFunc(2*calm, func() {
		if err := os.Rename(r.path("old"), r.path("f")); err != nil { // the old content is news after that
			t.Error(err)
		}
	})
	if c := <-r.changes; c.Err != nil || string(c.Content) != "one" {
		t.Errorf("told %+v", c)
	}
}

func TestAFileThatNeverIsCalmIsReadAllTheSame(t *testing.T) {
	r := newRig(t)
	r.write("f", "one")
	r.watch(r.path("f"), "one")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(calm / 4)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				r.write("f", strings.Repeat("x", n))
			}
		}
	}()
	select {
	case <-r.changes:
	case <-time.After(patience):
		t.Error("nothing was told")
	}
	close(stop)
	<-done
}

func TestSeveralFiles(t *testing.T) {
	r := newRig(t)
	known := map[string][]byte{}
	for _, name := range []string{"a", "b", "c"} {
		r.write(name, "one")
		known[r.path(name)] = []byte("one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, known, func(c Change) { r.changes <- c }) }()
	r.replace("c", "two")
	r.replace("a", "two")
	var told []string
	for range 2 {
		c := <-r.changes
		told = append(told, filepath.Base(c.Path))
	}
	cancel()
	r.check(<-done)
	slices.Sort(told)
	if !slices.Equal(told, []string{"a", "c"}) {
		t.Errorf("told %q", told)
	}
}

func TestALoopOfLinks(t *testing.T) {
	r := newRig(t)
	r.link("b", "a")
	r.link("a", "b")
	r.watch(r.path("a"), "one")
	if c := <-r.changes; c.Err == nil {
		t.Errorf("told %+v", c)
	}
	r.replace("a", "two")
	r.expect("two")
}

func TestALargeFileIsNotTakenForAWhole(t *testing.T) {
	r := newRig(t)
	r.write("f", "one")
	r.check(os.WriteFile(r.path("f"), bytes.Repeat([]byte("x"), maxSize+10), 0o600))
	r.watch(r.path("f"), "one")
	if c := <-r.changes; len(c.Content) != maxSize {
		t.Errorf("%d bytes", len(c.Content))
	}
}
