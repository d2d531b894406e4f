package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// watchRestart is how long a watch command that ended stays away at first; it doubles up to watchRestartMax.
const (
	watchRestart    = time.Second
	watchRestartMax = 30 * time.Second
)

// watch starts the watchers of all vertices; group is done when they have ended, after ctx did. They watch already when
// watch returns, so that what the first check sees can't change unnoticed.
func (e *Engine) watch(ctx context.Context, group *sync.WaitGroup) error {
	files := newPathTree()
	for i, v := range e.vertices {
		switch impl := v.impl.(type) {
		case *fileResource:
			files.add(impl.spec.Location(), i)
			if impl.spec.Source != "" {
				files.add(filepath.Clean(impl.spec.Source), i)
			}
		case *execResource:
			v.poll = impl.spec.PollInt
			if impl.spec.WatchCmd != "" {
				group.Go(func() { e.watchCommand(ctx, i, impl) })
			}
		}
	}
	if len(files.nodes) == 0 {
		return nil
	}
	w, err := newFileWatcher(files)
	if err != nil {
		return err
	}
	for _, i := range w.unwatched() {
		e.vertices[i].poll = fallbackPoll
	}
	group.Go(func() { w.run(ctx, func(list []int) { e.tell(ctx, list) }) })
	return nil
}

// tell hands vertices to the loop.
func (e *Engine) tell(ctx context.Context, list []int) {
	select {
	case e.marks <- list:
	case <-ctx.Done():
	}
}

// trouble tells the observer, through the loop, that a watch command ended.
func (e *Engine) trouble(ctx context.Context, i int, delay time.Duration, err error) {
	if err == nil {
		err = errors.New("exit status 0")
	}
	select {
	case e.notes <- Event{ID: e.vertices[i].id, Kind: WatchEnded, Err: fmt.Errorf("watchcmd ended: %w", err), Delay: delay}:
	case <-ctx.Done():
	}
}

// watchCommand keeps a watch command running and marks its vertex at each line.
func (e *Engine) watchCommand(ctx context.Context, i int, x *execResource) {
	delay := watchRestart
	for ctx.Err() == nil {
		lines := lineCounter(func() {
			delay = watchRestart
			e.tell(ctx, []int{i})
		})
		cmd, err := x.command(ctx, commandLine{line: x.spec.WatchCmd, shell: x.spec.WatchShell})
		if err == nil {
			cmd.Stdout = lines
			if err = cmd.Start(); err == nil {
				err = cmd.Wait()
				killGroup(cmd.Process.Pid)
			}
		}
		if ctx.Err() != nil {
			return
		}
		e.trouble(ctx, i, delay, err)
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		delay = min(2*delay, watchRestartMax)
	}
}

// lineCounter calls a function for each write that ends a line; several lines at once are one reason to look.
type lineCounter func()

// Write implements io.Writer; it never fails.
func (f lineCounter) Write(p []byte) (int, error) {
	if slices.Contains(p, '\n') {
		f()
	}
	return len(p), nil
}
