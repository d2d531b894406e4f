package main

import (
	"context"
	"fmt"
	"io"

	"github.com/mgmt-remote/mgmt-remote/internal/filewatch"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// followFile declares what is saved to the definition's file, until ctx ends.
func (c *composer) followFile(ctx context.Context, stderr io.Writer) {
	known := map[string][]byte{c.def.File: c.def.Source}
	err := filewatch.Watch(ctx, known, func(change filewatch.Change) {
		if err := c.take(change); err != nil {
			_, _ = fmt.Fprintf(stderr, "mgmt-remote: %s changed and is no good, the old definition stays:\n%v\n", change.Path, err)
		}
	})
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "mgmt-remote: warning: changes of the definition are not followed:", err)
	}
}

func (c *composer) take(change filewatch.Change) error {
	if change.Err != nil {
		return change.Err
	}
	def, err := graph.Parse(change.Path, change.Content)
	if err != nil {
		return err
	}
	return c.declare(def)
}
