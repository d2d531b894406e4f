//go:build engine

package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"
)

// standardError is where everything goes that is said on standard error.
func standardError() io.Writer { return os.Stderr }

// fleetCommands are none in the program that hosts get for a graph payload (go build -tags engine): it applies
// definitions and drives nobody, and is a third of the size without what that takes.
func fleetCommands() []*cobra.Command { return nil }

// embeddedPrograms are none either.
func embeddedPrograms() ([]program, error) { return []program{}, nil }

// configure does nothing: what a host has configured is nothing to a run.
func configure(*cobra.Command) {}

// explain has nothing to add.
func explain(_ *cobra.Command, err error) error { return err }
