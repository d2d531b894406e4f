package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/internal/engine"
	"github.com/mgmt-remote/mgmt-remote/internal/exports"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/world"
)

// openWorld returns this host's part in the run that it belongs to, or nil where apply runs alone.
func openWorld() (*world.World, error) {
	opts, found, err := world.FromEnv(os.Getenv)
	if err != nil || !found {
		return nil, err
	}
	return world.Open(opts)
}

// sharedParts names what a definition has that is about other hosts.
func sharedParts(def *graph.Definition) []string {
	var parts []string
	for i := range def.Resources {
		if r := &def.Resources[i]; r.Exported() {
			parts = append(parts, r.ID.String())
		}
	}
	for _, c := range def.Collect {
		parts = append(parts, "collect into "+c.Pattern)
	}
	return parts
}

// composer makes what the engine applies of what the file declares and what other hosts export, each of which changes.
// Its methods are called from several goroutines.
type composer struct {
	engine  *engine.Engine
	printer *applyPrinter
	report  func(quiet bool) // to the group

	mu        sync.Mutex
	def       *graph.Definition // as the file says
	all       []exports.Export
	listed    bool // all is known
	quiet     bool // as the engine says
	collector exports.Collector
	refused   map[string]struct{} // told already
}

// declare takes a new definition.
func (c *composer) declare(def *graph.Definition) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.def
	c.def = def
	if err := c.update(); err != nil {
		c.def = before
		return err
	}
	return nil
}

// followExports collects what hosts export, until ctx ends.
func (c *composer) followExports(ctx context.Context, w *world.World, stderr io.Writer) {
	if err := w.WatchExports(ctx, c.collect); ctx.Err() == nil {
		_, _ = fmt.Fprintln(stderr, "mgmt-remote: warning: what other hosts export is not collected any more:", err)
	}
}

func (c *composer) collect(all []exports.Export) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.listed
	c.all, c.listed = all, true
	if len(c.def.Collect) == 0 {
		return
	}
	before := c.printer.total.Load()
	if err := c.update(); err != nil {
		c.printer.line("what other hosts export can't be applied: %v", err)
	}
	if first && c.printer.total.Load() == before {
		c.report(c.quiet) // there is nothing to collect, and the engine has nothing new to say
	}
}

// update is called with the lock held.
func (c *composer) update() error {
	merged, refused := c.collector.Merge(c.def, c.all)
	now := make(map[string]struct{}, len(refused))
	for _, r := range refused {
		text := r.String()
		if _, told := c.refused[text]; !told {
			c.printer.line("%s", text)
		}
		now[text] = struct{}{}
	}
	c.refused = now
	c.printer.total.Store(int64(len(merged.Resources)))
	return c.engine.Update(merged)
}

// status takes what the engine says and tells the group. A host that has something to collect is not quiet before it knows
// what there is.
func (c *composer) status(s engine.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = s == engine.Quiet
	c.report(c.quiet && (c.listed || len(c.def.Collect) == 0))
}

// Observe implements engine.Observer.
func (c *composer) Observe(ev engine.Event) {
	c.printer.Observe(ev)
	if ev.Kind != engine.Applied && ev.Kind != engine.Checked {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.collector.Applied(ev.ID) {
		if err := c.update(); err != nil {
			c.printer.line("%v", err)
		}
	}
}
