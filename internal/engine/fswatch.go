package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long events are gathered before they are passed on, so that `rm -r` is seen as one change and not as a
// file that vanished from a directory that will be gone as well.
const settle = 20 * time.Millisecond

// fileWatcher tells when paths may have changed. It watches directories, never files: a watch on a file would stay with
// the old one when the file is replaced. All directories above a path are watched, as far as they exist, since moving
// any of them away is seen nowhere else.
//
// Workers and the loop use it at the same time. What follows, and what is dropped, costs only what it is itself.
type fileWatcher struct {
	fs *fsnotify.Watcher

	mu       sync.Mutex // guards all below
	tree     *pathTree
	followed map[*vertex][]string
	dirs     map[string][]*pathNode // watched directories by their real name: the system reports each under one name only
	blind    map[string]struct{}    // directories that exist but can't be watched under the name in the tree
	changed  map[*vertex]struct{}   // what was gathered
	moved    map[*pathNode]struct{}
}

// newFileWatcher begins to watch. The caller must call run, which ends the watching.
func newFileWatcher() (*fileWatcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w (on Linux see the limits in /proc/sys/fs/inotify)", err)
	}
	return &fileWatcher{
		fs: fs, tree: newPathTree(), followed: make(map[*vertex][]string), dirs: make(map[string][]*pathNode),
		blind: make(map[string]struct{}), changed: make(map[*vertex]struct{}), moved: make(map[*pathNode]struct{}),
	}, nil
}

// follow makes paths, with the meaning of pathWatcher, those that v is about. They are watched when it returns. It
// reports whether they differ from before, and whether changes of some may go unseen.
func (w *fileWatcher) follow(v *vertex, paths []string) (changed, blind bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.followed[v]
	if changed = !slices.Equal(before, paths); changed {
		// What stays is added before it is removed, so that no watch is interrupted.
		for _, path := range paths {
			w.add(v, path)
		}
		for _, path := range before {
			w.remove(v, path)
		}
		w.followed[v] = paths
	}
	for _, path := range paths {
		_, above := w.blind[filepath.Dir(filepath.Clean(path))]
		_, itself := w.blind[filepath.Clean(path)]
		blind = blind || above || itself && strings.HasSuffix(path, "/")
	}
	return changed, blind
}

// drop forgets a vertex.
func (w *fileWatcher) drop(v *vertex) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, path := range w.followed[v] {
		w.remove(v, path)
	}
	delete(w.followed, v)
	delete(w.changed, v)
}

func (w *fileWatcher) add(v *vertex, path string) {
	n := w.tree.add(filepath.Clean(path))
	n.vertices = append(n.vertices, v)
	if strings.HasSuffix(path, "/") {
		n.entries = append(n.entries, v)
	}
	var unwatched []*pathNode
	for d := n; d != nil && !d.watched; d = d.parent {
		if d.directory() {
			unwatched = append(unwatched, d)
		}
	}
	for _, d := range slices.Backward(unwatched) { // from above, so that what appears meanwhile is seen
		d.watched = true
		w.attach(d)
	}
}

// remove takes back one add.
func (w *fileWatcher) remove(v *vertex, path string) {
	n := w.tree.nodes[filepath.Clean(path)]
	once := func(list []*vertex) []*vertex {
		i := slices.Index(list, v)
		return slices.Delete(list, i, i+1)
	}
	n.vertices = once(n.vertices)
	if strings.HasSuffix(path, "/") {
		n.entries = once(n.entries)
	}
	for n != nil {
		if n.watched && !n.directory() {
			n.watched = false
			w.detach(n)
		}
		if n.directory() || len(n.vertices) > 0 {
			return
		}
		delete(w.moved, n)
		w.tree.remove(n)
		n = n.parent
	}
}

// attach watches a directory, if it exists.
func (w *fileWatcher) attach(n *pathNode) {
	real, err := filepath.EvalSymlinks(n.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return // its parent will tell
	case err != nil:
		w.blind[n.path] = struct{}{}
		return
	case real != n.path: // nobody watches what is above it
		w.blind[n.path] = struct{}{}
	}
	if len(w.dirs[real]) == 0 {
		if err := w.fs.Add(real); err != nil {
			w.blind[n.path] = struct{}{}
			return
		}
	}
	n.real = real
	w.dirs[real] = append(w.dirs[real], n)
}

func (w *fileWatcher) detach(n *pathNode) {
	delete(w.blind, n.path)
	if n.real == "" {
		return
	}
	others := slices.DeleteFunc(w.dirs[n.real], func(o *pathNode) bool { return o == n })
	if len(others) > 0 {
		w.dirs[n.real] = others
	} else {
		delete(w.dirs, n.real)
		_ = w.fs.Remove(n.real) // not watched any more, since it is gone, is as good
	}
	n.real = ""
}

// renew makes the watches from n on anew, because a watch stays with the directory that had the name when it was made.
func (w *fileWatcher) renew(n *pathNode) {
	n.below(func(n *pathNode) {
		if !n.watched {
			return
		}
		others := slices.Clone(w.dirs[n.real])
		if n.real == "" {
			others = []*pathNode{n}
		}
		for _, o := range others {
			w.detach(o)
		}
		for _, o := range others {
			w.attach(o)
			if o != n {
				o.below(w.note)
			}
		}
	})
}

// run passes on what changed until ctx ends, then stops watching. It calls tell from its own goroutine.
func (w *fileWatcher) run(ctx context.Context, tell func([]*vertex)) {
	defer func() { _ = w.fs.Close() }() // nothing can be lost any more
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	timer.Stop()
	armed := false
	for {
		news := false
		select {
		case <-ctx.Done():
			return
		case ev, open := <-w.fs.Events:
			if !open {
				return
			}
			news = w.event(ev)
		case err, open := <-w.fs.Errors:
			if !open {
				return
			}
			// Events were lost (fsnotify.ErrEventOverflow), or the system has trouble: look at everything.
			if err != nil && !errors.Is(err, fsnotify.ErrNonExistentWatch) {
				news = w.overflow()
			}
		case <-timer.C:
			armed = false
			if list := w.flush(); len(list) > 0 {
				tell(list)
			}
		}
		if news && !armed {
			armed = true
			timer.Reset(settle)
		}
	}
}

// event notes what an event is about, and reports whether that is anything.
func (w *fileWatcher) event(ev fsnotify.Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := filepath.Clean(ev.Name)
	for _, n := range w.dirs[name] {
		w.noteEvent(n, ev.Op)
	}
	for _, d := range w.dirs[filepath.Dir(name)] {
		if n := w.tree.nodes[filepath.Join(d.path, filepath.Base(name))]; n != nil {
			w.noteEvent(n, ev.Op)
		}
		for _, v := range d.entries {
			w.changed[v] = struct{}{}
		}
	}
	return len(w.changed)+len(w.moved) > 0
}

func (w *fileWatcher) noteEvent(n *pathNode, op fsnotify.Op) {
	if n.watched && op&(fsnotify.Create|fsnotify.Remove|fsnotify.Rename) != 0 {
		w.moved[n] = struct{}{}
	}
	w.note(n)
}

func (w *fileWatcher) note(n *pathNode) {
	for _, v := range n.vertices {
		w.changed[v] = struct{}{}
	}
}

func (w *fileWatcher) overflow() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if root := w.tree.nodes["/"]; root != nil {
		w.moved[root] = struct{}{}
	}
	return len(w.moved) > 0
}

// flush returns what was gathered.
func (w *fileWatcher) flush() []*vertex {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := range w.moved {
		w.renew(n) // before anybody looks, so that nothing falls between
		n.below(w.note)
	}
	list := slices.Collect(maps.Keys(w.changed))
	clear(w.moved)
	clear(w.changed)
	return list
}
