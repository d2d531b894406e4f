package engine

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// world is a random definition over a handful of paths in a directory of its own.
type world struct {
	root  string
	paths []string
	def   *graph.Definition
}

func drawWorld(t *rapid.T) *world {
	root, err := os.MkdirTemp("", "engine-property-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{root: root}
	var yaml strings.Builder
	yaml.WriteString("resources:\n  file:\n")
	number := 0
	add := func(path, fields string) {
		fmt.Fprintf(&yaml, "  - {name: r%d, path: %s, force: true, recurse: true, %s}\n", number, path, fields)
		w.paths = append(w.paths, strings.TrimSuffix(path, "/"))
		number++
	}
	mode := rapid.SampledFrom([]string{"0600", "0644", "0755"})
	content := rapid.SampledFrom([]string{"", "x", "hello", strings.Repeat("long ", 20_000)})
	for d := range rapid.IntRange(1, 3).Draw(t, "directories") {
		dir := filepath.Join(root, fmt.Sprintf("d%d", d))
		add(dir+"/", "mode: "+rapid.SampledFrom([]string{"0700", "0755"}).Draw(t, "directory mode"))
		for f := range rapid.IntRange(0, 3).Draw(t, "files") {
			path := filepath.Join(dir, fmt.Sprintf("f%d", f))
			if rapid.Bool().Draw(t, "exists") {
				add(path, fmt.Sprintf("mode: %s, content: %q", mode.Draw(t, "mode"), content.Draw(t, "content")))
			} else {
				add(path, "state: absent")
			}
		}
	}
	yaml.WriteString("edges:\n")
	for i := range number { // edges lead to higher numbers, so there is no cycle
		if j := rapid.IntRange(0, number-1).Draw(t, "edge"); j > i {
			fmt.Fprintf(&yaml, "- {from: {kind: file, name: r%d}, to: {kind: file, name: r%d}, notify: %v}\n", i, j, rapid.Bool().Draw(t, "notify"))
		}
	}
	if w.def, err = graph.Parse("random.yaml", []byte(yaml.String())); err != nil {
		t.Fatal(err)
	}
	return w
}

// declared reports whether everything is as the definition says, judged without the engine's own code.
func (w *world) declared() bool {
	for _, r := range w.def.Resources {
		f := r.Spec.(*graph.File)
		info, err := os.Lstat(f.Location())
		switch {
		case f.State == graph.Absent:
			if err == nil {
				return false
			}
		case err != nil || info.IsDir() != f.Directory() || !info.IsDir() && !info.Mode().IsRegular() || info.Mode().Perm() != *f.Mode:
			return false
		case f.Content != nil:
			if data, err := os.ReadFile(f.Location()); err != nil || string(data) != *f.Content {
				return false
			}
		}
	}
	return true
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
		fmt.Fprintf(&b, "%s %v %v", path, info.Mode(), info.ModTime())
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
		w := drawWorld(rt)
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
