//go:build !engine

package main

import "github.com/spf13/cobra"

// fleetCommands are the commands that drive other machines.
func fleetCommands() []*cobra.Command {
	return []*cobra.Command{newRunCommand(), newResumeCommand(), newAttachCommand(), newRunsCommand(), newHostsCommand(), newStatusCommand(), newStopCommand(), newRetryCommand(), newPauseCommand(), newContinueCommand(), newScaleCommand(), newDropCommand(), newDemoCommand(), newGraphCommand(), newCleanCommand()}
}
