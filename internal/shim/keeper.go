package shim

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// oneRun is one run of the payload; *run is one.
type oneRun interface {
	pid() int
	// wait returns when the run has ended and all its output is kept.
	wait() *wire.Exit
	signal(sig syscall.Signal) error
	// end goes through the stages until nobody of the payload's group is left.
	end(ctx context.Context, stages ...stage) error
	// endRest ends what a run that has ended left behind.
	endRest(ctx context.Context, stages ...stage) error
}

// restStages are for what a run left behind where the next one is about to begin.
var restStages = []stage{{syscall.SIGTERM, 3 * time.Second}, {syscall.SIGKILL, killWait}}

// errEnough tells that nothing is to be started any more.
var errEnough = errors.New("the session ends")

// keeper starts the payload, and again as its restart policy wants it. It is the only one who does. The methods but
// keep may be called from any goroutine.
type keeper struct {
	backoff   backoff                        // keep's own
	start     func() (oneRun, error)         // the file system may keep it waiting
	restarted func(pid int, last *wire.Exit) // is told of every start but the first
	log       *logger

	mu      sync.Mutex // held while a run is started, so that none is after end
	current oneRun
	over    bool
	enough  chan struct{} // closed with over
}

func newKeeper(policy wire.Restart, start func() (oneRun, error), restarted func(int, *wire.Exit), log *logger) *keeper {
	return &keeper{backoff: newBackoff(policy), start: start, restarted: restarted, log: log, enough: make(chan struct{})}
}

// begin starts the next run. Only the first time an error is the end of it.
func (k *keeper) begin() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return errEnough
	}
	r, err := k.start()
	if err == nil {
		k.current = r
	}
	return err
}

func (k *keeper) run() oneRun {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

// keep waits for the end of the run that begin started and of those that follow by policy. It returns how the last one
// ended.
func (k *keeper) keep() *wire.Exit {
	for {
		r, began := k.run(), time.Now()
		exit := r.wait()
		last, again := k.again(r, exit, time.Since(began))
		if !again {
			return last
		}
	}
}

// again begins the next run after one that ended, as often as it takes. Where there is none, it returns how the last one
// ended, a start that failed counting as one.
func (k *keeper) again(r oneRun, exit *wire.Exit, ran time.Duration) (last *wire.Exit, again bool) {
	last = exit
	for {
		delay, ok := k.backoff.next(last, ran)
		if !ok || !k.pause(delay) {
			return last, false
		}
		if err := r.endRest(noDeadline, restStages...); err != nil {
			k.log.printf("end what the last run left behind: %v", err)
		}
		err := k.begin()
		switch {
		case errors.Is(err, errEnough):
			return last, false
		case err != nil:
			last, ran = &wire.Exit{Code: -1, Error: err.Error(), OutputEnd: exit.OutputEnd}, 0
			k.log.printf("start the payload again: %v", err)
			continue
		}
		k.restarted(k.run().pid(), last)
		return nil, true
	}
}

// pause waits, and returns false where nothing is to follow.
func (k *keeper) pause(delay time.Duration) bool {
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-k.enough:
		return false
	}
}

// signal sends sig to a payload that runs.
func (k *keeper) signal(sig syscall.Signal) error {
	if r := k.run(); r != nil {
		return r.signal(sig)
	}
	return nil
}

// end ends the payload for good: nothing is started from here on.
func (k *keeper) end(ctx context.Context, stages ...stage) error {
	k.mu.Lock()
	if !k.over {
		k.over = true
		close(k.enough)
	}
	r := k.current
	k.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.end(ctx, stages...)
}

// endRest ends what an ended payload left behind.
func (k *keeper) endRest(ctx context.Context, stages ...stage) error {
	if r := k.run(); r != nil {
		return r.endRest(ctx, stages...)
	}
	return nil
}
