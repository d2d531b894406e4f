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

// give says which hosts share a password that is asked for, in the field of a host that is for it. A host in several groups has that
// of the first that was named.
func (f *passwordFlags) give(hosts []fleet.Host, entries []*inventory.Entry, field func(*fleet.Host) *string) error {
	for _, group := range f.ask {
		if group == inventory.All {
			continue
		}
		found := false
		for i, e := range entries {
			if !slices.Contains(e.Groups, group) {
				continue
			}
			found = true
			if shared := field(&hosts[i]); *shared == "" {
				*shared = group
			}
		}
		if !found {
			return fmt.Errorf("--%s=%s: none of the hosts is in a group of that name", f.byAsking(), group)
		}
	}
	return nil
}

// The two kinds of passwords, by what is in the middle of their flags' names.
const (
	loginPassword  = ""
	becomePassword = "become-"
)

// passwordFlags say where passwords of one kind come from.
type passwordFlags struct {
	ask askFlag
	secretFlags
}

func (f *passwordFlags) register(p *pflag.FlagSet, kind string) {
	f.kind = kind
	p.Var(&f.ask, f.byAsking(), "ask once for "+f.what()+", for all hosts, or with =`GROUP` for those of a group (repeatable)")
	p.Lookup(f.byAsking()).NoOptDefVal = inventory.All
	f.secretFlags.register(p, kind)
}

// options says where passwords come from; nil is that nobody is asked, and there are none.
func (f *passwordFlags) options(detach bool) (ask bool, from passwordSource, err error) {
	from, err = f.secretFlags.options(detach)
	if f.ask.all() && from != nil {
		err = fmt.Errorf("--%s asks for all hosts: name a group (--%s=GROUP), or leave out the others", f.byAsking(), f.byAsking())
	}
	return f.ask.all(), from, err
}

// noGroups refuses groups where hosts are those of a run that was begun before. Those of a file of settings may be about other runs.
func (f *passwordFlags) noGroups() error {
	if len(f.ask) == 0 || f.ask.all() || f.given.Lookup(f.byAsking()).Annotations[originKey] != nil {
		return nil
	}
	return fmt.Errorf("--%s: the run knows its groups, and asks for their passwords anyway: leave out the =GROUP", f.byAsking())
}

// secretFlags say where passwords come from without asking anybody. The value is never a flag: others can see those.
type secretFlags struct {
	kind    string
	fd      int
	program string
	given   *pflag.FlagSet
}

// passwordSource has the password of a host, when that is wanted.
type passwordSource = func(context.Context, fleet.Login) (fleet.Secret, error)

func (f *secretFlags) register(p *pflag.FlagSet, kind string) {
	f.given, f.kind = p, kind
	p.IntVar(&f.fd, f.byFD(), -1, "read "+f.what()+", for all hosts, from file descriptor `N`")
	p.StringVar(&f.program, f.byProgram(), "", "the first line that the shell command `CMD` writes is "+f.what()+"; run once, or for each host where it is a template over {{.Host}} {{.Addr}} {{.User}}")
	p.Lookup(f.byFD()).DefValue = "0" // which no help shows: there is no default
}

func (f *secretFlags) what() string {
	if f.kind == becomePassword {
		return "the password that sudo wants"
	}
	return "the password"
}

func (f *secretFlags) byAsking() string  { return "ask-" + f.kind + "pass" }
func (f *secretFlags) byFD() string      { return f.kind + "password-fd" }
func (f *secretFlags) byProgram() string { return f.kind + "password-command" }

func (f *secretFlags) complete(cmd *cobra.Command) {
	cmd.MarkFlagsMutuallyExclusive(f.byFD(), f.byProgram())
}

// options says where passwords come from; nil is that there are none.
func (f *secretFlags) options(detach bool) (passwordSource, error) {
	switch {
	case f.program != "":
		return f.fromProgram()
	case f.given == nil || !f.given.Changed(f.byFD()):
		return nil, nil
	case f.fd < 0:
		return nil, fmt.Errorf("--%s %d: use the number of a descriptor that is open for reading", f.byFD(), f.fd)
	case detach && f.fd != 0:
		return nil, fmt.Errorf("--%s: what goes on in the background has standard input only (0); use --%s or --%s", f.byFD(), f.byProgram(), f.byAsking())
	case detach && !inBackground(): // it is for the process that will be, which gets here, too
		return func(context.Context, fleet.Login) (fleet.Secret, error) { return "", errors.ErrUnsupported }, nil
	}
	// Read now: it may be standard input, or belong to somebody who does not wait.
	secret, err := readSecret("--"+f.byFD(), f.fd)
	return func(context.Context, fleet.Login) (fleet.Secret, error) { return secret, nil }, err
}

// answer is what a program gave, once it has.
type answer struct {
	ready  sync.Mutex
	done   bool
	secret fleet.Secret
	err    error
}

func (f *secretFlags) fromProgram() (passwordSource, error) {
	flag := "--" + f.byProgram()
	t, err := template.New(flag).Option("missingkey=error").Parse(f.program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	var mu sync.Mutex
	answers := map[string]*answer{} // by the command as it is run
	ask := func(ctx context.Context, to fleet.Login) (fleet.Secret, error) {
		var text strings.Builder
		quoted := fleet.Login{Host: shellescape.Quote(to.Host), Addr: shellescape.Quote(to.Addr), User: shellescape.Quote(to.User)}
		if err := t.Execute(&text, quoted); err != nil {
			return "", fmt.Errorf("%s: %w", flag, err)
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
			a.secret, a.err = runForSecret(ctx, flag, text.String())
			a.done = ctx.Err() == nil // else the next one asks again
		}
		return a.secret, a.err
	}
	if err := t.Execute(io.Discard, fleet.Login{}); err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return ask, nil
}
