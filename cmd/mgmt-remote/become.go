//go:build !engine

package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

var becomeMethods = []string{fleet.BecomeSudo, fleet.BecomeDoas}

// becomeFlags say as whom everything is run on hosts.
type becomeFlags struct {
	on           bool
	user, method string
	password     passwordFlags
	given        *pflag.FlagSet
}

func (f *becomeFlags) register(p *pflag.FlagSet) {
	f.given = p
	p.BoolVarP(&f.on, "become", "b", false, "run everything on the hosts as another user")
	p.StringVar(&f.user, "become-user", fleet.DefaultBecomeUser, "`USER` to become")
	p.StringVar(&f.method, "become-method", "", "`METHOD` to become another user: sudo or doas (default: what the host has, sudo first)")
	f.password.register(p, becomePassword)
}

func (f *becomeFlags) complete(cmd *cobra.Command) {
	f.password.complete(cmd)
	for flag, complete := range map[string]cobra.CompletionFunc{
		"become-user":   cobra.NoFileCompletions,
		"become-method": cobra.FixedCompletions(becomeMethods, cobra.ShellCompDirectiveNoFileComp),
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err) // a misspelled flag
		}
	}
}

// give says as whom a host is used: what flags say goes before inventories.
func (f *becomeFlags) give(h *fleet.Host, e *inventory.Entry) {
	on := e.Fields[inventory.Become].Text == "true"
	user, method := e.Fields[inventory.BecomeUser].Text, e.Fields[inventory.BecomeMethod].Text
	if f.changed("become") {
		on = f.on
	}
	if f.changed("become-user") {
		user = f.user
	}
	if on {
		h.BecomeUser, h.BecomeMethod = cmp.Or(user, fleet.DefaultBecomeUser), cmp.Or(f.method, method)
		h.BecomePassword = e.Fields[inventory.BecomePassword].Secret()
	}
}

func (f *becomeFlags) changed(name string) bool { return f.given != nil && f.given.Changed(name) }

// checkUse refuses flags that would do nothing.
func (f *becomeFlags) checkUse(hosts []fleet.Host) error {
	if slices.ContainsFunc(hosts, func(h fleet.Host) bool { return h.BecomeUser != "" }) {
		return nil
	}
	for _, name := range []string{"become-user", "become-method", f.password.byAsking(), f.password.byFD(), f.password.byProgram()} {
		if f.changed(name) {
			return fmt.Errorf("--%s does nothing, as no host is used as another user: add --become", name)
		}
	}
	return nil
}
