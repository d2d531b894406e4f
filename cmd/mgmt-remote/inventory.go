//go:build !engine

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// inventoryTimeout is how long --inventory-cmd may take. Those that ask a cloud take a while.
const inventoryTimeout = 2 * time.Minute

// stdinName is what -I calls standard input, and stdinPlace what messages and origins do.
const (
	stdinName  = "-"
	stdinPlace = "standard input"
)

var errNoHost = errors.New("no host was named: use -H HOST, or an inventory with -I FILE")

// hostFlags say which hosts are meant.
type hostFlags struct {
	named       []string // -H
	inventories []string
	program     string
	format      string
	limit       string
}

// register adds the flags; what is done with a host is in usage.
func (f *hostFlags) register(p *pflag.FlagSet, usage string) {
	p.StringArrayVarP(&f.named, "host", "H", nil, usage)
	p.StringArrayVarP(&f.inventories, "inventory", "I", nil, "read hosts from `FILE`, - is stdin (repeatable, docs/inventory.md)")
	p.StringVar(&f.program, "inventory-cmd", "", "read hosts from what the shell command `CMD` --list writes")
	p.StringVar(&f.format, "inventory-format", string(inventory.FormatAuto), "`FORMAT` of inventories: yaml, ansible-ini, ansible-yaml, ansible-json, list or auto")
	p.StringVarP(&f.limit, "limit", "l", "", "only hosts that `EXPR` selects: 'web & !dc2', 'dc=dc1', 'web[1-9]'")
}

// complete says how values are completed.
func (f *hostFlags) complete(cmd *cobra.Command) {
	var formats []cobra.Completion
	for _, format := range inventory.Formats() {
		formats = append(formats, string(format))
	}
	for flag, values := range map[string]cobra.CompletionFunc{
		"host": f.completeHost, "limit": f.completeLimit, "inventory-cmd": cobra.NoFileCompletions,
		"inventory-format": cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp),
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, values); err != nil {
			panic(err) // there is no such flag: a mistake in this list
		}
	}
}

// given reports whether hosts are said by flags, so that none is taken from elsewhere.
func (f *hostFlags) given() bool { return len(f.named) > 0 || f.hasInventory() }

func (f *hostFlags) hasInventory() bool { return len(f.inventories) > 0 || f.program != "" }

// choose reads the inventories and returns the hosts that are meant: those of -H, else all; of them those that --limit
// selects. None is an error, except where no flag says anything.
func (f *hostFlags) choose(cmd *cobra.Command) ([]*inventory.Entry, error) {
	inv, named, err := f.read(cmd)
	if err != nil {
		return nil, err
	}
	for _, w := range inv.Warnings {
		say(cmd.ErrOrStderr(), "warning: %s", w)
	}
	if !f.given() {
		if f.limit != "" {
			return nil, errors.New("--limit selects among the hosts of -H and -I, and there are none")
		}
		return nil, nil
	}
	entries := inv.Entries
	if len(f.named) > 0 {
		entries = make([]*inventory.Entry, 0, len(named))
		for _, name := range named {
			if e := inv.Entry(name); e != nil {
				entries = append(entries, e)
			}
		}
	}
	if len(entries) == 0 {
		return nil, errors.New("there are no hosts in the inventory")
	}
	if f.limit == "" {
		return entries, nil
	}
	selected, err := inv.Select(f.limit)
	if err != nil {
		return nil, fmt.Errorf("--limit: %w", err)
	}
	in := make(map[*inventory.Entry]struct{}, len(selected))
	for _, e := range selected {
		in[e] = struct{}{}
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(e *inventory.Entry) bool { _, ok := in[e]; return !ok })
	if len(entries) == 0 {
		return nil, fmt.Errorf("--limit %q: no host is left", f.limit)
	}
	return entries, nil
}

// read makes one inventory of all sources and of -H, and returns the names of the latter, each once.
func (f *hostFlags) read(cmd *cobra.Command) (*inventory.Inventory, []string, error) {
	format := inventory.Format(f.format)
	if !slices.Contains(inventory.Formats(), format) {
		return nil, nil, fmt.Errorf("--inventory-format %q: use yaml, ansible-ini, ansible-yaml, ansible-json, list or auto", f.format)
	}
	var b inventory.Builder
	var errs []error
	stdin := false
	for _, file := range f.inventories {
		src := inventory.Source{Name: file, Format: format}
		var err error
		switch {
		case file != stdinName:
			src.Data, err = readInventory(file)
		case stdin:
			err = errors.New("-I - is given twice, and standard input can be read once")
		default:
			stdin, src.Name = true, stdinPlace
			src.Data, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), inventory.MaxSize+1))
		}
		if err == nil {
			err = b.Read(src)
		}
		errs = append(errs, err)
	}
	if f.program != "" {
		data, err := f.list(cmd.Context())
		if err != nil {
			return nil, nil, err
		}
		if format == inventory.FormatAuto {
			format = inventory.Detect("", data)
		}
		errs = append(errs, b.Read(inventory.Source{Name: f.program, Format: format, Data: data}))
	}
	seen := map[string]struct{}{}
	var named []string
	for _, text := range f.named {
		names, err := b.Add(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--host: %w", err))
		}
		for _, name := range names {
			if _, twice := seen[name]; !twice {
				seen[name] = struct{}{}
				named = append(named, name)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	inv, err := b.Inventory()
	return inv, named, err
}

func readInventory(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--inventory: %w", err)
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing to lose
	return io.ReadAll(io.LimitReader(f, inventory.MaxSize+1))
}

// list runs --inventory-cmd. It is in a process group of its own, so an interrupt is passed on.
func (f *hostFlags) list(ctx context.Context) ([]byte, error) {
	interrupted, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := command.WithTimeout(interrupted, inventoryTimeout)
	defer cancel()
	c := command.New(ctx, "/bin/sh", "-c", f.program+` "$@"`, "sh", "--list")
	stdout, stderr := command.Head{Most: inventory.MaxSize}, command.Head{Most: 4 << 10}
	c.Stdout, c.Stderr = &stdout, &stderr
	err := command.Do(ctx, c)
	switch {
	case interrupted.Err() != nil:
		return nil, exitError(exitInterrupted)
	case err != nil:
		text := strings.TrimSpace(stderr.String())
		if text != "" {
			text = ", and wrote\n" + text
		}
		return nil, fmt.Errorf("--inventory-cmd %q: %w%s", f.program, err, text)
	case stdout.Cut():
		return nil, fmt.Errorf("--inventory-cmd %q: wrote more than %d MiB", f.program, inventory.MaxSize>>20)
	}
	return stdout.Bytes(), nil
}
