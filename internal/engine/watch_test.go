package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// TestWatcher: the first check waits for the watcher; what it says is a reason to look; when it ends that is told, and
// when it is back the resource is looked at, since something may have been missed.
func TestWatcher(t *testing.T) {
	release, turn, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var ready atomic.Bool
	w := &stubWatcher{}
	w.onCheck = func(context.Context) (string, error) {
		if !ready.Load() {
			t.Error("checked before the watcher was ready")
		}
		return "", nil
	}
	w.onWatch = func(ctx context.Context, isReady, changed func()) error {
		<-release
		ready.Store(true)
		isReady()
		for {
			select {
			case <-turn:
				changed()
			case <-end:
				return errors.New("the bus is gone")
			case <-ctx.Done():
				return nil
			}
		}
	}
	r := startWith(t, definition(noop("w"), noop("other")), Options{}, map[string]resource{"noop[w]": w})
	r.untilCount("noop[other]", Checked, 1)
	if r.status() != Busy {
		t.Errorf("status %v without a first check", r.status())
	}
	close(release)
	r.untilCount("noop[w]", Checked, 1)
	r.untilStatus(Quiet)
	turn <- struct{}{}
	r.untilCount("noop[w]", Checked, 2)
	end <- struct{}{}
	r.untilCount("noop[w]", WatchEnded, 1)
	if ev := r.last("noop[w]", WatchEnded); ev.Delay != watchRestart || ev.Err.Error() != "the bus is gone" {
		t.Errorf("told as %+v", ev)
	}
	r.untilCount("noop[w]", Checked, 3)
	r.stop()
}

// TestWatcherThatCannot: where there is no watching, the resource is looked at all the same, and polled.
func TestWatcherThatCannot(t *testing.T) {
	w := &stubWatcher{onWatch: func(context.Context, func(), func()) error { return errors.New("no bus") }}
	r := startWith(t, definition(noop("w")), Options{}, map[string]resource{"noop[w]": w})
	r.untilStatus(Quiet)
	r.untilCount("noop[w]", WatchEnded, 2)
	if ev := r.nth("noop[w]", WatchEnded, 2); ev.Delay != 2*watchRestart {
		t.Errorf("second time told as %+v", ev)
	}
	r.stop()
	if v := r.e.vertices[0]; v.interval() != fallbackPoll || v.pollAt.IsZero() {
		t.Errorf("polled every %v, next at %v", v.interval(), v.pollAt)
	}
}

func TestInterval(t *testing.T) {
	const second = time.Second
	for _, c := range []struct {
		impl  resource
		poll  time.Duration
		blind bool
		want  time.Duration
	}{
		{noopResource{}, 0, false, 0},
		{noopResource{}, 3 * second, false, 3 * second},
		{noopResource{}, 0, true, fallbackPoll},
		{noopResource{}, 3 * second, true, 3 * second},
		{noopResource{}, time.Hour, true, fallbackPoll},
		{&execResource{&graph.Exec{}}, 0, true, 0},
		{&execResource{&graph.Exec{PollInt: 2 * second}}, 0, false, 2 * second},
		{&execResource{&graph.Exec{PollInt: 2 * second}}, second, true, second},
	} {
		v := &vertex{impl: c.impl, meta: graph.Meta{Poll: c.poll}, blind: c.blind}
		if got := v.interval(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

type stubPaths struct {
	stub
	list func() []string
}

func (f *stubPaths) paths() []string { return f.list() }

// TestPathWatcher: what happens in a directory is a reason to look at what watches it with a slash, and nothing else;
// paths that appear later are watched from then on.
func TestPathWatcher(t *testing.T) {
	dir := t.TempDir()
	deep := func() []string {
		list := []string{dir + "/"}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				list = append(list, in(dir, e.Name())+"/")
			}
		}
		return list
	}
	all, only := &stubPaths{list: deep}, &stubPaths{list: func() []string { return []string{dir} }}
	r := startWith(t, definition(noop("all"), noop("only")), Options{}, map[string]resource{"noop[all]": all, "noop[only]": only})
	r.untilStatus(Quiet)
	looks := int32(1)
	again := func(what string, do func()) {
		t.Helper()
		looks = all.checks.Load()
		do()
		r.until(what, func() bool { return all.checks.Load() > looks })
		r.untilStatus(Quiet)
	}
	again("a new entry", func() { write(t, in(dir, "a"), "x") })
	again("a new directory", func() {
		if err := os.Mkdir(in(dir, "d"), 0o700); err != nil {
			t.Fatal(err)
		}
	})
	again("what is in it", func() { write(t, in(dir, "d/b"), "x") })
	again("a file that changes", func() { write(t, in(dir, "d/b"), "y") })
	if n := only.checks.Load(); n != 1 {
		t.Errorf("what is about the directory alone was looked at %d times", n)
	}
	r.stop()
}

// TestOneDirectoryWithTwoNames: a directory that is also reached through a link is seen under both names, and losing one
// does not make the other blind.
func TestOneDirectoryWithTwoNames(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(os.Mkdir(in(root, "real"), 0o700), os.Symlink("real", in(root, "link"))); err != nil {
		t.Fatal(err)
	}
	viaLink := fileWith("link", in(root, "link/a"), "a")
	direct := fileWith("real", in(root, "real/b"), "b")
	r := start(t, definition(viaLink), Options{})
	r.untilStatus(Quiet)
	r.update(definition(viaLink, direct))
	r.untilCount("file[real]", Applied, 1)
	for _, name := range []string{"a", "b"} {
		write(t, in(root, "real/"+name), "drift")
		r.until(name, func() bool { return read(t, in(root, "real/"+name)) == name })
	}
	r.update(definition(direct))
	r.untilCount("file[link]", Released, 1)
	write(t, in(root, "real/b"), "drift")
	r.until("b again", func() bool { return read(t, in(root, "real/b")) == "b" })
	r.stop()
}

func TestPathTree(t *testing.T) {
	tree := newPathTree()
	for i := range 100 {
		tree.add("/a/" + strconv.Itoa(i%10) + "/" + strconv.Itoa(i))
	}
	if len(tree.nodes) != 1+1+10+100 {
		t.Errorf("%d nodes", len(tree.nodes))
	}
	for i := range 100 {
		n := tree.nodes["/a/"+strconv.Itoa(i%10)+"/"+strconv.Itoa(i)]
		for n != nil && len(n.children) == 0 {
			tree.remove(n)
			n = n.parent
		}
		for path, n := range tree.nodes {
			if n.parent != nil && (n.parent.children[n.place] != n || n.parent.path != filepath.Dir(path)) {
				t.Fatalf("%s is not where it should be", path)
			}
		}
	}
	if len(tree.nodes) != 0 {
		t.Errorf("left: %v", tree.nodes)
	}
}

// TestRefresh: a notified resource that has nothing to do is refreshed, that counts as a change for those it notifies,
// and between the change and the last refresh nothing looks quiet.
func TestRefresh(t *testing.T) {
	dir := t.TempDir()
	var refreshed atomic.Int32
	svc := &stubRefresher{onRefresh: func(context.Context) (string, error) {
		if refreshed.Add(1) == 2 {
			return "", errors.New("not now")
		}
		return "done", nil
	}}
	told := &stubRefresher{onRefresh: func(context.Context) (string, error) { t.Error("refreshed with noop"); return "", nil }}
	conf, service, after, only, look := fileWith("conf", in(dir, "conf"), "x"), noop("svc"), shell("after", "true"), noop("only"), noop("look")
	service.Meta.Retry = 1
	only.Meta.Noop = true
	def := definition(conf, service, after, only, look)
	def.Edges = []graph.Edge{
		edgeTo(conf, service, true), edgeTo(service, after, true), edgeTo(conf, only, true), edgeTo(conf, look, true),
	}
	write(t, in(dir, "conf"), "x")
	r := startWith(t, def, Options{}, map[string]resource{"noop[svc]": svc, "noop[only]": told})
	r.untilStatus(Quiet)
	if refreshed.Load() != 0 || r.count("exec[after]", Applied) != 1 {
		t.Errorf("refreshed %d times without a change", refreshed.Load())
	}
	r.forget()
	write(t, in(dir, "conf"), "drift")
	r.untilCount("exec[after]", Applied, 1)
	r.untilStatus(Quiet)
	if ev := r.last("noop[svc]", Applied); ev.Change != "refresh" || ev.Output != "done" {
		t.Errorf("refresh told as %+v", ev)
	}
	if r.count("noop[only]", WouldApply) != 1 || r.count("noop[look]", Checked) != 1 {
		t.Errorf("events %+v", r.events)
	}
	if !slices.Equal(r.statuses, []Status{Busy, Quiet}) {
		t.Errorf("statuses %v", r.statuses)
	}
	// One that fails is not forgotten.
	r.forget()
	write(t, in(dir, "conf"), "drift")
	r.untilCount("exec[after]", Applied, 1)
	r.untilStatus(Quiet)
	if n := r.count("noop[svc]", Retrying); n != 1 || refreshed.Load() != 3 {
		t.Errorf("%d retries, %d refreshes", n, refreshed.Load())
	}
	r.stop()
}
