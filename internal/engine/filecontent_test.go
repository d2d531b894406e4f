package engine

import (
	"os"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

func TestFragments(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "head head\n", "frags/20 two\n", "frags/10 one\n", "frags/.10123456789 no\n", "frags/sub/x no\n", "frags/link →../secret", "secret no\n", "empty/")
	spec := &graph.File{Path: in(dir, "out"), Fragments: []string{in(dir, "head"), in(dir, "frags") + "/", in(dir, "empty") + "/", in(dir, "head")}}
	f := &fileResource{spec}
	if _, err := f.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, spec.Path); got != "head\none\ntwo\nhead\n" {
		t.Errorf("made %q", got)
	}
	if change, err := f.check(t.Context()); change != "" || err != nil {
		t.Errorf("still to do: %q, %v", change, err)
	}
	write(t, in(dir, "frags/10"), "ONE\n")
	if change, err := f.check(t.Context()); change == "" || err != nil {
		t.Errorf("a fragment of the same length: %q, %v", change, err)
	}
	for what, fragment := range map[string]string{
		"no such file": in(dir, "no"), "no such file or directory": in(dir, "no") + "/", "is a directory": in(dir, "frags"), "itself": dir + "/",
	} {
		f := &fileResource{&graph.File{Path: spec.Path, Fragments: []string{in(dir, "head"), fragment}}}
		if _, err := f.check(t.Context()); err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "fragments: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestFragmentsAreFollowed(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "frags/b 2")
	out := res(graph.KindFile, "out", &graph.File{Path: in(dir, "out"), Fragments: []string{in(dir, "frags") + "/"}})
	managed := fileWith("c", in(dir, "frags/c"), "3")
	r := start(t, definition(out, managed), Options{})
	is := func(want string) {
		t.Helper()
		r.until(want, func() bool { return read(t, in(dir, "out")) == want })
	}
	r.untilStatus(Quiet)
	if n := r.count("file[out]", Applied); n != 1 { // the automatic edge
		t.Errorf("made %d times", n)
	}
	is("23")
	write(t, in(dir, "frags/a"), "1")
	is("123")
	write(t, in(dir, "frags/b"), "x")
	is("1x3")
	if err := os.Remove(in(dir, "frags/a")); err != nil {
		t.Fatal(err)
	}
	is("x3")
	r.stop()
}

func TestFileMakesParents(t *testing.T) {
	dir := t.TempDir()
	content := "x"
	f := &fileResource{&graph.File{Path: in(dir, "a/b/f"), Content: &content, Recurse: true}}
	if _, err := f.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, in(dir, "a/b/f")); got != content {
		t.Errorf("made %q", got)
	}
}

// TestLinkInPlaceOfAFile: whatever is declared about a file, a link in its place is never followed. That matters most for
// files that other hosts gave.
func TestLinkInPlaceOfAFile(t *testing.T) {
	for _, force := range []bool{false, true} {
		dir := t.TempDir()
		tree(t, dir, "outside/secret s", "outside/dir/f x", "collected/")
		mode := os.FileMode(0o666)
		content := "from another host"
		for name, target := range map[string]string{"file": "../outside/secret", "dangling": "../outside/new", "dir": "../outside/dir", "self": "self"} {
			path := in(dir, "collected/"+name)
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			for _, f := range []*fileResource{
				{&graph.File{Path: path, Content: &content, Mode: &mode, Force: force, Recurse: true, Owner: "0", Group: "0"}},
				{&graph.File{Path: path, State: graph.Absent, Force: force, Recurse: true}},
			} {
				if os.Getuid() != 0 {
					f.spec.Owner, f.spec.Group = "", ""
				}
				_, err := f.apply(t.Context())
				if wantErr := !force && f.spec.State == graph.Exists; (err != nil) != wantErr {
					t.Errorf("%s, force %v: %v", name, force, err)
				}
			}
		}
		if got := listing(t, in(dir, "outside")); got != "dir drwxr-xr-x\ndir/f -rw-r--r-- x\nsecret -rw-r--r-- s\n" {
			t.Errorf("force %v: outside is now\n%s", force, got)
		}
	}
}

func TestDiff(t *testing.T) {
	dir := t.TempDir()
	path := in(dir, "f")
	long := strings.Repeat("line\n", 3*maxDiffLines)
	for name, c := range map[string]struct {
		before, after string // "-" for no file
		want          string // with PATH; "…" at the end stands for more
	}{
		"new":       {"-", "a\nb\n", "--- /dev/null\n+++ PATH\n@@ -0,0 +1,2 @@\n+a\n+b\n"},
		"changed":   {"a\nb\nc\n", "a\nB\nc\n", "--- PATH\n+++ PATH\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"},
		"no end":    {"a", "b", "--- PATH\n+++ PATH\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n"},
		"same":      {"a", "a", ""},
		"emptied":   {"a\n", "", "--- PATH\n+++ PATH\n@@ -1,1 +0,0 @@\n-a\n"},
		"binary":    {"a", "\x00", "binary content differs\n"},
		"not UTF-8": {"\xff", "a", "binary content differs\n"},
		"long":      {"-", long, "--- /dev/null\n+++ PATH\n@@ -0,0 +1,6000 @@\n+line\n…"},
		"wide":      {"-", strings.Repeat("x", 2*maxDiff), "--- /dev/null\n+++ PATH\n@@ -0,0 +1,1 @@\n… the rest of the diff is left out\n"},
		"huge":      {"-", strings.Repeat("x", maxDiffInput+1), "content differs; files above 4 MiB are not compared line by line\n"},
	} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if c.before != "-" {
			write(t, path, c.before)
		}
		f := &fileResource{&graph.File{Path: path, Content: &c.after}}
		got, err := f.diff(t.Context())
		got = strings.ReplaceAll(got, path, "PATH")
		begin, more := strings.CutSuffix(c.want, "…")
		if err != nil || got != c.want && (!more || !strings.HasPrefix(got, begin)) || len(got) > maxDiff+100 || strings.Count(got, "\n") > maxDiffLines+1 {
			t.Errorf("%s: %v\n%.300s", name, err, got)
		}
	}
	missing := &fileResource{&graph.File{Path: path, Source: in(dir, "not yet")}}
	if got, err := missing.diff(t.Context()); got != "" || err != nil {
		t.Errorf("source that is not there yet: %q, %v", got, err)
	}
	write(t, path, "old\n")
	r := start(t, definition(fileWith("f", path, "new\n")), Options{Noop: true})
	r.untilStatus(Quiet)
	r.stop()
	if ev := r.last("file[f]", WouldApply); !strings.Contains(ev.Diff, "+new\n") {
		t.Errorf("told as %+v", ev)
	}
}
