package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is what help texts fit into: the width of a terminal that nobody made larger.
const helpWidth = 80

// groupKey is the annotation with the heading that a flag stands under.
const groupKey = "mgmt-remote-group"

// flagGroup adds flags that stand together in the help, in the order in which they are added.
func flagGroup(p *pflag.FlagSet, title string, add func(*pflag.FlagSet)) {
	group := pflag.NewFlagSet(title, pflag.ContinueOnError)
	group.SortFlags = false
	add(group)
	group.VisitAll(func(f *pflag.Flag) { f.Annotations = map[string][]string{groupKey: {title}} })
	p.AddFlagSet(group)
}

// usage writes what stands below a command's description in its help. It differs from cobra's in that lines are
// wrapped and flags stand in groups.
func usage(c *cobra.Command) error {
	var b strings.Builder
	section := func(title, text string) {
		if text = strings.TrimRight(text, "\n"); text != "" {
			fmt.Fprintf(&b, "\n%s:\n%s\n", title, text)
		}
	}
	use := ""
	if c.Runnable() {
		use = "  " + c.UseLine()
	}
	if c.HasAvailableSubCommands() {
		use += "\n  " + c.CommandPath() + " COMMAND"
	}
	b.WriteString("Usage:\n" + strings.TrimLeft(use, "\n") + "\n")
	section("Examples", c.Example)
	var commands strings.Builder
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			fmt.Fprintf(&commands, "  %-*s  %s\n", sub.NamePadding(), sub.Name(), sub.Short)
		}
	}
	section("Commands", commands.String())

	var titles []string
	groups := map[string]*pflag.FlagSet{}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		title := "Flags"
		if g := f.Annotations[groupKey]; len(g) > 0 {
			title = g[0]
		}
		if groups[title] == nil {
			groups[title] = pflag.NewFlagSet(title, pflag.ContinueOnError)
			groups[title].SortFlags = false
			titles = append(titles, title)
		}
		groups[title].AddFlag(f)
	})
	for _, title := range titles {
		section(title, groups[title].FlagUsagesWrapped(helpWidth))
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nMore about a command: %s help COMMAND\n", c.Root().Name())
	}
	_, err := io.WriteString(c.OutOrStderr(), b.String())
	return err
}

// atHosts is put at the end of what bash does for a completion: for it a word ends at an @, and it replaces what follows that.
const atHosts = `
    if [[ $cur == *@* && $COMP_WORDBREAKS == *@* ]]; then
        local i
        for i in "${!COMPREPLY[@]}"; do
            COMPREPLY[i]=${COMPREPLY[i]#"${cur%"${cur##*@}"}"}
        done
    fi
`

// bashCompletion writes cobra's script, in which user@host is one word.
func bashCompletion(cmd *cobra.Command, _ []string) error {
	plain, err := cmd.Flags().GetBool("no-descriptions")
	if err != nil {
		return err
	}
	var script strings.Builder
	if err := cmd.Root().GenBashCompletionV2(&script, !plain); err != nil {
		return err
	}
	text := strings.ReplaceAll(script.String(), "_init_completion -n =:", "_init_completion -n =:@")
	call := "    __" + cmd.Root().Name() + "_process_completion_results\n"
	i := strings.LastIndex(text, call)
	if i < 0 {
		return errors.New("cobra's script for bash has changed: " + strings.TrimSpace(call) + " is not called")
	}
	i += len(call)
	_, err = io.WriteString(cmd.OutOrStdout(), text[:i]+strings.TrimPrefix(atHosts, "\n")+text[i:])
	return err
}
