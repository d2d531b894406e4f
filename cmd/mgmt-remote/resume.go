//go:build !engine

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

func newResumeCommand() *cobra.Command {
	var tls etcdTLSFlags
	var json bool
	var verbose int
	var logFormat string
	cmd := &cobra.Command{
		Use:   "resume [flags] [RUN]",
		Short: "Continue a run whose initiator died",
		Long: `Continue a run whose initiator died, with all that "run" was told then: the same
sessions, the same data in etcd, and no payload is started twice. Without RUN it
is the only run that was interrupted.

Passwords are asked for again, and the files for TLS to an etcd of your own are
named again: no secret is kept. Changes of definition files are not followed any
more; the hosts have the newest definition that the run knew.

Interrupts and exit codes are those of "run". A run that another process drives
is not touched: exit code 1.`,
		Example: `  mgmt-remote resume
  mgmt-remote resume k3v9x0ab --json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeRuns(fleet.RunInterrupted),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := interruptedRun(args)
			if err != nil {
				return err
			}
			opts, err := fleet.Saved("", run)
			if err != nil {
				return err
			}
			if opts.Logger, err = newLogger(logFormat, verbose); err != nil {
				return err
			}
			if opts.EtcdTLS, err = tls.config(len(opts.EtcdEndpoints) > 0); err != nil {
				return err
			}
			if agent := os.Getenv("SSH_AUTH_SOCK"); agent != "" {
				opts.SSH.AgentSocket = agent // that of the first initiator may have ended with its login
			}
			if canAsk() {
				opts.SSH.Prompter = sshconn.NewTerminalPrompter()
			}
			return drive(cmd, opts, newPrinter(cmd.OutOrStdout(), json, verbose > 0), nil)
		},
	}
	p := cmd.Flags()
	p.BoolVar(&json, "json", false, "one JSON event per line on stdout (docs/events.md)")
	p.CountVarP(&verbose, "verbose", "v", "``say more; twice: log everything")
	p.StringVar(&logFormat, "log-format", "text", "`FORMAT` of the log on stderr: text or json")
	tls.register(p)
	return cmd
}

// interruptedRun is the run that is named, or the only interrupted one.
func interruptedRun(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	runs, err := fleet.Runs("")
	if err != nil {
		return "", err
	}
	runs = slices.DeleteFunc(runs, func(r fleet.SavedRun) bool { return r.State != fleet.RunInterrupted })
	switch len(runs) {
	case 0:
		return "", errors.New("no run was interrupted; `mgmt-remote runs` shows those that there are")
	case 1:
		return runs[0].ID, nil
	}
	ids := make([]string, len(runs))
	for i, r := range runs {
		ids[i] = r.ID
	}
	return "", fmt.Errorf("several runs were interrupted, name one: %s", strings.Join(ids, ", "))
}

// completeRuns completes the IDs of runs in one of the states.
func completeRuns(states ...fleet.RunState) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var ids []cobra.Completion
		runs, _ := fleet.Runs("") // what can't be read is not offered
		for _, r := range runs {
			if len(args) == 0 && slices.Contains(states, r.State) {
				ids = append(ids, cobra.CompletionWithDesc(r.ID, fmt.Sprintf("%s, %d hosts", r.State, len(r.Hosts))))
			}
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}
