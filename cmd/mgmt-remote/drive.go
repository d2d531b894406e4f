//go:build !engine

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/console"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// driveDetached is drive in a process that leaves its terminal once the run has begun. It has nobody to ask from then on, so that it asks
// before.
func driveDetached(cmd *cobra.Command, opts fleet.Options, s *starter, files shown, beside func(context.Context, *fleet.Fleet)) error {
	if opts.SSH.Interactive {
		return errors.New("--detach: nobody could be asked for the passwords of single hosts: use keys, or --ask-pass")
	}
	if opts.SSH.HostKeys == fleet.HostKeysAsk {
		return errors.New("--detach: nobody could be asked about host keys: use --host-key strict or accept-new")
	}
	opts.KeepState = true // or nobody would ever know how it went
	return drive(cmd, opts, append(files, &sink{Printer: s, to: "the process that began the run"}), beside)
}

// drive runs a fleet with everything around it that a command has: events to those who show them, signals, the exit code.
// beside, if not nil, goes on as long as the run does.
func drive(cmd *cobra.Command, opts fleet.Options, to shown, beside func(context.Context, *fleet.Fleet)) (err error) {
	observe := opts.Observe
	show := &shower{shown: to}
	opts.Observe = func(event messages.Event) {
		show.event(event)
		if observe != nil {
			observe(event)
		}
	}
	f, err := fleet.New(opts)
	if err != nil {
		return err
	}
	show.fleet = f
	defer func() {
		if cerr := f.Close(); cerr != nil {
			say(cmd.ErrOrStderr(), "clean up on this machine: %v", cerr) // the exit code is about the run
		}
	}()

	if err := to.begin(cmd.Context(), f); err != nil {
		return err
	}
	interrupted := listen(cmd.ErrOrStderr(), f)
	ctx, cancel := context.WithCancel(context.Background())
	var others sync.WaitGroup
	if beside != nil {
		others.Go(func() { beside(ctx, f) })
	}
	report, err := f.Run(context.Background())
	cancel()
	others.Wait()
	stopped := interrupted()
	if err := errors.Join(err, to.close()); err != nil {
		return err
	}
	sayNext(cmd.ErrOrStderr(), report)
	return exitCode(report, stopped)
}

// sayNext says how to go on with a run that did not get to its end everywhere.
func sayNext(stderr io.Writer, report fleet.Report) {
	is := func(o messages.Outcome) func(messages.Result) bool {
		return func(r messages.Result) bool { return r.Outcome == o }
	}
	switch {
	case slices.ContainsFunc(report.Results, is(messages.OutcomeTakenOver)): // somebody else goes on
	case report.Kept == fleet.KeptForResume:
		say(stderr, "to go on, and to clean up what is left on hosts: mgmt-remote resume %s", report.Run)
	case report.Kept == fleet.KeptForRetry:
		n := len(slices.DeleteFunc(slices.Clone(report.Results), is(messages.OutcomeSucceeded)))
		say(stderr, "again on the %s that did not succeed: mgmt-remote run --retry-failed %s", console.Plural(n, "host"), report.Run)
	}
}

// shower shows events. Where that is not possible any more (the reader of a pipe is gone), the run is ended properly
// instead of going on unseen.
type shower struct {
	shown shown
	fleet *fleet.Fleet
}

func (s *shower) event(event messages.Event) {
	if err := s.shown.print(event); err != nil { // close tells it
		s.fleet.Stop(messages.StopFinish)
	}
}

// listen turns signals into stops of growing level. The returned function ends that and reports whether there was one.
func listen(stderr io.Writer, f *fleet.Fleet) func() bool {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// Without this, a write to a pipe that nobody reads would end us with sessions left on the hosts.
	signal.Ignore(syscall.SIGPIPE)
	done, count := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-signals:
				n++
				level := min(messages.StopLevel(n), messages.StopLeave)
				say(stderr, "%s", stopText[level])
				f.Stop(level)
			case <-done:
				count <- n
				return
			}
		}
	}()
	return func() bool {
		// The signals stay caught: one more ^C while the last things are closed must not make a run that ended
		// properly look like one that was killed.
		close(done)
		return <-count > 0
	}
}

var stopText = map[messages.StopLevel]string{
	messages.StopFinish: "stopping: payloads are asked to end, then everything is cleaned up; ^C again does not wait for payloads",
	messages.StopNow:    "stopping now: payloads are killed, then everything is cleaned up; ^C again leaves that to the hosts",
	messages.StopLeave:  "leaving: the hosts end and clean up by themselves",
}

// exitCode says how the run went in one number.
func exitCode(report fleet.Report, interrupted bool) error {
	var failed, unreachable, taken int
	for _, r := range report.Results {
		switch r.Outcome {
		case messages.OutcomeSucceeded:
		case messages.OutcomeTakenOver:
			taken++
		case messages.OutcomeUnreachable:
			unreachable++
		case messages.OutcomeCanceled:
		default:
			failed++
		}
	}
	switch {
	case taken > 0:
		return exitError(exitTakenOver)
	case interrupted:
		return exitError(exitInterrupted)
	case failed > 0 || report.Exceeded != "":
		return exitError(exitFailed)
	case report.TimedOut:
		return exitError(exitTimedOut)
	case unreachable > 0:
		return exitError(exitUnreachable)
	}
	return nil
}
