package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long events are gathered before they are passed on, so that `rm -r` is seen as one change and not as a
// file that vanished from a directory that will be gone as well.
const settle = 20 * time.Millisecond

// fileWatcher tells when paths may have changed. It watches directories, never files: a watch on a file would stay with
// the old one when the file is replaced. All directories above a path are watched, as far as they exist, since moving
// any of them away is seen nowhere else.
type fileWatcher struct {
	tree  *pathTree
	fs    *fsnotify.Watcher
	blind map[string]struct{} // directories that exist but can't be watched under their name
}

// newFileWatcher begins to watch. The caller must call run, which ends the watching.
func newFileWatcher(tree *pathTree) (*fileWatcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w (on Linux see the limits in /proc/sys/fs/inotify)", err)
	}
	w := &fileWatcher{tree: tree, fs: fs, blind: make(map[string]struct{})}
	w.attach(tree.nodes["/"])
	return w, nil
}

// attach watches every existing directory from n on. Watches that are there already are made anew, because a watch stays
// with the directory that had the name when it was made.
func (w *fileWatcher) attach(n *pathNode) {
	n.below(func(n *pathNode) {
		if len(n.children) == 0 {
			return
		}
		delete(w.blind, n.path)
		// Not watched yet is as good as removed; other errors show in Add.
		_ = w.fs.Remove(n.path)
		if err := w.fs.Add(n.path); err != nil {
			if real, err := filepath.EvalSymlinks(n.path); err == nil && real != "" {
				w.blind[n.path] = struct{}{}
			}
			return
		}
		// The system reports a directory under one name only, that of its first watch.
		if real, err := filepath.EvalSymlinks(n.path); err == nil && real != n.path {
			w.blind[n.path] = struct{}{}
		}
	})
}

// unwatched lists the vertices whose changes may go unseen.
func (w *fileWatcher) unwatched() []int {
	var list []int
	for _, n := range w.tree.nodes {
		if _, blind := w.blind[filepath.Dir(n.path)]; blind {
			list = append(list, n.vertices...)
		}
	}
	return list
}

// run passes on what changed until ctx ends, then stops watching. It calls tell from its own goroutine.
func (w *fileWatcher) run(ctx context.Context, tell func([]int)) {
	defer func() { _ = w.fs.Close() }() // nothing can be lost any more
	changed := make(map[int]struct{})
	moved := make(map[*pathNode]struct{})
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	timer.Stop()
	arm := func() {
		if len(changed) == 0 && len(moved) == 0 {
			timer.Reset(settle)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case ev, open := <-w.fs.Events:
			if !open {
				return
			}
			n := w.tree.nodes[filepath.Clean(ev.Name)]
			if n == nil {
				continue
			}
			if len(n.children) > 0 && ev.Op&(fsnotify.Create|fsnotify.Remove|fsnotify.Rename) != 0 {
				arm()
				moved[n] = struct{}{}
			}
			if len(n.vertices) > 0 {
				arm()
				note(changed, n)
			}
		case err, open := <-w.fs.Errors:
			if !open {
				return
			}
			// Events were lost (fsnotify.ErrEventOverflow), or the system has trouble: look at everything.
			if err != nil && !errors.Is(err, fsnotify.ErrNonExistentWatch) {
				arm()
				moved[w.tree.nodes["/"]] = struct{}{}
			}
		case <-timer.C:
			for n := range moved {
				w.attach(n) // before anybody looks, so that nothing falls between
				n.below(func(n *pathNode) { note(changed, n) })
			}
			clear(moved)
			if len(changed) > 0 {
				tell(slices.Sorted(maps.Keys(changed)))
			}
			clear(changed)
		}
	}
}

func note(changed map[int]struct{}, n *pathNode) {
	for _, v := range n.vertices {
		changed[v] = struct{}{}
	}
}
