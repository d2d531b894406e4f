//go:build !engine

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/template"

	"al.essio.dev/pkg/shellescape"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// askFlag is --ask-pass, which takes groups if it likes.
type askFlag []string

func (f *askFlag) String() string { return strings.Join(*f, ",") }
func (f *askFlag) Type() string   { return "group" }

// Set adds a group; without one it is all hosts. As it was a switch once and may be one in a file, true is all hosts and false none.
func (f *askFlag) Set(group string) error {
	switch group {
	case "":
		return errors.New("name a group, or leave out the =")
	case "false":
		*f = nil
		return nil
	case "true":
		group = inventory.All
	}
	*f = append(*f, group)
	return nil
}

// Append, Replace and GetSlice make it a pflag.SliceValue, which may be a list in a file.
func (f *askFlag) Append(group string) error { return f.Set(group) }

// Replace takes groups instead of those that there are.
func (f *askFlag) Replace(groups []string) error {
	*f = nil
	for _, group := range groups {
		if err := f.Set(group); err != nil {
			return err
		}
	}
	return nil
}

// GetSlice are the groups.
func (f *askFlag) GetSlice() []string { return *f }

// all reports whether the question is about all hosts.
func (f *askFlag) all() bool { return slices.Contains(*f, inventory.All) }

// give says which hosts share a password that is asked for. A host in several groups has that of the first that was named.
func (f *askFlag) give(hosts []fleet.Host, entries []*inventory.Entry) error {
	for _, group := range *f {
		if group == inventory.All {
			continue
		}
		found := false
		for i, e := range entries {
			if !slices.Contains(e.Groups, group) {
				continue
			}
			found = true
			if hosts[i].Shared == "" {
				hosts[i].Shared = group
			}
		}
		if !found {
			return fmt.Errorf("--ask-pass=%s: none of the hosts is in a group of that name", group)
		}
	}
	return nil
}

// secretFlags say where passwords of hosts come from. The value is never a flag: others can see those.
type secretFlags struct {
	fd      int
	program string
	given   *pflag.FlagSet
}

func (f *secretFlags) register(p *pflag.FlagSet) {
	f.given = p
	p.IntVar(&f.fd, "password-fd", -1, "read the password for all hosts from file descriptor `N`")
	p.StringVar(&f.program, "password-command", "", "a host's password is the first line that the shell command `CMD` writes; run once, or for each host where it is a template over {{.Host}} {{.Addr}} {{.User}}")
	p.Lookup("password-fd").DefValue = "0" // which no help shows: there is no default
}

func (f *secretFlags) complete(cmd *cobra.Command) {
	cmd.MarkFlagsMutuallyExclusive("password-fd", "password-command")
}

// options says where passwords come from; nil is that there are none.
func (f *secretFlags) options(detach bool) (func(context.Context, fleet.Login) (fleet.Secret, error), error) {
	switch {
	case f.program != "":
		return f.fromProgram()
	case f.given == nil || !f.given.Changed("password-fd"):
		return nil, nil
	case f.fd < 0:
		return nil, fmt.Errorf("--password-fd %d: use the number of a descriptor that is open for reading", f.fd)
	case detach:
		return nil, errors.New("--password-fd: what goes on in the background can't read it; use --password-command or --ask-pass")
	}
	// Read now: it may be standard input, or belong to somebody who does not wait.
	secret, err := readSecret("--password-fd", f.fd)
	return func(context.Context, fleet.Login) (fleet.Secret, error) { return secret, nil }, err
}

// answer is what a program gave, once it has.
type answer struct {
	ready  sync.Mutex
	done   bool
	secret fleet.Secret
	err    error
}

func (f *secretFlags) fromProgram() (func(context.Context, fleet.Login) (fleet.Secret, error), error) {
	t, err := template.New("--password-command").Option("missingkey=error").Parse(f.program)
	if err != nil {
		return nil, fmt.Errorf("--password-command: %w", err)
	}
	var mu sync.Mutex
	answers := map[string]*answer{} // by the command as it is run
	ask := func(ctx context.Context, to fleet.Login) (fleet.Secret, error) {
		var text strings.Builder
		quoted := fleet.Login{Host: shellescape.Quote(to.Host), Addr: shellescape.Quote(to.Addr), User: shellescape.Quote(to.User)}
		if err := t.Execute(&text, quoted); err != nil {
			return "", fmt.Errorf("--password-command: %w", err)
		}
		mu.Lock()
		a := answers[text.String()]
		if a == nil {
			a = &answer{}
			answers[text.String()] = a
		}
		mu.Unlock()
		a.ready.Lock() // others wait for the same answer
		defer a.ready.Unlock()
		if !a.done {
			a.secret, a.err = runForSecret(ctx, "--password-command", text.String())
			a.done = ctx.Err() == nil // else the next one asks again
		}
		return a.secret, a.err
	}
	if err := t.Execute(io.Discard, fleet.Login{}); err != nil {
		return nil, fmt.Errorf("--password-command: %w", err)
	}
	return ask, nil
}
