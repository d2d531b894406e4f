//go:build !engine

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// completeHost completes a host where one is named: those of the inventories that are given, or that the configuration gives, and
// those that ssh knows. Nothing is run or asked for it.
func (f *hostFlags) completeHost(cmd *cobra.Command, _ []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []string
	inv := f.inventoryToComplete(cmd)
	if inv != nil {
		names = inventory.Names(inv.Entries)
	}
	return after(text, "@=,", append(names, sshNames(cmd)...)), cobra.ShellCompDirectiveNoFileComp
}

// completeJump completes the last of the jump hosts.
func completeJump(cmd *cobra.Command, _ []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return after(text, "@,", sshNames(cmd)), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeLimit completes the last name of a selection: a host or a group.
func (f *hostFlags) completeLimit(cmd *cobra.Command, _ []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []string
	if inv := f.inventoryToComplete(cmd); inv != nil {
		names = inventory.Names(inv.Entries)
		for _, e := range inv.Entries {
			names = append(names, e.Groups...)
		}
	}
	return after(text, "&,!^( ", names), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeEntry completes the name of a host of the inventories.
func (f *hostFlags) completeEntry(cmd *cobra.Command, _ []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []string
	if inv := f.inventoryToComplete(cmd); inv != nil {
		names = inventory.Names(inv.Entries)
	}
	return after(text, "", names), cobra.ShellCompDirectiveNoFileComp
}

// inventoryToComplete reads the files that -I or the configuration name; nil where there are none, or something is wrong with them.
func (f *hostFlags) inventoryToComplete(cmd *cobra.Command) *inventory.Inventory {
	if l, _, err := configured(cmd.Root(), cmd.Flag("config").Value.String()); err == nil {
		if l.settle(cmd) != nil {
			return nil
		}
	}
	files := hostFlags{inventories: f.inventories, format: f.format} // a program is not run for a key press
	if len(files.inventories) == 0 || slices.Contains(files.inventories, stdinName) {
		return nil
	}
	inv, _, err := files.read(cmd)
	if err != nil {
		return nil
	}
	return inv
}

// after completes what comes after the last of the separators.
func after(text, separators string, names []string) []cobra.Completion {
	done, rest := "", text
	if i := strings.LastIndexAny(text, separators); i >= 0 {
		done, rest = text[:i+1], text[i+1:]
	}
	slices.Sort(names)
	var list []cobra.Completion
	for _, name := range slices.Compact(names) {
		if strings.HasPrefix(name, rest) {
			list = append(list, done+name)
		}
	}
	return list
}

// sshNames are the hosts that ssh's files of this machine name: those that are known, where the file does not hide them, and
// those that the configuration is about.
func sshNames(cmd *cobra.Command) []string {
	home, _ := os.UserHomeDir() // without one the machine's files are left
	known := []string{filepath.Join(home, ".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"}
	if f := cmd.Flags().Lookup("known-hosts"); f != nil && f.Changed {
		if files, err := cmd.Flags().GetStringArray("known-hosts"); err == nil {
			known = files
		}
	}
	var names []string
	for _, file := range known {
		names = append(names, linesOf(file, knownNames)...)
	}
	for _, file := range []string{filepath.Join(home, ".ssh", "config"), "/etc/ssh/ssh_config"} {
		names = append(names, linesOf(file, configNames)...)
	}
	return names
}

// linesOf takes the names from each line of a file. What can't be read has none.
func linesOf(file string, namesOf func(words []string) []string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		names = append(names, namesOf(strings.Fields(line))...)
	}
	return names
}

// knownNames are the hosts of a line of known_hosts, as -H takes them.
func knownNames(words []string) []string {
	if len(words) < 3 || strings.HasPrefix(words[0], "#") || strings.HasPrefix(words[0], "@") || strings.HasPrefix(words[0], "|") {
		return nil
	}
	var names []string
	for name := range strings.SplitSeq(words[0], ",") {
		if host, port, ok := strings.Cut(strings.TrimPrefix(name, "["), "]:"); ok {
			name = host + ":" + port
			if strings.Contains(host, ":") {
				name = "[" + host + "]:" + port
			}
		}
		if !strings.ContainsAny(name, "*?!") {
			names = append(names, name)
		}
	}
	return names
}

// configNames are the hosts of a line "Host web1 web2" of OpenSSH's configuration. What stands in Match or in files that are
// included is left to ssh itself: completion is a help, not an oracle.
func configNames(words []string) []string {
	if len(words) < 2 || !strings.EqualFold(words[0], "host") {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(words[1:]), func(name string) bool { return strings.ContainsAny(name, "*?!\"#") })
}

// completeRunsAndHosts completes the ID of a run in one of the states, and then hosts of that.
func completeRunsAndHosts(states ...fleet.RunState) cobra.CompletionFunc {
	run := completeRuns(states...)
	return func(cmd *cobra.Command, args []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return run(cmd, args, text)
		}
		runs, _ := fleet.Runs("") // what can't be read is not offered
		for _, r := range runs {
			if r.ID == args[0] {
				return after(text, ",", slices.DeleteFunc(slices.Clone(r.Hosts), func(name string) bool { return slices.Contains(args[1:], name) })), cobra.ShellCompDirectiveNoFileComp
			}
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}
