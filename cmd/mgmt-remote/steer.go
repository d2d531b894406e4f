//go:build !engine

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
)

func newPauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pause RUN",
		Short: "Begin no more hosts of a run",
		Long: `Have a run begin no more hosts until "continue" is said. Hosts that are in work
go on, and are tried again where their connection is lost.`,
		Example:           `  mgmt-remote pause k3v9x0ab`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRuns(fleet.RunLive),
		RunE: func(cmd *cobra.Command, args []string) error {
			return steered(args[0], fleet.PauseOf(cmd.Context(), "", args[0]))
		},
	}
}

func newContinueCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "continue RUN",
		Short:             "Begin hosts of a paused run again",
		Long:              `Have a run that was paused begin hosts again.`,
		Example:           `  mgmt-remote continue k3v9x0ab`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRuns(fleet.RunLive),
		RunE: func(cmd *cobra.Command, args []string) error {
			return steered(args[0], fleet.ContinueOf(cmd.Context(), "", args[0]))
		},
	}
}

func newScaleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "scale RUN N",
		Short: "Change how many hosts of a run are in work at the same time",
		Long: `Change what --max-connections said: work on N hosts at the same time, 0 = all.
With more than before, hosts begin at once. With fewer no host is disturbed:
none begins until there are fewer than N in work.`,
		Example: `  mgmt-remote scale k3v9x0ab 50
  mgmt-remote scale k3v9x0ab 0`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeRuns(fleet.RunLive),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 {
				return fmt.Errorf("%q is no number of hosts: use 0 (all) or more", args[1])
			}
			return steered(args[0], fleet.SetMaxConnectionsOf(cmd.Context(), "", args[0], n))
		},
	}
}

func newDropCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "drop RUN HOST…",
		Short: "Take hosts out of a run",
		Long: `End the payloads of hosts properly, clean up there, and take them out of the
run, which goes on with the others. Hosts that have not begun never will. Their
result is "canceled", which no exit code tells of. HOST may be many: web[1-20].`,
		Example: `  mgmt-remote drop k3v9x0ab web7
  mgmt-remote drop k3v9x0ab 'web[7-9]'`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: completeRunsAndHosts(fleet.RunLive),
		RunE: func(cmd *cobra.Command, args []string) error {
			return dropHosts(cmd.Context(), args[0], args[1:])
		},
	}
}

// dropHosts takes hosts out of a run, all or none of them.
func dropHosts(ctx context.Context, run string, exprs []string) error {
	s, err := fleet.StatusOf(ctx, "", run)
	if err != nil {
		return err
	}
	var names []string
	for _, expr := range exprs {
		set, err := nodeset.Parse(expr)
		if err != nil {
			return err
		}
		names = append(names, set...)
	}
	known := make(map[string]bool, len(s.Hosts))
	for _, h := range s.Hosts {
		known[h.Host] = true
	}
	unknown := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return known[name] })
	if len(unknown) > 0 {
		return fmt.Errorf("run %s has no host %s; nothing was done", run, nodeset.Fold(unknown))
	}
	for _, name := range names {
		if err := steered(run, fleet.RemoveOf(ctx, "", run, name)); err != nil {
			return err
		}
	}
	return nil
}

// steered says what to do where nobody could be asked.
func steered(run string, err error) error {
	if errors.Is(err, fleet.ErrNoInitiator) {
		return fmt.Errorf("nobody drives run %s: `mgmt-remote resume %s` does, if it is not finished", run, run)
	}
	return err
}

// steeredText says what is held back in a run; "" for nothing.
func steeredText(s fleet.Status) string {
	var parts []string
	if s.Waves > 0 {
		parts = append(parts, fmt.Sprintf("wave %d of %d", s.Wave, s.Waves))
	}
	if s.Exceeded != "" {
		parts = append(parts, s.Exceeded+": no more hosts begin")
	}
	if s.Paused {
		parts = append(parts, "paused: no more hosts begin until `mgmt-remote continue "+s.Run+"`")
	}
	if s.MaxConnections > 0 {
		parts = append(parts, fmt.Sprintf("at most %d in work at the same time", s.MaxConnections))
	}
	return strings.Join(parts, ", ")
}
