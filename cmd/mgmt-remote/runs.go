//go:build !engine

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/fleet"
)

func newRunsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List the runs of this machine",
		Long: `List the runs that this machine knows, the newest first: those that are driven
right now, those whose initiator died ("resume" continues them), and finished
ones whose state was kept.`,
		Example: `  mgmt-remote runs
  mgmt-remote runs --json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			runs, err := fleet.Runs("")
			if err != nil {
				say(cmd.ErrOrStderr(), "warning: %v", err)
			}
			if asJSON {
				out := json.NewEncoder(cmd.OutOrStdout())
				for _, r := range runs {
					if err := out.Encode(r); err != nil {
						return err
					}
				}
				return nil
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "RUN\tBEGAN\tSTATE\tDONE\tINITIATOR") // Flush tells
			for _, r := range runs {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%s\n", r.ID, r.Began.Format(time.DateTime), r.State, len(r.Results), len(r.Hosts), r.Owner)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per run and line")
	cmd.AddCommand(newPruneCommand())
	return cmd
}

func newPruneCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what was kept of runs",
		Long: `Remove state and output of finished runs from this machine. With --all,
interrupted ones go as well: what they left on hosts ends by itself after the
orphan timeout, and nobody can continue it any more.`,
		Example: `  mgmt-remote runs prune
  mgmt-remote runs prune --all`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			runs, err := fleet.Runs("")
			errs := []error{err}
			for _, r := range runs {
				if r.State == fleet.RunLive || r.State == fleet.RunInterrupted && !all {
					continue
				}
				if n := len(r.Hosts) - len(r.Results); n > 0 {
					say(cmd.ErrOrStderr(), "run %s: on %d of %d hosts a session may be left; it ends by itself after its orphan timeout", r.ID, n, len(r.Hosts))
				}
				if err := fleet.Forget("", r.ID); err != nil {
					errs = append(errs, err)
					continue
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "removed", r.ID)
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "interrupted runs, too")
	return cmd
}
