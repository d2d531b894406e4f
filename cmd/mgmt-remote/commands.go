//go:build !engine

package main

import (
	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/internal/shimbin"
)

// fleetCommands are the commands that drive other machines.
func fleetCommands() []*cobra.Command {
	return []*cobra.Command{
		newRunCommand(), newResumeCommand(), newAttachCommand(), newRunsCommand(), newHostsCommand(), newStatusCommand(), newStopCommand(), newRetryCommand(), newPauseCommand(),
		newContinueCommand(), newScaleCommand(), newDropCommand(), newDemoCommand(), newGraphCommand(), newCleanCommand(), newConfigCommand(), newManCommand(),
	}
}

// embeddedPrograms lists the programs for hosts that are inside.
func embeddedPrograms() ([]program, error) {
	programs := shimbin.New()
	defer programs.Close() //nolint:errcheck // nothing was unpacked to files
	list := []program{}
	embedded, err := programs.Embedded()
	for _, e := range embedded {
		list = append(list, program(e))
	}
	return list, err
}
