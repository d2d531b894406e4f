//go:build !engine

package main

import (
	"cmp"
	"context"
	"errors"
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
	secret       becomeSecretFlags
	given        *pflag.FlagSet
}

// becomeSecretFlags say where the password for that comes from. The value is never a flag: others can see those.
type becomeSecretFlags struct {
	ask     bool
	fd      int
	program string
	given   *pflag.FlagSet
}

func (f *becomeFlags) register(p *pflag.FlagSet) {
	f.given = p
	p.BoolVarP(&f.on, "become", "b", false, "run everything on the hosts as another user")
	p.StringVar(&f.user, "become-user", fleet.DefaultBecomeUser, "`USER` to become")
	p.StringVar(&f.method, "become-method", "", "`METHOD` to become another user: sudo or doas (default: what the host has, sudo first)")
	f.secret.register(p)
}

func (f *becomeSecretFlags) register(p *pflag.FlagSet) {
	f.given = p
	p.BoolVar(&f.ask, "ask-become-pass", false, "ask once for the password that sudo wants, for all hosts")
	p.IntVar(&f.fd, "become-password-fd", -1, "read the password that sudo wants from file descriptor `N`")
	p.StringVar(&f.program, "become-password-command", "", "the password that sudo wants is the first line that the shell command `CMD` writes")
	p.Lookup("become-password-fd").DefValue = "0" // which no help shows: there is no default
}

func (f *becomeSecretFlags) complete(cmd *cobra.Command) {
	cmd.MarkFlagsMutuallyExclusive("ask-become-pass", "become-password-fd", "become-password-command")
}

func (f *becomeFlags) complete(cmd *cobra.Command) {
	f.secret.complete(cmd)
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
	}
}

func (f *becomeFlags) changed(name string) bool { return f.given != nil && f.given.Changed(name) }

// checkUse refuses flags that would do nothing.
func (f *becomeFlags) checkUse(hosts []fleet.Host) error {
	if slices.ContainsFunc(hosts, func(h fleet.Host) bool { return h.BecomeUser != "" }) {
		return nil
	}
	for _, name := range []string{"become-user", "become-method", "ask-become-pass", "become-password-fd", "become-password-command"} {
		if f.changed(name) {
			return fmt.Errorf("--%s does nothing, as no host is used as another user: add --become", name)
		}
	}
	return nil
}

// options says where the password comes from; none is not an error.
func (f *becomeSecretFlags) options(detach bool) (fleet.Become, error) {
	switch {
	case f.program != "":
		return fleet.Become{Password: f.run}, nil
	case f.given == nil || !f.given.Changed("become-password-fd"):
		return fleet.Become{AskPassword: f.ask}, nil
	case f.fd < 0:
		return fleet.Become{}, fmt.Errorf("--become-password-fd %d: use the number of a descriptor that is open for reading", f.fd)
	case detach && f.fd != 0:
		return fleet.Become{}, errors.New("--become-password-fd: what goes on in the background has standard input only (0); use --become-password-command or --ask-become-pass")
	}
	return fleet.Become{Password: f.read}, nil
}

func (f *becomeSecretFlags) read(context.Context) (fleet.Secret, error) {
	return readSecret("--become-password-fd", f.fd)
}

func (f *becomeSecretFlags) run(ctx context.Context) (fleet.Secret, error) {
	return runForSecret(ctx, "--become-password-command", f.program)
}
