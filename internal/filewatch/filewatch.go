// Package filewatch tells when files have another content.
//
//	err := filewatch.Watch(ctx, map[string][]byte{"site.yaml": content}, func(c filewatch.Change) { … })
//
// What is watched are names, not files: editors rename a new file over the old one, and configuration directories are
// symbolic links that are turned round. So every directory on the way to a file is watched, and every symbolic link. A
// change is told once it was calm for a moment, and only where the bytes are others than those known. While there is no
// file under the name, nothing is told.
//
// The package only reads, and only regular files. It sees what this machine's kernel sees: a change that another machine
// makes on a network file system it may not.
package filewatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// calm is how long nothing must have happened to a file before it is read: who writes one does it in several steps.
	calm = 100 * time.Millisecond
	// restless is how long a file may go on changing before it is read all the same.
	restless = time.Second
	// maxSize bounds what is read of a file, in bytes. It is above what a definition may have, so that nobody takes the
	// beginning of one that is too large for the whole.
	maxSize = 16<<20 + 1
)

// Change is a file with another content.
type Change struct {
	Path    string // as it was given to Watch
	Content []byte // the receiver's to keep
	Err     error  // why it can't be read; Content is nil then
}

// Watch calls tell for each change, one at a time and from this goroutine, until ctx ends. known is the content of each
// file as the caller knows it: what is there at the beginning is a change where it differs. Watch returns nil when ctx
// ended, and an error when the system lets nothing be watched (any more).
func Watch(ctx context.Context, known map[string][]byte, tell func(Change)) error {
	w := &watcher{tell: tell, last: make(map[string]seen, len(known))}
	for path, content := range known {
		w.last[path] = seen{content: content}
	}
	defer w.close()
	for {
		if err := w.renew(); err != nil {
			return err
		}
		w.look()
		if err := w.wait(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// seen is what was last known of a file.
type seen struct {
	content []byte
	err     string
}

type watcher struct {
	tell  func(Change)
	last  map[string]seen // by path as given
	notes *fsnotify.Watcher
	names map[string]bool // full names that matter
}

// renew watches what is on the way to the files now. It makes a new fsnotify watcher each time: one that watches a
// directory goes on with that directory wherever it is moved, whatever is under its name meanwhile.
func (w *watcher) renew() error {
	notes, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w (on Linux see the limits in /proc/sys/fs/inotify)", err)
	}
	w.close()
	w.notes, w.names = notes, map[string]bool{}
	for path := range w.last {
		for again := true; again; { // what changed before its directory was watched shows in the next round
			again = false
			names, dirs, err := trail(path)
			if err != nil {
				return err
			}
			for _, name := range names {
				w.names[name] = true
			}
			for _, dir := range dirs {
				added, err := w.add(dir)
				if err != nil {
					return err
				}
				again = again || added
			}
		}
	}
	return nil
}

// add watches a directory; false means that it is watched already, or can't be: a directory that may be entered but not
// read changes little, and one that is gone is noticed in the one above it.
func (w *watcher) add(dir string) (bool, error) {
	for _, there := range w.notes.WatchList() {
		if there == dir {
			return false, nil
		}
	}
	err := w.notes.Add(dir)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("watch %s: %w", dir, err)
	}
	return true, nil
}

// look tells of every file that has another content than before.
func (w *watcher) look() {
	for path, last := range w.last {
		content, err := read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil && err.Error() != last.err:
			w.last[path] = seen{content: last.content, err: err.Error()}
			w.tell(Change{Path: path, Err: err})
		case err == nil && (last.err != "" || !bytes.Equal(content, last.content)):
			w.last[path] = seen{content: content}
			w.tell(Change{Path: path, Content: bytes.Clone(content)})
		}
	}
}

// errNotRegular is about pipes, devices and directories.
var errNotRegular = errors.New("not a regular file")

// read never blocks: a pipe is opened without waiting for its other end, and not read.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing to lose
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errNotRegular}
	}
	return io.ReadAll(io.LimitReader(f, maxSize))
}

// wait returns when something happened to one of the names and was calm for a moment, or ctx ended.
func (w *watcher) wait(ctx context.Context) error {
	var first time.Time
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case event, ok := <-w.notes.Events:
			if !ok {
				return errors.New("watch files: the watcher ended by itself")
			}
			if !w.names[filepath.Clean(event.Name)] {
				continue
			}
		case err, ok := <-w.notes.Errors:
			if !ok || !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch files: %w", err)
			}
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
		if first.IsZero() {
			first = time.Now()
		}
		timer.Reset(min(calm, max(0, restless-time.Since(first))))
	}
}

func (w *watcher) close() {
	if w.notes != nil {
		_ = w.notes.Close() // nothing depends on its end
	}
}
