//go:build !engine

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/internal/console"
	"github.com/mgmt-remote/mgmt-remote/internal/engine"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/graph/draw"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
)

// newGraphCommand makes `mgmt-remote graph`: what can be said about definitions without any host.
func newGraphCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "graph",
		Short:   "Check and draw definitions",
		Long:    "Check and draw definitions. Nothing is applied and no host is connected to.",
		Example: "  mgmt-remote graph check *.yaml\n  mgmt-remote graph show -o site.svg --format svg site.yaml",
	}
	cmd.AddCommand(newGraphCheckCommand(), newGraphShowCommand())
	return cmd
}

func newGraphCheckCommand() *cobra.Command {
	vars := variables{}
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Show all mistakes in definitions",
		Long: `Show all mistakes in the definitions FILE..., each with its line. A template is
rendered with samples of what is only known of a real host.

Prints one line for each good file. Exit codes: 0 all are good, 1 some are not.`,
		Example: `  mgmt-remote graph check site.yaml
  mgmt-remote graph check --var colour=blue site.yaml.tmpl`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeTemplates,
		RunE: func(cmd *cobra.Command, args []string) error {
			var errs []error
			for _, file := range args {
				def, err := loadSample(file, vars)
				if err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s\n", file, console.Plural(len(def.Resources), "resource"), console.Plural(len(def.Edges), "edge"))
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	vars.flag(cmd)
	return cmd
}

func newGraphShowCommand() *cobra.Command {
	vars := variables{}
	var format, output string
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Draw a definition",
		Long: `Draw the definition FILE: its resources, and arrows for what must come before
what. A template is drawn as it is for a sample of a host.`,
		Example: `  mgmt-remote graph show --format svg -o site.svg site.yaml
  mgmt-remote graph show site.yaml | dot -Tpng > site.png`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeTemplates,
		RunE: func(cmd *cobra.Command, args []string) error {
			painter, ok := painters[format]
			if !ok {
				return fmt.Errorf("--format %q: use dot or svg", format)
			}
			def, err := loadSample(args[0], vars)
			if err != nil {
				return err
			}
			if output == "" {
				return painter(cmd.OutOrStdout(), def, engine.AutoEdges(def))
			}
			// A picture is for everybody whom the umask lets read it.
			file, err := renameio.NewPendingFile(output, renameio.WithPermissions(0o644))
			if err != nil {
				return err
			}
			defer func() { _ = file.Cleanup() }() // nothing is left to do after a success
			if err := painter(file, def, engine.AutoEdges(def)); err != nil {
				return err
			}
			return file.CloseAtomicallyReplace()
		},
	}
	vars.flag(cmd)
	cmd.Flags().StringVar(&format, "format", "dot", "`FORMAT` of the drawing: dot (for Graphviz) or svg")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE` instead of stdout")
	if err := cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]cobra.Completion{"dot", "svg"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag: a mistake above
	}
	return cmd
}

// completeTemplates completes the names of definition files and of templates for them.
func completeTemplates(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml", "tmpl"}, cobra.ShellCompDirectiveFilterFileExt
}

// painters are the formats of drawings.
var painters = map[string]func(io.Writer, *graph.Definition, []graph.Edge) error{"dot": draw.DOT, "svg": draw.SVG}

// loadSample reads a definition, or renders a template with samples, and checks all of it that can be checked here.
func loadSample(file string, vars variables) (*graph.Definition, error) {
	def, err := func() (*graph.Definition, error) {
		if !graph.IsTemplate(file) {
			return graph.Load(file)
		}
		t, err := graph.LoadTemplate(file)
		if err != nil {
			return nil, err
		}
		return t.Check(graph.Data{Vars: vars})
	}()
	if err != nil || def.Remote == "" {
		return def, err
	}
	if _, err := inventory.ParseHost(def.Remote); err != nil {
		// Without the line: there may be a password in it.
		return nil, fmt.Errorf("%s:%d:%d: remote: %w", def.File, def.RemoteAt.Line, def.RemoteAt.Column, err)
	}
	return def, nil
}

// variables is a flag that can be given many times: KEY=VALUE, for templates.
type variables map[string]string

func (v variables) flag(cmd *cobra.Command) {
	cmd.Flags().Var(v, "var", "set a variable of templates, as in {{.Vars.KEY}}; can be repeated")
	if err := cmd.RegisterFlagCompletionFunc("var", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag: a mistake above
	}
}

// String is empty: there is no default to show.
func (v variables) String() string { return "" }

// Type is what the help calls the value.
func (v variables) Type() string { return "KEY=VALUE" }

// Set takes one KEY=VALUE.
func (v variables) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("%q is not of the form KEY=VALUE", text)
	}
	if err := payload.ValidVar(key); err != nil {
		return err
	}
	if _, twice := v[key]; twice {
		return fmt.Errorf("%s is given twice", key)
	}
	v[key] = value
	return nil
}
