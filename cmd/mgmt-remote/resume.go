//go:build !engine

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// resumeFlags are the flags of resume, as given.
type resumeFlags struct {
	all, takeOver, detach bool
	tls                   etcdTLSFlags
	become                passwordFlags
	password              secretFlags
	output                outputFlags
	verbose               int
	logFormat             string
}

func newResumeCommand() *cobra.Command {
	var f resumeFlags
	cmd := &cobra.Command{
		Use:   "resume [flags] [RUN]",
		Short: "Continue a run whose initiator died",
		Long: `Continue a run whose initiator died, with all that "run" was told then: the same
sessions, the same data in etcd, and no payload is started twice. Without RUN it
is the only run that was interrupted; with --all all of them are continued, each
in the background.

Passwords are asked for again, and the files for TLS to an etcd of your own are
named again: no secret is kept. Definition files are followed as before, and
what was saved to them meanwhile goes to the hosts.

A run that another process drives is not touched: exit code 1. With --take-over
that process is told to leave, which it does with exit code 5, and the run goes
on here. So it does where the run's directory was copied from another machine:
hosts then refuse the other initiator, which leaves, too. What it wrote to its
etcd after the copy was made is lost, and so are sessions begun after that.

Interrupts and exit codes are those of "run".`,
		Example: `  mgmt-remote resume
  mgmt-remote resume k3v9x0ab --json
  mgmt-remote resume --all
  mgmt-remote resume --take-over k3v9x0ab`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeRuns(fleet.RunInterrupted),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.all {
				if len(args) > 0 {
					return errors.New("name a run, or use --all")
				}
				return resumeAll(cmd)
			}
			states := []fleet.RunState{fleet.RunInterrupted}
			if f.takeOver {
				states = append(states, fleet.RunLive)
			}
			run, err := chooseRun(args, states...)
			if err != nil {
				return err
			}
			return resume(cmd, run, f, messages.StopNone)
		},
	}
	p := cmd.Flags()
	p.BoolVar(&f.all, "all", false, "continue all interrupted runs, each in the background")
	p.BoolVar(&f.takeOver, "take-over", false, "have another initiator leave the run, here or on the machine from which its directory was copied")
	p.BoolVar(&f.detach, "detach", false, "go on in the background, as with run")
	f.registerCommon(p)
	f.output.registerFiles(p)
	cmd.MarkFlagsMutuallyExclusive("all", "take-over")
	for _, flag := range []string{"json", "output"} {
		cmd.MarkFlagsMutuallyExclusive("all", flag)
		cmd.MarkFlagsMutuallyExclusive("detach", flag)
	}
	for _, flag := range []string{"log-dir", "report"} { // each run would write to the same files
		cmd.MarkFlagsMutuallyExclusive("all", flag)
	}
	f.output.complete(cmd)
	f.complete(cmd)
	cmd.MarkFlagsMutuallyExclusive("all", "become-password-fd") // it can be read once
	cmd.MarkFlagsMutuallyExclusive("all", "password-fd")
	return cmd
}

// registerCommon adds the flags that whoever continues a run needs.
func (f *resumeFlags) registerCommon(p *pflag.FlagSet) {
	f.output.register(p)
	p.CountVarP(&f.verbose, "verbose", "v", "``say more; twice: log everything")
	p.StringVar(&f.logFormat, "log-format", "text", "`FORMAT` of the log on stderr: text or json")
	f.tls.register(p)
	f.become.register(p, becomePassword)
	p.Lookup(f.become.byAsking()).Usage = "ask once for " + f.become.what() + ", for all hosts; ``groups are those of the run"
	f.password.register(p, loginPassword)
}

func (f *resumeFlags) complete(cmd *cobra.Command) {
	f.become.complete(cmd)
	f.password.complete(cmd)
}

// resume continues a run, or continues it only to stop it.
func resume(cmd *cobra.Command, run string, f resumeFlags, stop messages.StopLevel) error {
	f.output.late = true
	show, err := f.output.open(cmd.OutOrStdout(), f.verbose > 0)
	if err != nil {
		return err
	}
	opts, err := fleet.Saved("", run)
	if err != nil {
		return err
	}
	opts.TakeOver = f.takeOver
	if opts.Logger, err = newLogger(f.logFormat, f.verbose); err != nil {
		return err
	}
	if err := f.passwords(&opts); err != nil {
		return err
	}
	if opts.EtcdTLS, err = f.tls.config(len(opts.EtcdEndpoints) > 0); err != nil {
		return err
	}
	if agent := os.Getenv("SSH_AUTH_SOCK"); agent != "" {
		opts.SSH.AgentSocket = agent // that of the first initiator may have ended with its login
	}
	if canAsk() {
		opts.SSH.Prompter = sshconn.NewTerminalPrompter()
	}
	var beside func(context.Context, *fleet.Fleet)
	if stop != messages.StopNone {
		beside = func(_ context.Context, f *fleet.Fleet) { f.Stop(stop) }
	} else {
		follower, err := followSaved(cmd.ErrOrStderr(), opts.Hosts)
		if err != nil {
			return err
		}
		beside = follower.run
	}
	if f.detach {
		return detach(cmd, opts, show.files(), beside)
	}
	opts.SSH.Prompter = show.asking(opts.SSH.Prompter)
	return drive(cmd, opts, show, beside)
}

// passwords has them come from where it is said now. Else a person is asked where there were some.
func (f *resumeFlags) passwords(opts *fleet.Options) error {
	if err := f.become.noGroups(); err != nil {
		return err
	}
	ask, become, err := f.become.options(f.detach)
	if err != nil {
		return err
	}
	opts.Become.AskPassword = opts.Become.AskPassword || ask
	login, err := f.password.options(f.detach)
	if err != nil {
		return err
	}
	bring(opts, login, become)
	return nil
}

// bring takes passwords, where there are some, in place of those that a person would be asked for.
func bring(opts *fleet.Options, login, become passwordSource) {
	if login != nil {
		opts.SSH.Password, opts.SSH.AskPassword = login, false
	}
	if become != nil {
		opts.Become = fleet.Become{Password: become}
	}
	for i := range opts.Hosts {
		if login != nil {
			opts.Hosts[i].Shared = ""
		}
		if become != nil {
			opts.Hosts[i].BecomeShared = ""
		}
	}
}

// resumeAll continues every interrupted run in a process of its own. One that can't be continued does not keep the others.
func resumeAll(cmd *cobra.Command) error {
	runs, err := fleet.Runs("")
	if err != nil {
		say(cmd.ErrOrStderr(), "warning: %v", err)
	}
	args := []string{"resume", "--detach"}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "all" && f.Name != "detach" {
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	var failed []string
	for _, r := range runs {
		if r.State != fleet.RunInterrupted {
			continue
		}
		run, err := background(cmd, append(args, r.ID))
		if err == nil {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), run)
		}
		if err != nil {
			failed = append(failed, r.ID)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("not continued: %s", strings.Join(failed, ", "))
	}
	return nil
}

// chooseRun is the run that is named, or the only one in one of the states.
func chooseRun(args []string, states ...fleet.RunState) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	runs, err := fleet.Runs("")
	if err != nil {
		return "", err
	}
	runs = slices.DeleteFunc(runs, func(r fleet.SavedRun) bool { return !slices.Contains(states, r.State) })
	words := make([]string, len(states))
	for i, s := range states {
		words[i] = string(s)
	}
	switch len(runs) {
	case 0:
		return "", fmt.Errorf("no run is %s; `mgmt-remote runs` shows those that there are", strings.Join(words, " or "))
	case 1:
		return runs[0].ID, nil
	}
	ids := make([]string, len(runs))
	for i, r := range runs {
		ids[i] = r.ID
	}
	return "", fmt.Errorf("several runs are %s, name one: %s", strings.Join(words, " or "), strings.Join(ids, ", "))
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
