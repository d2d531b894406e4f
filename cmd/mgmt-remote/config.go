//go:build !engine

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/internal/config"
)

// inUse is one value and where it is from.
type inUse struct {
	Command string   `json:"command,omitempty"` // empty: all commands
	Flag    string   `json:"flag"`
	Values  []string `json:"values"`
	From    string   `json:"from"`
}

func newConfigCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config [flags] [COMMAND [-- FLAG…]]",
		Short: "Show the settings in use and where each is from",
		Long: `Show what files and variables set. With COMMAND show the value that each of its
flags would have, also with the FLAGs given, and where it is from: a flag, a
variable, a line of a file, or the default.

A flag goes before a variable, that before a file. Variables are called
MGMT_REMOTE_RETRY_FOR, for all commands that have the flag --retry-for, or
MGMT_REMOTE_RUN_RETRY_FOR, for run. Files are $XDG_CONFIG_HOME/mgmt-remote/
mgmt-remote.yaml (~/.config where that is not set), and then /etc/mgmt-remote/
mgmt-remote.yaml; or the one of --config or $MGMT_REMOTE_CONFIG alone.

docs/config.md describes both.`,
		Example: `  mgmt-remote config
  mgmt-remote config run
  mgmt-remote config graph check --json
  mgmt-remote config run -- --stay`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []cobra.Completion
			for _, c := range within(cmd.Root(), strings.Join(args, " ")) {
				if c.HasParent() && path(c.Parent()) == strings.Join(args, " ") && !c.Hidden {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			file := cmd.Flag("config").Value.String()
			var flags []string
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args, flags = args[:dash], args[dash:]
			}
			var list []inUse
			var read []string
			var err error
			if len(args) == 0 {
				list, read, err = settings(cmd.Root(), file)
			} else {
				list, read, err = valuesOf(args, flags, file)
			}
			if err != nil {
				return err
			}
			if asJSON {
				out := json.NewEncoder(cmd.OutOrStdout())
				for _, v := range list {
					if err := out.Encode(v); err != nil {
						return err
					}
				}
				return nil
			}
			return writeInUse(cmd.OutOrStdout(), list, read)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per value and line")
	return cmd
}

// settings are all that files and variables say, those that go before others first.
func settings(root *cobra.Command, file string) ([]inUse, []string, error) {
	l, read, err := configured(root, file)
	var list []inUse
	for _, s := range slices.Concat(l...) {
		list = append(list, inUse{s.Command, s.Flag, append([]string{}, s.Values...), s.Origin})
	}
	return list, read, err
}

// valuesOf are the values of all flags of a command.
func valuesOf(words, flags []string, file string) ([]inUse, []string, error) {
	root := newRootCommand() // ours is in use
	c, rest, err := root.Find(words)
	if err != nil {
		return nil, nil, err
	}
	if len(rest) > 0 || settable(c) == nil {
		return nil, nil, fmt.Errorf("%q is no command that has settings", strings.Join(words, " "))
	}
	if err := c.ParseFlags(flags); err != nil {
		return nil, nil, err
	}
	l, read, err := configured(root, file)
	if err != nil {
		return nil, nil, err
	}
	if err := l.settle(c); err != nil {
		return nil, nil, err
	}
	var list []inUse
	for _, f := range settable(c) {
		v := inUse{Flag: f.Name, From: "default", Values: []string{f.Value.String()}}
		switch from := f.Annotations[originKey]; {
		case len(from) > 0:
			v.From = from[0]
		case f.Changed:
			v.From = "flag"
		}
		if slice, ok := f.Value.(pflag.SliceValue); ok {
			v.Values = append([]string{}, slice.GetSlice()...)
		}
		list = append(list, v)
	}
	return list, read, nil
}

func writeInUse(out io.Writer, list []inUse, read []string) error {
	if len(read) == 0 {
		looked := strings.Join(config.Files(os.Getenv), " and no ")
		if _, err := fmt.Fprintf(out, "no file was read: there is no %s\n", looked); err != nil {
			return err
		}
	} else if _, err := fmt.Fprintln(out, "read:", strings.Join(read, ", ")); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, v := range list {
		name := strings.TrimSpace(v.Command + " --" + v.Flag)
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", name, strings.Map(printable, strings.Join(v.Values, ", ")), v.From) // Flush tells
	}
	return w.Flush()
}
