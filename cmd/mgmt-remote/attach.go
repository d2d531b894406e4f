//go:build !engine

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

func newAttachCommand() *cobra.Command {
	var output outputFlags
	var verbose int
	cmd := &cobra.Command{
		Use:   "attach [flags] [RUN]",
		Short: "Follow a run that another process drives",
		Long: `Follow a run of this machine, as if it had been begun here: what hosts do and
what their payloads write from now on, and at the end the summary and the exit
code. Without RUN it is the only one that is driven. Of a finished run whose
state was kept, the end is shown.

^C ends the following and not the run: exit code 130.`,
		Example: `  mgmt-remote run --detach site.yaml
  mgmt-remote attach
  mgmt-remote attach k3v9x0ab --json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeRuns(fleet.RunLive, fleet.RunFinished),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := chooseRun(args, fleet.RunLive)
			if err != nil {
				return err
			}
			return attach(cmd, run, output, verbose > 0)
		},
	}
	output.register(cmd.Flags())
	output.complete(cmd)
	cmd.Flags().CountVarP(&verbose, "verbose", "v", "``show states, progress and beginnings of steps, too")
	return cmd
}

func attach(cmd *cobra.Command, run string, output outputFlags, verbose bool) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	output.late = true
	to, err := output.open(cmd.OutOrStdout(), verbose)
	if err != nil {
		return err
	}
	if v := to.view(); v != nil {
		v.Steer(attachedTo{ctx, run})
	}
	var end *messages.RunFinished
	show := func(event messages.Event) error {
		if e, over := event.(messages.RunFinished); over {
			end = &e
		}
		return to.print(event)
	}
	f := fleet.Follower{Run: run, Observe: show, Missed: func() {
		say(cmd.ErrOrStderr(), "the run was faster than what shows it: some events are left out here; all output is kept in the run's directory")
	}}
	err = f.Follow(ctx)
	if errors.Is(err, fleet.ErrNoInitiator) {
		err = showEnd(run, show)
	}
	if cerr := to.close(); err == nil || cerr != nil {
		err = cerr
	}
	switch {
	case errors.Is(err, context.Canceled):
		say(cmd.ErrOrStderr(), "run %s goes on", run)
		return exitError(exitInterrupted)
	case err != nil:
		return err
	}
	return exitCode(fleet.Report{Run: end.Run, Took: end.Took, Converged: end.Converged, TimedOut: end.TimedOut, Exceeded: end.Exceeded, Results: end.Results}, false)
}

// showEnd shows how a run ended that nobody drives any more.
func showEnd(run string, show func(messages.Event) error) error {
	end, err := fleet.EndOf("", run)
	switch {
	case errors.Is(err, fleet.ErrUnfinished):
		return fmt.Errorf("the initiator of run %s is gone; `mgmt-remote resume %s` continues the run", run, run)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("run %s is over, and its state was not kept (see --keep-state)", run)
	case err != nil:
		return err
	}
	return show(end)
}

func newRetryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retry RUN [HOST]",
		Short: "Try hosts of a run again at once",
		Long: `End the waiting of a host for its next attempt to connect, or of all hosts that
wait: their network is back, and they need not wait for their turn. It does
nothing to hosts that are connected, and cannot bring back those that were given
up.`,
		Example: `  mgmt-remote retry k3v9x0ab
  mgmt-remote retry k3v9x0ab web1`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeRunsAndHosts(fleet.RunLive),
		RunE: func(cmd *cobra.Command, args []string) error {
			host := ""
			if len(args) > 1 {
				host = args[1]
			}
			err := fleet.RetryOf(cmd.Context(), "", args[0], host)
			if errors.Is(err, fleet.ErrNoInitiator) {
				return fmt.Errorf("nobody drives run %s: `mgmt-remote resume %s` does, and tries all hosts at once", args[0], args[0])
			}
			return err
		},
	}
}
