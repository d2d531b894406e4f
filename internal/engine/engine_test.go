package engine

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestOrderAndNotify(t *testing.T) {
	dir := t.TempDir()
	log := in(dir, "log")
	def := parse(t, `
resources:
  exec:
  - {name: c, cmd: "echo c >>%[1]s", shell: sh}
  - {name: b, cmd: "echo b >>%[1]s", shell: sh}
  - {name: a, cmd: "echo a >>%[1]s", shell: sh}
  - {name: onchange, cmd: "echo refreshed >>%[1]s", shell: sh}
  file:
  - {name: conf, path: %[2]s, content: one}
edges:
- {from: {kind: exec, name: a}, to: {kind: exec, name: b}}
- {from: {kind: exec, name: b}, to: {kind: exec, name: c}}
- {from: {kind: exec, name: c}, to: {kind: file, name: conf}}
- {from: {kind: file, name: conf}, to: {kind: exec, name: onchange}, notify: true}
`, log, in(dir, "conf"))
	r := start(t, def, Options{})
	r.untilStatus(Quiet)
	if got := lines(t, log); !slices.Equal(got, []string{"a", "b", "c", "refreshed"}) {
		t.Errorf("ran %v", got)
	}
	write(t, in(dir, "conf"), "two")
	r.untilCount("exec[onchange]", Applied, 2)
	r.untilStatus(Quiet)
	if got := lines(t, log); !slices.Equal(got, []string{"a", "b", "c", "refreshed", "refreshed"}) {
		t.Errorf("after drift: %v", got)
	}
	r.stop()
}

func TestFailureBlocksOnlyWhatFollows(t *testing.T) {
	dir := t.TempDir()
	def := parse(t, `
resources:
  exec:
  - {name: bad, cmd: "echo reason; exit 3", shell: sh}
  file:
  - {name: after, path: %s, content: x}
  - {name: beside, path: %s, content: x}
edges:
- {from: {kind: exec, name: bad}, to: {kind: file, name: after}}
`, in(dir, "after"), in(dir, "beside"))
	r := start(t, def, Options{})
	r.untilStatus(Stuck)
	r.untilCount("file[beside]", Applied, 1)
	if ev := r.last("exec[bad]", Failed); ev.Output != "reason\n" || ev.Err == nil || ev.Err.Error() != "exit status 3" {
		t.Errorf("failure told as %+v", ev)
	}
	if got := read(t, in(dir, "after")); got != "-" {
		t.Errorf("what follows a failure was applied: %q", got)
	}
	r.stop()
}

func TestRetry(t *testing.T) {
	dir := t.TempDir()
	attempt := "echo x >>" + in(dir, "n") + "; test $(wc -l <" + in(dir, "n") + ") -ge 3"
	def := parse(t, `
resources:
  exec:
  - {name: third, cmd: %q, shell: sh, meta: {retry: 2, delay: 1}}
`, attempt)
	r := start(t, def, Options{})
	r.untilStatus(Quiet)
	if n := r.count("exec[third]", Retrying); n != 2 {
		t.Errorf("%d retries", n)
	}
	r.stop()

	if err := os.Remove(in(dir, "n")); err != nil {
		t.Fatal(err)
	}
	def.Resources[0].Meta.Retry = 1
	r = start(t, def, Options{})
	r.untilStatus(Stuck)
	if n, m := r.count("exec[third]", Retrying), r.count("exec[third]", Failed); n != 1 || m != 1 {
		t.Errorf("%d retries, %d failures", n, m)
	}
	r.stop()
}

// TestFailedResourceHeals: a failed resource is no lost one; what was in its way goes, and it is applied.
func TestFailedResourceHeals(t *testing.T) {
	dir := t.TempDir()
	path := in(dir, "f")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	r := start(t, parse(t, "resources: {file: [{name: f, path: %s, content: x}]}", path), Options{})
	r.untilStatus(Stuck)
	if ev := r.last("file[f]", Failed); ev.Err == nil || !strings.Contains(ev.Err.Error(), "is a directory; set force: true") {
		t.Errorf("failure told as %v", ev.Err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.untilStatus(Quiet)
	if got := read(t, path); got != "x" {
		t.Errorf("content %q", got)
	}
	r.stop()
}

func TestDriftIsRepaired(t *testing.T) {
	root := t.TempDir()
	dir := in(root, "d")
	path := in(dir, "f")
	def := parse(t, `
resources:
  file:
  - {name: f, path: %s, content: right, mode: "0640"}
  - {name: d, path: %s/, mode: "0750"}
  - {name: no, path: %s, state: absent}
`, path, dir, in(dir, "no"))
	r := start(t, def, Options{})
	good := func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Mode().Perm() == 0o640 && read(t, path) == "right" && read(t, in(dir, "no")) == "-"
	}
	r.until("the declared state", good)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, drift := range []struct {
		name string
		do   func()
	}{
		{"written", func() { write(t, path, "wrong") }},
		{"removed", func() { must(os.Remove(path)) }},
		{"mode", func() { must(os.Chmod(path, 0o600)) }},
		{"replaced", func() { write(t, in(root, "new"), "new"); must(os.Rename(in(root, "new"), path)) }},
		{"unwanted file", func() { write(t, in(dir, "no"), "x") }},
		{"directory removed", func() {
			err := os.RemoveAll(dir)
			for errors.Is(err, syscall.ENOTEMPTY) { // the engine put something back before the directory was gone
				err = os.RemoveAll(dir)
			}
			must(err)
		}},
		{"directory moved away", func() { must(os.Rename(dir, in(root, "elsewhere"))) }},
		{"directory replaced", func() {
			must(os.Mkdir(in(root, "other"), 0o700))
			write(t, in(root, "other/f"), "other")
			must(exchange(dir, in(root, "other"))) // in two steps, the engine could be faster with a new one
		}},
		{"written after all that", func() { write(t, path, "wrong again") }},
	} {
		drift.do()
		r.until("repair: "+drift.name, good)
	}
	r.untilStatus(Quiet)
	for _, ev := range r.all() {
		// The directory may go while the file is written: that fails, and heals when the directory is back.
		if ev.Kind == Failed && (ev.ID.Name != "f" || !errors.Is(ev.Err, fs.ErrNotExist)) {
			t.Errorf("failed on the way: %+v", ev)
		}
	}
	r.stop()
}

// TestMissingDirectoriesAppear: the parent does not exist at the start, comes later, and the file follows.
func TestMissingDirectoriesAppear(t *testing.T) {
	root := t.TempDir()
	path := in(root, "a/b/c/f")
	r := start(t, parse(t, "resources: {file: [{name: f, path: %s, content: x}]}", path), Options{})
	r.untilStatus(Stuck)
	if err := os.MkdirAll(in(root, "a/b/c"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.untilStatus(Quiet)
	write(t, path, "drift")
	r.until("repair", func() bool { return read(t, path) == "x" })
	r.stop()
}

func TestSourceIsFollowed(t *testing.T) {
	dir := t.TempDir()
	write(t, in(dir, "src"), "one")
	r := start(t, parse(t, "resources: {file: [{name: f, path: %s, source: %s}]}", in(dir, "f"), in(dir, "src")), Options{})
	r.untilStatus(Quiet)
	write(t, in(dir, "src"), "two")
	r.until("the new content", func() bool { return read(t, in(dir, "f")) == "two" })
	r.stop()
}

func TestQuietIsNotBrokenByChecks(t *testing.T) {
	dir := t.TempDir()
	def := parse(t, "resources: {file: [{name: f, path: %s, content: x, meta: {poll: 1}}]}", in(dir, "f"))
	r := start(t, def, Options{})
	r.untilCount("file[f]", Checked, 3)
	r.mu.Lock()
	if !slices.Equal(r.statuses, []Status{Quiet}) {
		t.Errorf("statuses %v", r.statuses)
	}
	r.mu.Unlock()
	write(t, in(dir, "f"), "y")
	r.untilCount("file[f]", Applied, 2)
	r.untilStatus(Quiet)
	r.mu.Lock()
	if !slices.Equal(r.statuses, []Status{Quiet, Busy, Quiet}) {
		t.Errorf("statuses after drift %v", r.statuses)
	}
	r.mu.Unlock()
	r.stop()
}

func TestEmptyDefinitionIsQuiet(t *testing.T) {
	r := start(t, parse(t, "graph: nothing"), Options{})
	r.untilStatus(Quiet)
	r.stop()
}

func TestNoopResourceInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	def := parse(t, `
resources:
  noop: [{name: mid}]
  exec: [{name: last, cmd: "cat %[1]s", ifcmd: "test -e %[1]s"}]
  file: [{name: f, path: %[1]s, content: x}, {name: only told, path: %[2]s, content: x, meta: {noop: true}}]
edges:
- {from: {kind: file, name: f}, to: {kind: noop, name: mid}}
- {from: {kind: noop, name: mid}, to: {kind: exec, name: last}}
`, in(dir, "f"), in(dir, "g"))
	r := start(t, def, Options{})
	r.untilStatus(Quiet)
	if ev := r.last("exec[last]", Applied); ev.Output != "x" {
		t.Errorf("exec said %+v", ev)
	}
	if ev := r.last("file[only told]", WouldApply); ev.Change != "create with 1 bytes" || read(t, in(dir, "g")) != "-" {
		t.Errorf("noop: %+v, file %q", ev, read(t, in(dir, "g")))
	}
	r.stop()
}
