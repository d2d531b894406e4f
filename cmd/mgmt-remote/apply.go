package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/internal/engine"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/world"
)

type applyOptions struct {
	noop  bool
	watch bool // follow changes of the file
	// convergedTimeout is how long everything must be as declared before apply ends by itself; negative = never.
	convergedTimeout time.Duration
	// failedTimeout is how long nothing but failed resources may be left before apply ends by itself; negative = never.
	failedTimeout time.Duration
}

// after returns how long a status may last before apply ends; negative = for ever.
func (o applyOptions) after(s engine.Status) time.Duration {
	switch {
	case s == engine.Busy:
		return -1
	case s == engine.Stuck && o.failedTimeout >= 0:
		return o.failedTimeout
	}
	return o.convergedTimeout
}

// newApplyCommand makes `mgmt-remote apply`: the engine alone, on this machine. It is also what runs on a host.
func newApplyCommand() *cobra.Command {
	var opts applyOptions
	var convergedTimeout, failedTimeout seconds
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make this machine as a definition says, and keep it so",
		Long: `Make this machine as the definition FILE says, and keep it so: what drifts is
applied again, until an interrupt or, with --converged-timeout, until nothing
was left to do for that long.

Prints one line for each change. Exit codes: 0 everything is as declared, or an
interrupt came while nothing had failed; 1 the definition or the usage is wrong,
nothing was touched; 2 a resource failed for good.`,
		Example: `  mgmt-remote apply site.yaml
  mgmt-remote apply --noop --converged-timeout 0 site.yaml  # what would change?
  mgmt-remote apply --converged-timeout 5s site.yaml        # end when done`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDefinitions,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.convergedTimeout, opts.failedTimeout = -1, -1
			if cmd.Flags().Changed("failed-timeout") {
				opts.failedTimeout = time.Duration(failedTimeout)
			}
			if cmd.Flags().Changed("converged-timeout") {
				opts.convergedTimeout = time.Duration(convergedTimeout)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return apply(ctx, args[0], opts, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVar(&opts.noop, "noop", false, "change nothing, only say what would change")
	cmd.Flags().BoolVar(&opts.watch, "watch", false, "go on with what is saved to FILE meanwhile; what is no good is told, and changes nothing")
	cmd.Flags().Var(&convergedTimeout, "converged-timeout",
		"end after nothing was left to do for `TIME`; 0 = at once (default: never)")
	cmd.Flags().Var(&failedTimeout, "failed-timeout",
		"end with exit code 2 after nothing but failed resources was left for so long (default: as --converged-timeout)")
	for _, name := range []string{"converged-timeout", "failed-timeout"} {
		cmd.Flags().Lookup(name).DefValue = "" // 0 is not the default but a good value
	}
	return cmd
}

func apply(ctx context.Context, file string, opts applyOptions, stdout, stderr io.Writer) (err error) {
	def, err := graph.Load(file)
	if err != nil {
		return err
	}
	w, err := openWorld()
	if err != nil {
		return err
	}
	p := &applyPrinter{out: stdout, noop: opts.noop, failed: make(map[string]struct{})}
	p.total.Store(int64(len(def.Resources)))
	c := &composer{printer: p, def: def, report: func(bool) {}}
	engineOptions := engine.Options{Noop: opts.noop, Observer: c}
	if w != nil {
		c.report, engineOptions.World = w.Report, w
		defer func() {
			ending := world.Finished
			if err != nil {
				ending = world.Unfinished
			}
			if err := w.Close(ending); err != nil { // the leases end by themselves; what was applied stays applied
				_, _ = fmt.Fprintln(stderr, "mgmt-remote: warning:", err)
			}
		}()
	} else if parts := sharedParts(def); len(parts) > 0 {
		p.line("this machine is alone, nothing is exchanged: %s", strings.Join(parts, ", "))
	}
	return c.run(ctx, engineOptions, opts, w, stderr)
}

// run applies until ctx ends or a status has lasted as long as it may.
func (c *composer) run(ctx context.Context, engineOptions engine.Options, opts applyOptions, w *world.World, stderr io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := time.AfterFunc(time.Hour, cancel)
	end.Stop()
	defer end.Stop()
	engineOptions.Status = func(s engine.Status) {
		c.status(s)
		c.printer.status(s)
		end.Stop()
		if d := opts.after(s); d >= 0 {
			end.Reset(d)
		}
	}
	if c.engine, err = engine.New(c.def, engineOptions); err != nil {
		return err
	}
	var following sync.WaitGroup
	if opts.watch {
		following.Go(func() { c.followFile(ctx, stderr) })
	}
	if w != nil {
		following.Go(func() { c.followExports(ctx, w, stderr) })
	}
	err = c.engine.Run(ctx)
	cancel()
	following.Wait()
	if err != nil {
		return err
	}
	if len(c.printer.failed) > 0 {
		_, _ = fmt.Fprintln(stderr, "mgmt-remote: failed:", c.printer.failures())
		return exitError(exitFailed)
	}
	return nil
}

// applyPrinter writes what happens, a line for each change. The engine calls it from one goroutine; line may be called
// from any.
type applyPrinter struct {
	noop   bool
	total  atomic.Int64 // how many resources there are
	mu     sync.Mutex   // of out
	out    io.Writer
	failed map[string]struct{} // what is failed for good right now
}

// Observe implements engine.Observer.
func (p *applyPrinter) Observe(ev engine.Event) {
	id := ev.ID.String()
	switch ev.Kind {
	case engine.Failed:
		p.failed[id] = struct{}{}
		p.line("%s: failed: %v", id, ev.Err)
	case engine.Retrying, engine.WatchEnded:
		p.line("%s: %s, next attempt in %v: %v", id, ev.Kind, ev.Delay, ev.Err)
	case engine.Applied, engine.WouldApply:
		delete(p.failed, id)
		p.line("%s: %s: %s", id, ev.Kind, ev.Change)
	case engine.Checked, engine.Released:
		delete(p.failed, id)
	}
	for text := range strings.Lines(ev.Diff + ev.Output) {
		p.line("  | %s", strings.TrimRight(text, "\r\n"))
	}
}

func (p *applyPrinter) status(s engine.Status) {
	switch {
	case s == engine.Quiet && p.noop:
		p.line("%d resources checked, nothing was changed", p.total.Load())
	case s == engine.Quiet:
		p.line("%d resources are as declared", p.total.Load())
	case s == engine.Stuck:
		p.line("nothing left to do, but failed: %s", p.failures())
	}
}

// failures lists what is failed right now.
func (p *applyPrinter) failures() string {
	return strings.Map(printable, strings.Join(slices.Sorted(maps.Keys(p.failed)), ", "))
}

// line writes one line. Names and output come from anywhere, so nothing in them reaches a terminal as a command. That a
// reader went away is no reason to stop applying, so write errors are dropped.
func (p *applyPrinter) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintln(p.out, strings.Map(printable, fmt.Sprintf(format, args...)))
}

func printable(r rune) rune {
	if r == '\t' || unicode.IsPrint(r) {
		return r
	}
	return '?'
}

// completeDefinitions completes the names of definition files, but not of templates.
func completeDefinitions(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}
