//go:build !engine

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// confirmer asks the person at the terminal whether the next wave may begin. The run is paused meanwhile, and whoever continues it
// elsewhere has answered, too.
type confirmer struct {
	paused  chan messages.RunPaused
	resumed chan struct{}
}

func newConfirmer() *confirmer {
	return &confirmer{paused: make(chan messages.RunPaused, 1), resumed: make(chan struct{}, 1)}
}

// observe takes the events of the run. It never waits: only the newest pause matters.
func (c *confirmer) observe(event messages.Event) {
	switch e := event.(type) {
	case messages.RunPaused:
		if e.Reason != "" { // else somebody paused it, who continues it
			replace(c.paused, e)
		}
	case messages.RunContinued:
		replace(c.resumed, struct{}{})
	}
}

// replace puts a value into a channel that has room for one, instead of the one in it.
func replace[T any](to chan T, value T) {
	select {
	case <-to:
	default:
	}
	to <- value
}

// run asks as long as the run goes on.
func (c *confirmer) run(ctx context.Context, f *fleet.Fleet) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-c.paused:
			select {
			case <-c.resumed: // before this pause
			default:
			}
			asking, cancel := context.WithCancel(ctx)
			go func() {
				defer cancel()
				select {
				case <-c.resumed:
				case <-asking.Done():
				}
			}()
			yes, err := askYesNo(asking, p.Reason+"; begin it? [yes/no] ")
			cancel()
			switch {
			case errors.Is(err, context.Canceled): // the run ends, or was continued elsewhere
			case err != nil:
				f.Stop(messages.StopFinish) // nobody will ever answer
			case yes:
				f.Continue()
			default: // as if it were ^C, also for the exit code
				if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
					f.Stop(messages.StopFinish)
				}
			}
		}
	}
}

// askYesNo asks on the terminal until there is an answer.
func askYesNo(ctx context.Context, question string) (yes bool, err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("no terminal to ask on: %w", err)
	}
	defer func() { err = errors.Join(err, tty.Close()) }()
	stop := context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	lines := bufio.NewReader(tty)
	for {
		if _, err := fmt.Fprint(tty, question); err != nil {
			return false, err
		}
		line, err := lines.ReadString('\n')
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err != nil:
			return false, fmt.Errorf("read from the terminal: %w", err)
		}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
	}
}

// both runs what goes on beside a run, each of which may be nil.
func both(a, b func(context.Context, *fleet.Fleet)) func(context.Context, *fleet.Fleet) {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	return func(ctx context.Context, f *fleet.Fleet) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			a(ctx, f)
		}()
		b(ctx, f)
		<-done
	}
}
