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

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// world is a random definition over a handful of paths in a directory of its own.
type world struct {
	root  string
	paths []string // that drift
	def   *graph.Definition
}

// newWorld makes the directory, with what files are made from; that does not drift.
func newWorld(t *rapid.T) *world {
	root, err := os.MkdirTemp("", "engine-property-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{root: root}
	err = os.MkdirAll(filepath.Join(root, "src/sub"), 0o755)
	for name, content := range map[string]string{"src/x": "x", "src/sub/y": "yy", "src/1": "one\n", "src/2": "two\n"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
	}
	if err := errors.Join(err, os.Symlink("x", filepath.Join(root, "src/link"))); err != nil {
		t.Fatal(err)
	}
	return w
}

// draw makes another random definition. Names tell little: the same path may come with another one next time.
func (w *world) draw(t *rapid.T) {
	w.def, w.paths = &graph.Definition{}, nil
	prefix := rapid.SampledFrom([]string{"r", "s"}).Draw(t, "prefix")
	add := func(r graph.Resource) {
		if rapid.IntRange(0, 9).Draw(t, "semaphore") == 0 {
			r.Meta.Sema = []graph.Sema{{Name: "s", Count: 1}}
		}
		w.def.Resources = append(w.def.Resources, r)
	}
	file := func(path string, f graph.File) {
		f.Path, f.Force, f.Recurse = path, true, true
		w.paths = append(w.paths, f.Location())
		add(res(graph.KindFile, prefix+strings.TrimPrefix(f.Location(), w.root), &f))
	}
	mode := func(list ...fs.FileMode) *fs.FileMode {
		m := rapid.SampledFrom(list).Draw(t, "mode")
		return &m
	}
	content := rapid.SampledFrom([]string{"", "x", "hello", strings.Repeat("long ", 20_000)})
	for d := range rapid.IntRange(1, 3).Draw(t, "directories") {
		dir := filepath.Join(w.root, fmt.Sprintf("d%d", d))
		file(dir+"/", graph.File{Mode: mode(0o700, 0o755)})
		for f := range rapid.IntRange(0, 3).Draw(t, "files") {
			path := filepath.Join(dir, fmt.Sprintf("f%d", f))
			switch rapid.SampledFrom([]string{"content", "absent", "fragments", "source", "tree"}).Draw(t, "sort") {
			case "content":
				c := content.Draw(t, "content")
				file(path, graph.File{Mode: mode(0o600, 0o644, 0o755), Content: &c})
			case "absent":
				file(path, graph.File{State: graph.Absent})
			case "fragments":
				file(path, graph.File{Mode: mode(0o600, 0o644), Fragments: []string{filepath.Join(w.root, "src/1"), filepath.Join(w.root, "src/sub") + "/"}})
			case "source":
				file(path, graph.File{Mode: mode(0o600, 0o644), Source: filepath.Join(w.root, "src/2")})
			case "tree":
				file(path+"/", graph.File{Mode: mode(0o700, 0o755), Source: filepath.Join(w.root, "src") + "/"})
				w.paths = append(w.paths, filepath.Join(path, "x"), filepath.Join(path, "sub"))
			}
		}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "noops") {
		add(noop(prefix + fmt.Sprint(i)))
	}
	if rapid.IntRange(0, 4).Draw(t, "command") == 0 {
		marker := filepath.Join(w.root, "marker")
		add(res(graph.KindExec, prefix, &graph.Exec{Cmd: "touch " + marker, IfCmd: "test ! -e " + marker}))
	}
	// Edges lead to higher numbers, so there is no cycle, and none that makes a directory wait for what is in it.
	for i, r := range w.def.Resources {
		if j := rapid.IntRange(0, len(w.def.Resources)-1).Draw(t, "edge"); j > i {
			w.def.Edges = append(w.def.Edges, edgeTo(r, w.def.Resources[j], rapid.Bool().Draw(t, "notify")))
		}
	}
	w.def.Resources = rapid.Permutation(w.def.Resources).Draw(t, "order")
}

// declared reports whether everything is as the definition says, judged without the engine's own code.
func (w *world) declared() bool {
	for _, r := range w.def.Resources {
		f, isFile := r.Spec.(*graph.File)
		if x, isExec := r.Spec.(*graph.Exec); isExec {
			if marker, touches := strings.CutPrefix(x.Cmd, "touch "); touches && !exists(marker) {
				return false
			}
		}
		if !isFile {
			continue
		}
		info, err := os.Lstat(f.Location())
		switch {
		case f.State == graph.Absent:
			if err == nil {
				return false
			}
		case err != nil || info.IsDir() != f.Directory() || !info.IsDir() && !info.Mode().IsRegular() || info.Mode().Perm() != *f.Mode:
			return false
		case f.Content != nil && !holds(f.Path, *f.Content),
			len(f.Fragments) > 0 && !holds(f.Path, "one\nyy"),
			!f.Directory() && f.Source != "" && !holds(f.Path, "two\n"):
			return false
		case f.Directory() && f.Source != "":
			target, err := os.Readlink(f.Path + "link")
			if err != nil || target != "x" || !holds(f.Path+"x", "x") || !holds(f.Path+"sub/y", "yy") {
				return false
			}
		}
	}
	return true
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// holds reports whether a regular file has a content.
func holds(path, content string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	data, err := os.ReadFile(path)
	return err == nil && string(data) == content
}

// drift does one random thing to one path. It may fail, for example because an earlier one took the directory away.
func (w *world) drift(t *rapid.T) {
	path := rapid.SampledFrom(w.paths).Draw(t, "path")
	switch rapid.SampledFrom([]string{"write", "remove", "chmod", "directory", "link", "rename"}).Draw(t, "drift") {
	case "write":
		_ = os.WriteFile(path, []byte("drift"), 0o600)
	case "remove":
		_ = os.RemoveAll(path)
	case "chmod":
		_ = os.Chmod(path, 0o711)
	case "directory":
		_ = os.RemoveAll(path)
		_ = os.Mkdir(path, 0o700)
		_ = os.WriteFile(filepath.Join(path, "f0"), []byte("drift"), 0o600)
	case "link":
		_ = os.RemoveAll(path)
		_ = os.Symlink("/nonexistent", path)
	case "rename":
		_ = os.Rename(path, filepath.Join(w.root, fmt.Sprintf("away%d", rapid.IntRange(0, 1000).Draw(t, "away"))))
	}
}

// snapshot lists everything below the root with what the engine could change.
func (w *world) snapshot(t *rapid.T) string {
	var b strings.Builder
	err := filepath.WalkDir(w.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v %v %d", path, info.Mode(), info.ModTime(), info.Sys().(*syscall.Stat_t).Ino)
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func checked(t *testing.T, property func(t *rapid.T, w *world)) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.draw(rt)
		defer func() {
			if err := os.RemoveAll(w.root); err != nil {
				rt.Fatal(err)
			}
		}()
		property(rt, w)
	})
}

func TestPropertyDriftIsAlwaysRepaired(t *testing.T) {
	checked(t, func(rt *rapid.T, w *world) {
		r := start(t, w.def, Options{})
		defer r.stop()
		for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
			for range rapid.IntRange(0, 5).Draw(rt, "drifts") {
				w.drift(rt)
			}
			r.until("the declared state", w.declared)
		}
	})
}

func TestPropertySecondRunChangesNothing(t *testing.T) {
	checked(t, func(rt *rapid.T, w *world) {
		for range rapid.IntRange(0, 5).Draw(rt, "drifts") {
			w.drift(rt)
		}
		r := start(t, w.def, Options{})
		r.untilStatus(Quiet)
		r.stop()
		before := w.snapshot(rt)
		r = start(t, w.def, Options{})
		r.untilStatus(Quiet)
		r.stop()
		for _, ev := range r.events {
			if ev.Kind != Checked {
				rt.Fatalf("second run: %+v", ev)
			}
		}
		if after := w.snapshot(rt); after != before || !w.declared() {
			rt.Fatalf("second run changed\n%s\nto\n%s", before, after)
		}
	})
}

func TestPropertyNoopChangesNothing(t *testing.T) {
	checked(t, func(rt *rapid.T, w *world) {
		for range rapid.IntRange(0, 5).Draw(rt, "drifts") {
			w.drift(rt)
		}
		before, asDeclared := w.snapshot(rt), w.declared()
		r := start(t, w.def, Options{Noop: true})
		r.untilStatus(Quiet)
		r.stop()
		if after := w.snapshot(rt); after != before {
			rt.Fatalf("noop changed\n%s\nto\n%s", before, after)
		}
		would := 0
		for _, ev := range r.events {
			switch ev.Kind {
			case WouldApply:
				would++
			case Checked:
			default:
				rt.Fatalf("noop: %+v", ev)
			}
		}
		if asDeclared != (would == 0) {
			rt.Fatalf("declared: %v, but %d would be applied", asDeclared, would)
		}
	})
}

// TestPropertyUpdatesEndInTheLastDefinition: however definitions follow each other, and whatever drifts meanwhile, the last
// one is what counts; and what is the same in all of them is touched once.
func TestPropertyUpdatesEndInTheLastDefinition(t *testing.T) {
	checked(t, func(rt *rapid.T, w *world) {
		stays := shell("stays", "echo x >>"+filepath.Join(w.root, "ran"))
		changing := noop("changing")
		looks := 1
		w.def = with(w.def, stays, changing)
		r := start(t, w.def, Options{})
		defer r.stop()
		r.untilCount("noop[changing]", Checked, 1)
		skipped := false
		for i := range rapid.IntRange(1, 5).Draw(rt, "updates") {
			w.draw(rt)
			switch rapid.SampledFrom([]string{"same", "changed", "new edges"}).Draw(rt, "noop") {
			case "changed":
				changing.Meta.Retry++
				looks++
			case "new edges":
				w.def.Edges = append(w.def.Edges, edgeTo(w.def.Resources[0], changing, false), edgeTo(stays, changing, false))
			}
			step := noop(fmt.Sprint("step", i))
			w.def = with(w.def, changing, stays, step)
			r.update(w.def)
			w.drift(rt)
			if rapid.Bool().Draw(rt, "wait") {
				r.untilCount(step.ID.String(), Checked, 1)
				if !skipped {
					r.untilCount("noop[changing]", Checked, looks)
				}
			} else {
				skipped = true
			}
		}
		r.until("the declared state", w.declared)
		r.untilCount(w.def.Resources[len(w.def.Resources)-1].ID.String(), Checked, 1)
		r.until("every look", func() bool { return skipped || r.count("noop[changing]", Checked) >= looks })
		r.untilStatus(Quiet)
		if n := r.count("noop[changing]", Checked); n > looks {
			rt.Fatalf("looked %d times at what changed %d times", n, looks)
		}
		if n := len(lines(t, filepath.Join(w.root, "ran"))); n != 1 {
			rt.Fatalf("what is the same in all definitions ran %d times", n)
		}
	})
}
