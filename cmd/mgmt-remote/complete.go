//go:build !engine

package main

import (
	"github.com/spf13/cobra"
)

// complete says how the values of run's flags are completed. Files are what a shell completes where nothing is said.
func (f *runFlags) complete(cmd *cobra.Command) {
	f.hosts.complete(cmd)
	completeConnections(cmd)
	f.output.complete(cmd)
	f.become.complete(cmd)
	f.password.complete(cmd)
	nothing := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveNoFileComp)
	for flag, values := range map[string]cobra.CompletionFunc{
		"endpoint": cobra.FixedCompletions([]cobra.Completion{
			cobra.CompletionWithDesc(endpointUnix, "a Unix socket"), cobra.CompletionWithDesc(endpointTCP, "a port of 127.0.0.1"),
		}, cobra.ShellCompDirectiveNoFileComp),
		"payload": cobra.FixedCompletions([]cobra.Completion{
			cobra.CompletionWithDesc(payloadGraph, "a definition"), cobra.CompletionWithDesc(payloadCommand, "any program"),
			cobra.CompletionWithDesc(payloadMgmt, "mgmt, with its own code"),
		}, cobra.ShellCompDirectiveNoFileComp),
		"converge": cobra.FixedCompletions([]cobra.Completion{
			cobra.CompletionWithDesc(convergences[0], "all hosts together"), cobra.CompletionWithDesc(convergences[1], "each on its own"),
		}, cobra.ShellCompDirectiveNoFileComp),
		"restart": cobra.FixedCompletions([]cobra.Completion{
			cobra.CompletionWithDesc(restartPolicies[0], "its end is its end"),
			cobra.CompletionWithDesc(restartPolicies[1], "start it again unless it ended with exit status 0"),
			cobra.CompletionWithDesc(restartPolicies[2], "start it again until it is told to end"),
		}, cobra.ShellCompDirectiveNoFileComp),
		"on-reboot": cobra.FixedCompletions([]cobra.Completion{
			cobra.CompletionWithDesc(rebootPolicies[0], "the host failed"),
			cobra.CompletionWithDesc(rebootPolicies[1], "start it again from the beginning"),
		}, cobra.ShellCompDirectiveNoFileComp),
		"retry-for":      cobra.FixedCompletions([]cobra.Completion{forever}, cobra.ShellCompDirectiveNoFileComp),
		"orphan-timeout": cobra.FixedCompletions([]cobra.Completion{forever}, cobra.ShellCompDirectiveNoFileComp),
		"prefix":         nothing, "env": nothing, "var": nothing, "etcd-endpoints": nothing,
		"max-connections": nothing, "converged-timeout": nothing,
		"max-runtime": nothing,
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, values); err != nil {
			panic(err) // there is no such flag: a mistake in this list
		}
	}
}

// completeConnections does the same for what all commands have that connect to hosts.
func completeConnections(cmd *cobra.Command) {
	nothing := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveNoFileComp)
	for flag, values := range map[string]cobra.CompletionFunc{
		"host-key": cobra.FixedCompletions([]cobra.Completion{
			cobra.CompletionWithDesc(hostKeyPolicies[0], "refuse keys that are not known"),
			cobra.CompletionWithDesc(hostKeyPolicies[1], "remember keys of new hosts"),
			cobra.CompletionWithDesc(hostKeyPolicies[2], "ask about the keys of new hosts, once for all"),
			cobra.CompletionWithDesc(hostKeyPolicies[3], "take any key that is not revoked"),
		}, cobra.ShellCompDirectiveNoFileComp),
		"log-format": cobra.FixedCompletions([]cobra.Completion{"text", "json"}, cobra.ShellCompDirectiveNoFileComp),
		"jump":       completeJump, "connect-timeout": nothing, "keepalive-interval": nothing, "keepalive-count": nothing,
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, values); err != nil {
			panic(err) // there is no such flag: a mistake in this list
		}
	}
}
