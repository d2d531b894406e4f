// Command mgmt-remote runs a payload on a fleet of machines over SSH with nothing installed on them.
//
// This package is flags, wiring and exit codes; what is done is in package fleet. docs/cli.md lists the exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/mgmt-remote/mgmt-remote/internal/shim"
)

// The exit codes; they are part of the interface.
const (
	exitOK          = 0
	exitUsage       = 1 // also configuration and this machine's own troubles
	exitFailed      = 2 // some host failed
	exitTimedOut    = 3 // not converged within --max-runtime
	exitUnreachable = 4 // nothing but unreachable hosts went wrong
	exitTakenOver   = 5
	exitInterrupted = 130
)

// exitError ends the program with a code of its own. What it was about has been shown already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	// The shim is not a command of this program but another program in the same file, for platforms without a small one.
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		os.Exit(shim.Main(os.Args[2:]))
	}
	os.Exit(run(os.Args[1:]))
}

// run executes one command line and returns the exit code.
func run(args []string) int {
	root := newRootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(context.Background())
	var exit exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return int(exit)
	}
	say(root.ErrOrStderr(), "%v", explain(cmd, err))
	return exitUsage
}
