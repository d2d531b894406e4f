package main

import (
	"context"
	"fmt"
	"io"

	"github.com/mgmt-remote/mgmt-remote/internal/engine"
	"github.com/mgmt-remote/mgmt-remote/internal/filewatch"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// follow gives the engine what is saved to the definition's file, until ctx ends. The returned function waits for that.
func follow(ctx context.Context, e *engine.Engine, def *graph.Definition, stderr io.Writer) func() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := filewatch.Watch(ctx, map[string][]byte{def.File: def.Source}, func(c filewatch.Change) {
			if err := update(e, c); err != nil {
				_, _ = fmt.Fprintf(stderr, "mgmt-remote: %s changed and is no good, the old definition stays:\n%v\n", c.Path, err)
			}
		})
		if err != nil {
			_, _ = fmt.Fprintln(stderr, "mgmt-remote: warning: changes of the definition are not followed:", err)
		}
	}()
	return func() { <-ended }
}

func update(e *engine.Engine, c filewatch.Change) error {
	if c.Err != nil {
		return c.Err
	}
	def, err := graph.Parse(c.Path, c.Content)
	if err != nil {
		return err
	}
	return e.Update(def)
}
