package shim

import (
	"errors"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper waits for all children of this process: payloads, and whom they left to us. No more than one may be used.
type reaper struct {
	mu      sync.Mutex // held from a child's birth until it is known, so that its death is not missed
	waiting map[int]chan<- ended
	reaping bool // there is a child, as far as we know
	adopts  bool // who loses its parent among our descendants becomes our child
}

// subreaper asks the kernel for that; tests replace it.
var subreaper = func() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// adopt makes this process the parent of all its descendants whose parents end. Emulators of single programs (qemu's user mode, as
// in containers of another architecture) refuse that. There init has them, as on other systems, and a payload runs all the same.
func (r *reaper) adopt() error {
	err := subreaper()
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.adopts = err == nil
	return nil
}

// start has fork make a child. Its end is told once, in a channel with room for it.
func (r *reaper) start(fork func() (pid int, err error)) (int, <-chan ended, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return 0, nil, err
	}
	end := make(chan ended, 1)
	if r.waiting == nil {
		r.waiting = map[int]chan<- ended{}
	}
	r.waiting[pid] = end
	if !r.reaping {
		r.reaping = true
		go r.reap()
	}
	return pid, end, nil
}

// alone tells that no child is left, and so no descendant that did not run away from an earlier parent of ours. Where init adopts, nobody
// can tell.
func (r *reaper) alone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.adopts && !r.reaping
}

func (r *reaper) reap() {
	for {
		var e ended
		pid, err := syscall.Wait4(-1, &e.status, 0, &e.usage)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		r.mu.Lock()
		switch {
		case err == nil:
			if end := r.waiting[pid]; end != nil {
				end <- e
				delete(r.waiting, pid)
			}
		case len(r.waiting) == 0: // ECHILD; a new one begins a new round
			r.reaping = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
	}
}
