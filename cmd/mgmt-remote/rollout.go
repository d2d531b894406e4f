//go:build !engine

package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// The values of --on-exceeded.
const (
	exceededFinish = "finish"
	exceededStop   = "stop"
)

// rolloutFlags are the flags that say in which order hosts begin, and when no more do.
type rolloutFlags struct {
	serial, canary string
	pauseBetween   seconds
	confirm        bool

	maxFailures, maxUnreachable           amount
	maxFailuresTotal, maxUnreachableTotal amount
	onExceeded                            string

	maxHandshakes, maxUploads int
}

// amount is a flag value for a bound; nil = none.
type amount struct{ *fleet.Amount }

func (a *amount) String() string {
	if a.Amount == nil {
		return ""
	}
	return a.Amount.String()
}

// Type is what the help calls the value.
func (a *amount) Type() string { return "N|N%" }

func (a *amount) Set(text string) error {
	parsed, err := fleet.ParseAmount(text)
	a.Amount = &parsed
	return err
}

func (f *rolloutFlags) register(p *pflag.FlagSet) {
	p.StringVar(&f.serial, "serial", "", "begin hosts in waves of `N`, N% of all, or growing ones as 1,10%,100%; the last size repeats")
	p.StringVar(&f.canary, "canary", "", "before all others a wave of the first N hosts, or of those that `N|EXPR` selects (as --limit does); unless told otherwise it tolerates no failure")
	p.Var(&f.pauseBetween, "pause-between", "wait for `TIME` between waves")
	p.BoolVar(&f.confirm, "confirm", false, "ask before each next wave; without a terminal the run is paused until \"continue\"")
	p.Var(&f.maxFailures, "max-failures", "begin no more hosts when more than `N|N%` of a wave failed (without waves: of all)")
	p.Var(&f.maxUnreachable, "max-unreachable", "the same for hosts that are unreachable: more than `N|N%` of a wave")
	p.Var(&f.maxFailuresTotal, "max-failures-total", "begin no more hosts when more than `N|N%` of all failed")
	p.Var(&f.maxUnreachableTotal, "max-unreachable-total", "the same for hosts that are unreachable: more than `N|N%` of all")
	p.StringVar(&f.onExceeded, "on-exceeded", exceededFinish, "`WHAT` becomes of hosts in work then: finish, or stop (their payloads are ended properly)")
	p.Lookup("pause-between").DefValue = ""
}

// registerBounds adds the flags that bound what is in flight at the same time.
func (f *rolloutFlags) registerBounds(p *pflag.FlagSet) {
	p.IntVar(&f.maxHandshakes, "max-handshakes", fleet.DefaultHandshakes, fmt.Sprintf("log in to `N` hosts at the same time, %d of them through one jump host", fleet.DefaultJumping))
	p.IntVar(&f.maxUploads, "max-uploads", fleet.DefaultUploads, "copy to `N` hosts at the same time")
}

// complete says how values are completed.
func (f *rolloutFlags) complete(cmd *cobra.Command) {
	for _, name := range []string{"serial", "canary", "pause-between", "max-failures", "max-unreachable", "max-failures-total", "max-unreachable-total", "max-handshakes", "max-uploads"} {
		completeWith(cmd, name, cobra.NoFileCompletions)
	}
	completeWith(cmd, "on-exceeded", cobra.FixedCompletions([]cobra.Completion{
		cobra.CompletionWithDesc(exceededFinish, "hosts in work go on to their end"),
		cobra.CompletionWithDesc(exceededStop, "payloads of hosts in work are ended properly"),
	}, cobra.ShellCompDirectiveNoFileComp))
}

func completeWith(cmd *cobra.Command, flag string, values cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, values); err != nil {
		panic(err) // there is no such flag: a mistake in the caller
	}
}

// apply completes the options of a run whose hosts are known. entries say what --canary can select; there are none where files say
// which hosts they are for.
func (f *rolloutFlags) apply(opts *fleet.Options, entries []*inventory.Entry) error {
	if f.onExceeded != "" && !slices.Contains([]string{exceededFinish, exceededStop}, f.onExceeded) {
		return fmt.Errorf("--on-exceeded %q: use finish or stop", f.onExceeded)
	}
	if f.maxHandshakes < 0 || f.maxUploads < 0 {
		return errors.New("--max-handshakes and --max-uploads: use 1 or more, or 0 for the default")
	}
	opts.MaxHandshakes, opts.MaxUploads = f.maxHandshakes, f.maxUploads
	r := fleet.Rollout{
		PauseBetween: time.Duration(f.pauseBetween), Confirm: f.confirm, StopOnExceeded: f.onExceeded == exceededStop,
		MaxFailures: f.maxFailures.Amount, MaxUnreachable: f.maxUnreachable.Amount,
		MaxFailuresTotal: f.maxFailuresTotal.Amount, MaxUnreachableTotal: f.maxUnreachableTotal.Amount,
	}
	var err error
	if f.serial != "" {
		if r.Serial, err = fleet.ParseAmounts(f.serial); err != nil {
			return fmt.Errorf("--serial: %w", err)
		}
	}
	if f.canary != "" {
		if r.Canary, err = f.canaries(opts.Hosts, entries); err != nil {
			return fmt.Errorf("--canary: %w", err)
		}
	}
	if waves := f.serial != "" || f.canary != ""; !waves && (f.confirm || f.pauseBetween > 0) {
		return errors.New("--confirm and --pause-between are for what is between waves: give --serial or --canary, too")
	}
	opts.Rollout = r
	return nil
}

// canaries are the first hosts, or those that are selected.
func (f *rolloutFlags) canaries(hosts []fleet.Host, entries []*inventory.Entry) ([]string, error) {
	if n, err := strconv.Atoi(f.canary); err == nil {
		if n < 1 {
			return nil, fmt.Errorf("%d hosts are no wave: use 1 or more", n)
		}
		var names []string
		for _, h := range hosts[:min(n, len(hosts))] {
			names = append(names, h.Name)
		}
		return names, nil
	}
	if len(entries) == 0 {
		for _, h := range hosts {
			entries = append(entries, &inventory.Entry{Host: inventory.Host{Name: h.Name}})
		}
	}
	selected, err := (&inventory.Inventory{Entries: entries}).Select(f.canary)
	if err != nil {
		return nil, err
	}
	if len(selected) == 0 {
		return nil, fmt.Errorf("%q selects no host of this run", f.canary)
	}
	return inventory.Names(selected), nil
}
