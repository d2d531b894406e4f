package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// tree makes files below dir from lines "path content"; a path with a final slash is a directory, one with an arrow as
// content a link.
func tree(t *testing.T, dir string, list ...string) {
	t.Helper()
	for _, line := range list {
		name, content, _ := strings.Cut(line, " ")
		path := filepath.Join(dir, name)
		target, isLink := strings.CutPrefix(content, "→")
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		case isLink:
			err = errors.Join(err, os.Symlink(target, path))
		default:
			err = errors.Join(err, os.WriteFile(path, []byte(content), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// listing shows what is below dir, in order.
func listing(t *testing.T, dir string) string {
	t.Helper()
	s, err := listingNow(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listingNow is listing where an engine may be at work: what goes between being named and being looked at is an error.
func listingNow(t *testing.T, dir string) (string, error) {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v", rel, info.Mode())
		switch {
		case info.Mode().IsRegular():
			b.WriteString(" " + read(t, path))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			b.WriteString(" → " + target)
		}
		b.WriteByte('\n')
		return nil
	})
	return b.String(), err
}

func copyOf(dir string, change func(*graph.File)) *fileResource {
	f := &graph.File{Path: in(dir, "dst") + "/", Source: in(dir, "src") + "/", Recurse: true}
	if change != nil {
		change(f)
	}
	return &fileResource{f}
}

func TestTree(t *testing.T) {
	force := func(f *graph.File) { f.Force = true }
	source := []string{"src/a 1", "src/d/b 22", "src/d/empty/", "src/l →/nowhere", "src/.hidden h", "src/.tmp1234567890123456789 no"}
	whole := ".hidden -rw-r--r-- h\na -rw-r--r-- 1\nd drwxr-xr-x\nd/b -rw-r--r-- 22\nd/empty drwxr-xr-x\nl Lrwxrwxrwx → /nowhere\n"
	for name, c := range map[string]struct {
		more   []string
		spec   func(*graph.File)
		change string // of check; "!" and a part of the error
		after  string // listing
	}{
		"all of it":            {nil, nil, "create directory, .hidden: create, a: create, d: create, d/b: create, d/empty: create, l: create", whole},
		"into a directory":     {[]string{"dst/mine x"}, nil, ".hidden: create, a: create, d: create directory, d/b: create, d/empty: create, l: link to /nowhere", whole + "mine -rw-r--r-- x\n"},
		"what differs":         {[]string{"dst/a 2", "dst/d/b 22", "dst/d/empty/", "dst/l →/nowhere", "dst/.hidden h"}, nil, "a: content of 1 bytes → 1 bytes", whole},
		"another link":         {[]string{"dst/a 1", "dst/d/b 22", "dst/d/empty/", "dst/l →/etc", "dst/.hidden h"}, nil, "l: link to /nowhere", whole},
		"link in way":          {[]string{"outside/b out", "dst/d →../outside"}, nil, "!is a symbolic link; set force: true", "d Lrwxrwxrwx → ../outside\n"},
		"link in way, forced":  {[]string{"outside/b out", "dst/d →../outside"}, force, ".hidden: create, a: create, d: remove a symbolic link, create directory, d/b: create, d/empty: create, l: link to /nowhere", whole},
		"file in way, forced":  {[]string{"dst/d file"}, force, ".hidden: create, a: create, d: remove a regular file, create directory, d/b: create, d/empty: create, l: link to /nowhere", whole},
		"dir in way of a link": {[]string{"dst/l/x x"}, nil, "!is a directory; set force: true", "l drwxr-xr-x\nl/x -rw-r--r-- x\n"},
		"within itself":        {nil, func(f *graph.File) { f.Path = f.Source + "sub/" }, "!contain each other", ""},
		"without recurse":      {nil, func(f *graph.File) { f.Recurse = false }, "!needs recurse: true", ""},
		"no source":            {nil, func(f *graph.File) { f.Source += "no/" }, "!no such file", ""},
		"source is a file":     {nil, func(f *graph.File) { f.Source += "a/" }, "!not a directory", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree(t, dir, append(source, c.more...)...)
			f := copyOf(dir, c.spec)
			change, err := f.check(t.Context())
			if part, fails := strings.CutPrefix(c.change, "!"); fails {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Fatalf("check: %q, %v", change, err)
				}
				if _, err := f.apply(t.Context()); err == nil {
					t.Error("apply does what check refuses")
				}
				if c.after != "" && listing(t, in(dir, "dst")) != c.after {
					t.Errorf("changed to\n%s", listing(t, in(dir, "dst")))
				}
				return
			}
			if err != nil || change != c.change {
				t.Errorf("check: %q, %v", change, err)
			}
			if _, err := f.apply(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := listing(t, in(dir, "dst")); got != c.after {
				t.Errorf("got\n%swant\n%s", got, c.after)
			}
			if change, err := f.check(t.Context()); err != nil || change != "" {
				t.Errorf("still to do: %q, %v", change, err)
			}
			if strings.Contains(strings.Join(c.more, " "), "outside") && read(t, in(dir, "outside/b")) != "out" {
				t.Error("wrote through a link")
			}
		})
	}
}

func TestTreeWithASpecialFile(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "src/")
	if err := syscall.Mkfifo(in(dir, "src/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := copyOf(dir, nil).check(t.Context()); err == nil || !strings.Contains(err.Error(), "src/pipe is a special file") {
		t.Errorf("check: %v", err)
	}
}

// TestTreeIsKept: what changes anywhere in the source or in the copy is seen, in directories that came later, too.
func TestTreeIsKept(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "src/a/b/f 1")
	r := start(t, definition(res(graph.KindFile, "t", copyOf(dir, nil).spec)), Options{})
	equal := func() bool {
		dst, err := listingNow(t, in(dir, "dst"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return err == nil && dst == listing(t, in(dir, "src"))
	}
	r.until("the copy", equal)
	for _, change := range []struct {
		what string
		do   func()
	}{
		{"a file deep in the source", func() { write(t, in(dir, "src/a/b/f"), "2") }},
		{"a file deep in the copy", func() { write(t, in(dir, "dst/a/b/f"), "3") }},
		{"a new directory", func() { tree(t, dir, "src/n/m/o/p 4") }},
		{"a file in that", func() { write(t, in(dir, "src/n/m/o/p"), "5") }},
		{"its copy", func() { write(t, in(dir, "dst/n/m/o/p"), "6") }},
		{"a directory removed", func() {
			// The engine may put back what was removed first while the rest goes.
			for err := os.RemoveAll(in(dir, "dst/n")); err != nil; err = os.RemoveAll(in(dir, "dst/n")) {
				if !errors.Is(err, syscall.ENOTEMPTY) {
					t.Fatal(err)
				}
			}
		}},
		{"its copy, again", func() { write(t, in(dir, "dst/n/m/o/p"), "7") }},
		{"the mode", func() {
			if err := os.Chmod(in(dir, "src/a/b/f"), 0o700); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		change.do()
		r.until(change.what, equal)
	}
	r.untilStatus(Quiet)
	r.stop()
	for _, ev := range r.all() {
		// A directory that is removed may go while something is made in it: that fails, and heals.
		if ev.Kind == Failed && !errors.Is(ev.Err, fs.ErrNotExist) {
			t.Errorf("failed on the way: %v", ev.Err)
		}
	}
}
