package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

func TestUpdate(t *testing.T) {
	dir := t.TempDir()
	first := fileWith("a", in(dir, "a"), "a")
	command := shell("e", "echo x >>"+in(dir, "log"))
	other := fileWith("b", in(dir, "b"), "one")
	def := definition(first, command, other)
	def.Edges = []graph.Edge{edgeTo(first, command, true)}
	r := start(t, def, Options{})
	r.untilStatus(Quiet)
	// The kernel's notices of what was done come in their order. The first drift may be found when that of the file's own making comes, the
	// second one only after that of the first, and so after those of all files.
	for i := range 2 {
		write(t, in(dir, "b"), "drift")
		r.untilCount("file[b]", Applied, 2+i)
	}
	// Its notice may have come together with that of the second drift.
	r.untilCount("file[a]", Checked, 1)
	r.untilStatus(Quiet)
	r.forget()

	// The same again, in other words: nothing happens, so the next update is the first that anybody hears of.
	r.update(definition(command, fileWith("b", in(dir, "b"), "one"), fileWith("a", in(dir, "a"), "a")))
	r.update(definition(command, first, fileWith("b", in(dir, "b"), "two"), fileWith("c", in(dir, "c"), "c")))
	r.untilCount("file[c]", Applied, 1)
	r.untilCount("file[b]", Applied, 1)
	r.untilStatus(Quiet)
	r.mu.Lock()
	for _, ev := range r.events {
		if id := ev.ID.String(); id != "file[b]" && id != "file[c]" {
			t.Errorf("touched: %+v", ev)
		}
	}
	if !slices.Equal(r.statuses, []Status{Busy, Quiet}) {
		t.Errorf("statuses %v", r.statuses)
	}
	r.mu.Unlock()

	// What was not touched is still watched, what is new is watched, and edges are the new ones.
	r.update(definition(command, first, fileWith("c", in(dir, "c"), "c")))
	r.untilCount("file[b]", Released, 1)
	for _, name := range []string{"a", "b", "c"} {
		write(t, in(dir, name), "drift")
	}
	r.untilCount("file[a]", Applied, 1)
	r.untilCount("file[c]", Applied, 2)
	r.untilStatus(Quiet)
	if got := lines(t, in(dir, "log")); len(got) != 1 {
		t.Errorf("the command ran %d times", len(got))
	}
	if got := read(t, in(dir, "b")); got != "drift" {
		t.Errorf("a file that is not declared any more was changed to %q", got)
	}
	r.stop()
}

func TestUpdateOutsideOfRun(t *testing.T) {
	def := definition(noop("a"))
	r := prepare(t, def, Options{})
	if err := r.e.Update(def); err != nil {
		t.Errorf("refused before Run: %v", err)
	}
	r.begin()
	r.untilStatus(Quiet)
	bad := definition(noop("a"), noop("b"))
	bad.Edges = []graph.Edge{edgeTo(noop("a"), noop("c"), false)}
	for what, def := range map[string]*graph.Definition{
		"an edge to nowhere": bad, "a double": definition(noop("a"), noop("a")),
		"no kind":    definition(res("x", "y", nil)),
		"a bad path": definition(fileWith("f", "/tmp/../etc/passwd", "x")),
		"a cycle": {Resources: definition(noop("a"), noop("b")).Resources, Edges: []graph.Edge{
			edgeTo(noop("a"), noop("b"), false), edgeTo(noop("b"), noop("a"), false),
		}},
	} {
		if err := r.e.Update(def); err == nil {
			t.Errorf("accepted %s", what)
		}
	}
	r.stop()
	if err := r.e.Update(def); err == nil {
		t.Error("accepted after Run")
	}
	if err := r.e.Run(t.Context()); err == nil {
		t.Error("ran twice")
	}
}

// TestUpdateFromTheObserver: the newest of several definitions counts.
func TestUpdateFromTheObserver(t *testing.T) {
	dir := t.TempDir()
	r := prepare(t, definition(noop("a")), Options{})
	record := r.e.opts.Observer
	r.e.opts.Observer = ObserverFunc(func(ev Event) {
		if ev.ID.Name == "a" && ev.Kind == Checked {
			for i := range 10 {
				if err := r.e.Update(definition(noop("a"), fileWith("f", in(dir, fmt.Sprint(i)), "x"))); err != nil {
					t.Error(err)
				}
			}
		}
		record.Observe(ev)
	})
	r.begin()
	r.untilCount("file[f]", Applied, 1)
	r.untilStatus(Quiet)
	r.stop()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "9" {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestUpdateWaitsForWork: the new form of a resource, and another one for the same file, wait for the old one's work.
func TestUpdateWaitsForWork(t *testing.T) {
	dir := t.TempDir()
	log, fifo := in(dir, "log"), in(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	var busy atomic.Bool
	slow := &stub{
		onCheck: func(context.Context) (string, error) { return "work", nil },
		onApply: func(context.Context) (string, error) {
			busy.Store(true)
			<-release
			busy.Store(false)
			return "", nil
		},
	}
	old := definition(shell("e", fmt.Sprintf("echo begin >>%s; cat %s; echo end >>%s", log, fifo, log)), fileWith("f", in(dir, "f"), "x"))
	r := startWith(t, old, Options{}, map[string]resource{"file[f]": slow})
	r.until("work", func() bool { return busy.Load() && read(t, log) == "begin\n" })
	r.update(definition(
		shell("e", "echo new >>"+log),
		fileWith("g", in(dir, "f"), "x"),
		fileWith("h", in(dir, "h"), "x"), // has nothing to do with them
	))
	r.untilCount("file[h]", Applied, 1)
	if r.status() != Busy || r.count("file[g]", Applied)+r.count("exec[e]", Applied)+r.count("file[f]", Released) > 0 || read(t, log) != "begin\n" {
		t.Errorf("status %v, log %q, events %+v", r.status(), read(t, log), r.events)
	}
	close(release)
	r.untilCount("file[g]", Applied, 1)
	r.untilCount("file[f]", Released, 1)
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r.untilCount("exec[e]", Applied, 2)
	r.untilStatus(Quiet)
	if got := read(t, log); got != "begin\nend\nnew\n" {
		t.Errorf("log %q", got)
	}
	r.stop()
}

// TestUpdateEndsQuestions: a check that hangs does not hold up what replaces it, and nothing is applied for it.
func TestUpdateEndsQuestions(t *testing.T) {
	dir := t.TempDir()
	hanging := res(graph.KindExec, "e", &graph.Exec{Cmd: "touch " + in(dir, "bad"), IfCmd: "trap 'exit 0' TERM; touch " + in(dir, "asked") + "; sleep 1000 & wait", IfShell: "sh"})
	r := start(t, definition(hanging), Options{})
	r.until("the question", func() bool { return read(t, in(dir, "asked")) != "-" })
	r.update(definition(shell("f", "true")))
	r.untilCount("exec[e]", Released, 1)
	r.untilStatus(Quiet)
	if read(t, in(dir, "bad")) != "-" {
		t.Error("applied")
	}
	r.stop()
}

// TestUpdateKeepsRefreshes: what notified an old form of a resource, or was changed by one, refreshes the new one's.
func TestUpdateKeepsRefreshes(t *testing.T) {
	dir := t.TempDir()
	release, began := make(chan struct{}), make(chan struct{})
	slow := &stub{
		onCheck: func(context.Context) (string, error) { return "work", nil },
		onApply: func(context.Context) (string, error) { close(began); <-release; return "", nil },
	}
	conf, after := noop("conf"), shell("after", "echo x >>"+in(dir, "log"))
	def := definition(conf, after)
	def.Edges = []graph.Edge{edgeTo(conf, after, true)}
	r := startWith(t, def, Options{}, map[string]resource{"noop[conf]": slow})
	<-began
	conf.Meta.Retry = 1
	def = definition(conf, after)
	def.Edges = []graph.Edge{edgeTo(conf, after, true)}
	r.update(def)
	close(release)
	r.untilCount("noop[conf]", Applied, 1)
	r.untilCount("noop[conf]", Checked, 1)
	r.untilCount("exec[after]", Applied, 1)
	r.untilStatus(Quiet)
	r.stop()
}

func TestUpdateEndsWatchers(t *testing.T) {
	ended := make(chan struct{})
	w := &stubWatcher{onWatch: func(ctx context.Context, ready, _ func()) error {
		ready()
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}}
	r := startWith(t, definition(noop("a"), noop("b")), Options{}, map[string]resource{"noop[a]": w})
	r.untilStatus(Quiet)
	r.update(definition(noop("b")))
	<-ended
	r.stop()
	if n := r.count("noop[a]", WatchEnded); n != 0 {
		t.Error("told about a watcher that was ended")
	}
}

// TestUpdateOneByOne: files that arrive one by one cost what one costs, and leave no watches when they go.
func TestUpdateOneByOne(t *testing.T) {
	root := t.TempDir()
	def := definition(fileWith("keep", in(root, "keep"), "x"))
	r := start(t, def, Options{})
	r.untilStatus(Quiet)
	watched := func() int { return len(r.e.files.fs.WatchList()) }
	before := watched()
	for i := range 50 {
		if err := os.MkdirAll(in(root, "d"+fmt.Sprint(i%5)), 0o700); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint(i)
		def = with(def, fileWith(name, filepath.Join(root, "d"+fmt.Sprint(i%5), name), name))
		r.update(def)
		r.untilCount("file["+name+"]", Applied, 1)
	}
	r.untilStatus(Quiet)
	// A directory that was just made is watched anew when that is told, and then not at all for a moment.
	r.until("five more directories are watched", func() bool { return watched() == before+5 })
	if n := r.count("file[keep]", Checked) + r.count("file[keep]", Applied); n > 2 { // its own rename is seen
		t.Errorf("a file that is not touched was looked at %d times", n)
	}
	r.update(definition(def.Resources[0]))
	for i := range 50 {
		r.untilCount("file["+fmt.Sprint(i)+"]", Released, 1)
	}
	r.until("no more directories are watched", func() bool { return watched() == before })
	write(t, in(root, "keep"), "y")
	r.until("repair", func() bool { return read(t, in(root, "keep")) == "x" })
	r.stop()
}

type keeper struct {
	World
	kept chan string
}

func (k keeper) Keep(ids []graph.ID) {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, id.String())
	}
	k.kept <- strings.Join(names, " ")
}

func TestExportedAreKept(t *testing.T) {
	w := keeper{World: newSharedWorld(), kept: make(chan string, 10)}
	r := start(t, definition(fileWith("@@a", "/a", ""), noop("b"), fileWith("@@c", "/c", "")), Options{World: w})
	if got := <-w.kept; got != "file[@@a] file[@@c]" {
		t.Errorf("kept %s", got)
	}
	r.update(definition(noop("b"), fileWith("@@c", "/c", "")))
	if got := <-w.kept; got != "file[@@c]" {
		t.Errorf("kept %s", got)
	}
	r.stop()
}
