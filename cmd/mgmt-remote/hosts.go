//go:build !engine

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconfig"
)

func newHostsCommand() *cobra.Command {
	var f hostFlags
	var ssh sshFlags
	var explain string
	var asJSON, fold bool
	cmd := &cobra.Command{
		Use:   "hosts [flags] -I FILE | -H HOST…",
		Short: "List the hosts that inventories and a selection name",
		Long: `List the hosts that -H, inventories and --limit name. They are found out as run
and clean do: what is said here is what they would use. With --explain say all
about one host, and which line of which file each value is from; what OpenSSH's
configuration says about it, too. Nothing is connected to.

docs/inventory.md describes inventories and what --limit selects: names, groups
and labels with , & ! ^ and parentheses.

Exit codes: 0, or 1 where something is wrong or no host is left.`,
		Example: `  mgmt-remote hosts -I fleet.yaml
  mgmt-remote hosts -I fleet.yaml -l 'web & !dc2' --fold
  mgmt-remote hosts -I fleet.yaml --explain web1
  mgmt-remote hosts --inventory-cmd ./cloud.py --json
  mgmt-remote hosts -H 'root@web[1-20,30]-[a,b].dc1:2222'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if fold && (asJSON || explain != "") {
				return errors.New("--fold gives names only: leave out --json and --explain")
			}
			entries, err := f.choose(cmd)
			switch {
			case err != nil:
				return err
			case !f.given():
				return errNoHost
			}
			if explain != "" {
				i := slices.IndexFunc(entries, func(e *inventory.Entry) bool { return e.Host.Name == explain })
				if i < 0 {
					return fmt.Errorf("--explain %s: that is none of %s", explain, someOf(inventory.Names(entries)))
				}
				entries = entries[i : i+1]
			}
			switch out := cmd.OutOrStdout(); {
			case fold:
				_, err = fmt.Fprintln(out, nodeset.Fold(inventory.Names(entries)))
			case asJSON:
				err = hostsJSON(out, entries)
			case explain != "":
				var values []sshValue
				if values, err = ssh.explain(cmd, entries[0]); err != nil {
					return err
				}
				err = explainHost(out, entries[0], values)
			default:
				err = hostsTable(out, entries)
			}
			if err != nil {
				return fmt.Errorf("write to stdout: %w", err)
			}
			return nil
		},
	}
	p := cmd.Flags()
	p.SortFlags = false
	flagGroup(p, "Hosts", func(p *pflag.FlagSet) {
		f.register(p, "a `HOST`, or many: 'web[1-20]' (repeatable)")
		ssh.register(p)
	})
	flagGroup(p, "Output", func(p *pflag.FlagSet) {
		p.StringVar(&explain, "explain", "", "say all about `HOST`, and where it comes from")
		p.BoolVar(&fold, "fold", false, "only the names, as one node set that -H and -l take")
		p.BoolVar(&asJSON, "json", false, "one JSON object per host and line on stdout, with all origins")
	})
	f.complete(cmd)
	if err := cmd.RegisterFlagCompletionFunc("explain", f.completeEntry); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// hostsTable writes a line per host.
func hostsTable(out io.Writer, entries []*inventory.Entry) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "HOST\tADDRESS\tUSER\tGROUPS\tLABELS") // Flush has the error
	for _, e := range entries {
		groups := slices.DeleteFunc(slices.Clone(e.Groups), func(g string) bool { return g == inventory.All || g == inventory.Ungrouped })
		var labels []string
		for _, key := range slices.Sorted(maps.Keys(e.Labels)) {
			labels = append(labels, label(key, e.Labels[key].Text))
		}
		row := []string{e.Host.Name, e.Host.Address(), e.Host.User, strings.Join(groups, ","), strings.Join(labels, ",")}
		for i, text := range row {
			if row[i] = cell(text); text == "" {
				row[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// cell is text that neither a terminal nor a table takes for anything else.
func cell(text string) string {
	return strings.Map(printable, strings.ReplaceAll(text, "\t", " "))
}

func label(key, value string) string {
	if value == "" {
		return key
	}
	return key + "=" + value
}

// fact is one value of a host.
type fact struct {
	name string
	inventory.Value
}

// facts are what is used of a host: what was said, and the defaults of what was not.
func facts(e *inventory.Entry) []fact {
	addr, port, _ := net.SplitHostPort(e.Host.Address()) // which has joined them
	defaults := map[inventory.Field]string{inventory.Address: addr, inventory.Port: port}
	var all []fact
	for _, field := range inventory.Fields() {
		v, said := e.Fields[field]
		if text, has := defaults[field]; !said && has {
			v, said = inventory.Value{Text: text}, true
		}
		if said {
			all = append(all, fact{string(field), v})
		}
	}
	return all
}

// explainHost writes everything about a host, with origins.
func explainHost(out io.Writer, e *inventory.Entry, ssh []sshValue) error {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	row := func(name, text, origin string) {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", name, cell(text), cell(origin)) // Flush has the error
	}
	row("host", e.Host.Name, e.Named.String())
	over := map[string]bool{} // defaults that OpenSSH's configuration replaces
	for _, v := range ssh {
		over["address"] = over["address"] || v.keyword == sshconfig.HostName
		over["port"] = over["port"] || v.keyword == sshconfig.Port
	}
	for _, f := range facts(e) {
		if _, said := e.Fields[inventory.Field(f.name)]; said || !over[f.name] {
			row(f.name, f.Text, f.Origin.String())
		}
	}
	sshTable(w, ssh)
	row("groups", strings.Join(e.Groups, " "), "")
	for _, key := range slices.Sorted(maps.Keys(e.Labels)) {
		row("label "+key, e.Labels[key].Text, e.Labels[key].Origin.String())
	}
	for _, key := range slices.Sorted(maps.Keys(e.Vars)) {
		row("variable "+key, e.Vars[key].Text, e.Vars[key].Origin.String())
	}
	_ = w.Flush() // into memory
	for line := range strings.Lines(table.String()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil { // groups have no origin
			return err
		}
	}
	return nil
}

// hostsJSON writes an object per host.
func hostsJSON(out io.Writer, entries []*inventory.Entry) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for _, e := range entries {
		line := struct {
			Host   string                     `json:"host"`
			Origin inventory.Origin           `json:"origin"`
			Groups []string                   `json:"groups"`
			Fields map[string]inventory.Value `json:"fields"`
			Labels map[string]inventory.Value `json:"labels,omitempty"`
			Vars   map[string]inventory.Value `json:"vars,omitempty"`
		}{Host: e.Host.Name, Origin: e.Named, Groups: e.Groups, Fields: map[string]inventory.Value{}, Labels: e.Labels, Vars: e.Vars}
		for _, f := range facts(e) {
			line.Fields[f.name] = f.Value
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return nil
}
