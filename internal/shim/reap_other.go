//go:build unix && !linux

package shim

import (
	"errors"
	"syscall"
)

// reaper waits for children. Whom they leave behind, init has.
type reaper struct{}

// adopt does nothing: init has orphans.
func (*reaper) adopt() error { return nil }

// start has fork make a child. Its end is told once, in a channel with room for it.
func (*reaper) start(fork func() (pid int, err error)) (int, <-chan ended, error) {
	pid, err := fork()
	if err != nil {
		return 0, nil, err
	}
	end := make(chan ended, 1)
	go func() {
		var e ended
		for {
			if _, err := syscall.Wait4(pid, &e.status, 0, &e.usage); !errors.Is(err, syscall.EINTR) {
				e.err = err
				end <- e
				return
			}
		}
	}()
	return pid, end, nil
}

// alone is what can't be told here.
func (*reaper) alone() bool { return false }
