//go:build !engine

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// changes are what flags change of the run that --retry-failed repeats. Flags that are in none of these lists say things of a run that
// go together with others, which are not on the command line.
var changes = map[string]func(to *fleet.Options, from fleet.Options){
	"prefix":          func(*fleet.Options, fleet.Options) {}, // changeHosts
	"limit":           func(*fleet.Options, fleet.Options) {}, // the same
	"env":             func(to *fleet.Options, from fleet.Options) { to.Payload.Env = from.Payload.Env },
	"noop":            func(to *fleet.Options, from fleet.Options) { to.Payload.Noop = from.Payload.Noop },
	"endpoint":        func(to *fleet.Options, from fleet.Options) { to.Payload.TCP = from.Payload.TCP },
	"restart":         func(to *fleet.Options, from fleet.Options) { to.Payload.Restart = from.Payload.Restart },
	"on-reboot":       func(to *fleet.Options, from fleet.Options) { to.OnReboot = from.OnReboot },
	"no-cache":        func(to *fleet.Options, from fleet.Options) { to.NoCache = from.NoCache },
	"identity":        func(to *fleet.Options, from fleet.Options) { to.SSH.Identities = from.SSH.Identities },
	"host-key":        func(to *fleet.Options, from fleet.Options) { to.SSH.HostKeys = from.SSH.HostKeys },
	"known-hosts":     func(to *fleet.Options, from fleet.Options) { to.SSH.KnownHosts = from.SSH.KnownHosts },
	"ask-pass":        func(to *fleet.Options, from fleet.Options) { to.SSH.AskPassword = from.SSH.AskPassword },
	"interactive":     func(to *fleet.Options, from fleet.Options) { to.SSH.Interactive = from.SSH.Interactive },
	"connect-timeout": func(to *fleet.Options, from fleet.Options) { to.SSH.ConnectTimeout = from.SSH.ConnectTimeout },
	"retry-for":       func(to *fleet.Options, from fleet.Options) { to.RetryFor, to.Stay = from.RetryFor, false },
	"max-connections": func(to *fleet.Options, from fleet.Options) { to.MaxConnections = from.MaxConnections },
	"max-handshakes":  func(to *fleet.Options, from fleet.Options) { to.MaxHandshakes = from.MaxHandshakes },
	"max-uploads":     func(to *fleet.Options, from fleet.Options) { to.MaxUploads = from.MaxUploads },
	"converge":        func(to *fleet.Options, from fleet.Options) { to.Converge = from.Converge },
	"max-runtime":     func(to *fleet.Options, from fleet.Options) { to.MaxRuntime = from.MaxRuntime },
	"orphan-timeout":  func(to *fleet.Options, from fleet.Options) { to.OrphanTimeout = from.OrphanTimeout },
	"keep-state":      func(to *fleet.Options, from fleet.Options) { to.KeepState = from.KeepState },
	"converged-timeout": func(to *fleet.Options, from fleet.Options) {
		if to.ConvergedTimeout = from.ConvergedTimeout; to.ConvergedTimeout == 0 {
			to.ConvergedTimeout = time.Nanosecond // at once
		}
	},
}

// besides are flags that say how the command goes on, or bring what is never kept.
var besides = []string{
	"retry-failed", "dry-run", "detach", "payload", "binary", "var", "no-watch", "output", "json", "diff", "color", "log-dir", "report", "verbose", "log-format",
	"etcd-cacert", "etcd-cert", "etcd-key", "password-fd", "password-command", "ask-become-pass", "become-password-fd", "become-password-command",
}

// runAgain is run --retry-failed: hosts and all that is not said again are those of an earlier run.
func runAgain(cmd *cobra.Command, f *runFlags, show shown, files, command []string) error {
	from, err := f.options()
	if err != nil {
		return err
	}
	opts, err := fleet.RetryFailed("", f.retryFailed)
	if err != nil {
		return fmt.Errorf("--retry-failed: %w", err)
	}
	waves := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(rolloutFlags).register(waves)
	newWaves := false
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		change, changes := changes[flag.Name]
		switch {
		case len(flag.Annotations[originKey]) > 0: // of a file of settings, which the run had when it was begun
		case changes:
			change(&opts, from)
		case waves.Lookup(flag.Name) != nil:
			newWaves = true
		case !slices.Contains(besides, flag.Name):
			err = errors.Join(err, fmt.Errorf("--%s is not changed by --retry-failed: the hosts and the ways to them are those of run %s", flag.Name, f.retryFailed))
		}
	})
	if err != nil {
		return err
	}
	if err := errors.Join(f.password.noGroups(), f.become.password.noGroups()); err != nil {
		return err
	}
	if f.detach && !cmd.Flags().Changed("orphan-timeout") {
		opts.OrphanTimeout = fleet.StayOrphanTimeout
	}
	opts.Logger, opts.SSH.Prompter, opts.SSH.AgentSocket = from.Logger, from.SSH.Prompter, os.Getenv("SSH_AUTH_SOCK")
	if opts.EtcdTLS, err = f.etcdTLS.config(len(opts.EtcdEndpoints) > 0); err != nil {
		return err
	}
	bring(&opts, from.SSH.Password, from.Become.Password)
	opts.Become.AskPassword = opts.Become.AskPassword || from.Become.AskPassword
	if err := f.changeHosts(&opts); err != nil {
		return err
	}
	sources, err := f.changePayload(&opts, from, files, command)
	if err != nil {
		return err
	}
	if newWaves {
		if err := f.rollout.apply(&opts, nil); err != nil {
			return err
		}
	}
	var beside func(context.Context, *fleet.Fleet)
	switch {
	case f.noWatch:
	case len(sources) > 0:
		follower, err := newFollower(cmd.ErrOrStderr(), opts.Hosts, sources)
		if err != nil {
			return err
		}
		beside = follower.run
	default:
		follower, err := followSaved(cmd.ErrOrStderr(), opts.Hosts)
		if err != nil {
			return err
		}
		beside = follower.run
	}
	return f.begin(cmd, opts, show, beside)
}

// changeHosts leaves those that --limit selects, with the --prefix that is given.
func (f *runFlags) changeHosts(opts *fleet.Options) error {
	if f.prefix != "" {
		for i := range opts.Hosts {
			opts.Hosts[i].Prefix = f.prefix
		}
	}
	if f.hosts.limit == "" {
		return nil
	}
	selected, err := (&inventory.Inventory{Entries: entriesOf(opts.Hosts)}).Select(f.hosts.limit)
	if err != nil {
		return fmt.Errorf("--limit, of the hosts that did not succeed: %w", err)
	}
	meant := make(map[string]bool, len(selected))
	for _, e := range selected {
		meant[e.Host.Name] = true
	}
	left := func(name string) bool { return !meant[name] }
	opts.Hosts = slices.DeleteFunc(opts.Hosts, func(h fleet.Host) bool { return left(h.Name) })
	opts.Rollout.Canary = slices.DeleteFunc(opts.Rollout.Canary, left)
	if len(opts.Hosts) == 0 {
		return fmt.Errorf("--limit %q: no host is left", f.hosts.limit)
	}
	return nil
}

// changePayload has the hosts run something else, where that is named. The ways to them stay.
func (f *runFlags) changePayload(opts *fleet.Options, from fleet.Options, files, command []string) ([]*source, error) {
	if len(files) == 0 && len(command) == 0 {
		if len(f.vars) > 0 || f.payload != "" || f.binary != "" {
			return nil, errors.New("--var, --payload and --binary go with a definition, a command or code, which --retry-failed takes as they were: name them again")
		}
		return nil, nil
	}
	before := opts.Hosts
	next := from
	sources, err := f.choose(&next, entriesOf(before), files, command)
	if err != nil {
		return nil, err
	}
	opts.Payload = next.Payload
	opts.Hosts = make([]fleet.Host, len(before))
	for i, h := range before {
		n := next.Hosts[i]
		h.Definition, h.File, h.Vars, h.Follow = n.Definition, n.File, n.Vars, n.Follow
		opts.Hosts[i] = h
	}
	return sources, nil
}

// entriesOf are hosts of a run as an inventory would have named them.
func entriesOf(hosts []fleet.Host) []*inventory.Entry {
	entries := make([]*inventory.Entry, len(hosts))
	for i, h := range hosts {
		e := &inventory.Entry{Host: inventory.Host{Name: h.Name, Addr: h.Addr, Port: h.Port, User: h.User, Prefix: h.Prefix}, Vars: map[string]inventory.Value{}}
		for key, value := range h.Vars {
			e.Vars[key] = inventory.Value{Text: value}
		}
		entries[i] = e
	}
	return entries
}
