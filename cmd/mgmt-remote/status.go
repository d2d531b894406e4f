//go:build !engine

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

func newStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [flags] [RUN]",
		Short: "Show how a run stands",
		Long: `Show how a run of this machine stands, host by host. Its initiator is asked;
where that is gone, what it had kept is shown. Without RUN it is the only one
that is not finished.`,
		Example: `  mgmt-remote status
  mgmt-remote status k3v9x0ab --json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeRuns(fleet.RunLive, fleet.RunInterrupted, fleet.RunFinished),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := chooseRun(args, fleet.RunLive, fleet.RunInterrupted)
			if err != nil {
				return err
			}
			s, err := fleet.StatusOf(cmd.Context(), "", run)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintf(w, "%s: %s, %s\n", s.Run, s.State, s.Owner) // Flush tells
			if text := steeredText(s); text != "" {
				_, _ = fmt.Fprintln(w, text)
			}
			for _, h := range s.Hosts {
				state := h.State
				if h.Result != nil {
					state = h.Result.Outcome.String()
				} else if state == "" {
					state = "not done"
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\n", h.Host, state)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object")
	return cmd
}

func newStopCommand() *cobra.Command {
	var now, leave bool
	var f resumeFlags
	cmd := &cobra.Command{
		Use:   "stop [flags] RUN",
		Short: "Stop a run that another process drives, or none",
		Long: `Ask the initiator of a run to stop, as ^C does, and do not wait for it ("attach"
does). Without a flag the payloads end properly and everything is cleaned up.

A run whose initiator died is continued here only to be stopped, with what
"resume" asks for; that is waited for.`,
		Example: `  mgmt-remote stop k3v9x0ab
  mgmt-remote stop k3v9x0ab --now`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRuns(fleet.RunLive),
		RunE: func(cmd *cobra.Command, args []string) error {
			level := messages.StopFinish
			switch {
			case leave:
				level = messages.StopLeave
			case now:
				level = messages.StopNow
			}
			err := fleet.StopOf(cmd.Context(), "", args[0], level)
			if errors.Is(err, fleet.ErrNoInitiator) {
				return stopInterrupted(cmd, args[0], f, level)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "do not wait for payloads, but clean up: as the second ^C")
	cmd.Flags().BoolVar(&leave, "leave", false, "the hosts end and clean up by themselves: as the third ^C")
	cmd.MarkFlagsMutuallyExclusive("now", "leave")
	f.registerCommon(cmd.Flags())
	f.output.complete(cmd)
	f.complete(cmd)
	return cmd
}

// stopInterrupted stops a run that nobody drives, where that is needed.
func stopInterrupted(cmd *cobra.Command, run string, f resumeFlags, level messages.StopLevel) error {
	s, err := fleet.StatusOf(cmd.Context(), "", run)
	if err != nil {
		return err
	}
	if s.State == fleet.RunFinished {
		return fmt.Errorf("run %s is finished: there is nothing to stop", run)
	}
	return resume(cmd, run, f, level)
}
