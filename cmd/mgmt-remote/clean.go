//go:build !engine

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/fleet"
)

func newCleanCommand() *cobra.Command {
	f := defaultRunFlags()
	f.endpoint = endpointUnix
	var what fleet.CleanOptions
	cmd := &cobra.Command{
		Use:   "clean [flags] -H HOST…",
		Short: "Remove what dead runs left on hosts",
		Long: `Look on every host for what dead runs left: sessions whose shim is not alive,
and what their payloads left running. That is ended and removed, and said.

Sessions that live are named and left alone, unless --live is given. Runs that
this machine drives at the moment are always left alone, and so is a session
directory in which nothing was started yet and that is younger than 15 minutes.

What is looked for is the user's who logs in, or with --become the other one's.

Exit codes: 0 all good, 1 usage or configuration, 2 some host failed, 4 only
unreachable hosts, 130 interrupted.`,
		Example: `  mgmt-remote clean -H h1 -H h2 --dry-run
  mgmt-remote clean -H root@192.0.2.7 --cache
  mgmt-remote clean -I fleet.yaml -l 'web & !dc2'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return clean(cmd, &f, what) },
	}
	p := cmd.Flags()
	p.SortFlags = false
	flagGroup(p, "Hosts and what goes", func(p *pflag.FlagSet) {
		f.hosts.register(p, "a `HOST` to clean, or many: 'web[1-20]' (repeatable)")
		p.StringVar(&f.prefix, "prefix", "", "look into `DIR` too, besides /var/tmp, ~/.cache and /tmp")
		p.BoolVar(&what.Cache, "cache", false, "remove the cache of programs too, where no session is left")
		p.BoolVar(&what.Live, "live", false, "end sessions that live, too: their payloads get SIGTERM, later SIGKILL")
		p.BoolVar(&what.DryRun, "dry-run", false, "change nothing, say what would be removed")
	})
	flagGroup(p, "Connections", f.connect)
	flagGroup(p, "Another user", f.become.register)
	flagGroup(p, "Output", func(p *pflag.FlagSet) {
		p.BoolVar(&f.output.json, "json", false, "one JSON object per host and line on stdout")
		p.CountVarP(&f.verbose, "verbose", "v", "``say more; twice: log everything")
		p.StringVar(&f.logFormat, "log-format", "text", "`FORMAT` of the log on stderr: text or json")
	})
	f.hosts.complete(cmd)
	completeConnections(cmd)
	f.become.complete(cmd)
	f.password.complete(cmd)
	return cmd
}

func clean(cmd *cobra.Command, f *runFlags, what fleet.CleanOptions) error {
	opts, err := f.options()
	if err != nil {
		return err
	}
	hosts, err := f.hosts.choose(cmd)
	if err != nil {
		return err
	}
	if len(hosts) == 0 {
		return errNoHost
	}
	if opts.Hosts, err = f.fleetHosts(hosts, nil); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := fleet.Clean(ctx, opts, what)
	if err != nil {
		return err
	}
	if f.output.json {
		err = cleanedJSON(cmd.OutOrStdout(), results)
	} else {
		err = cleanedTable(cmd.OutOrStdout(), results, what.DryRun)
	}
	if err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	if ctx.Err() != nil {
		return exitError(exitInterrupted)
	}
	return cleanedCode(results)
}

// cleanedCode says how it went in one number.
func cleanedCode(results []fleet.CleanResult) error {
	code := exitOK
	for _, r := range results {
		switch {
		case r.Err != nil && (r.Err.Kind == fault.Unreachable || r.Err.Kind == fault.Lost || r.Err.Kind == fault.Busy):
			if code == exitOK {
				code = exitUnreachable
			}
		case r.Err != nil || len(r.Cleaned.Failed) > 0:
			code = exitFailed
		}
	}
	if code == exitOK {
		return nil
	}
	return exitError(code)
}

// cleanedJSON writes one object per host.
func cleanedJSON(out io.Writer, results []fleet.CleanResult) error {
	enc := json.NewEncoder(out)
	for _, r := range results {
		line := struct {
			Host string `json:"host"`
			fleet.Cleaned
			Error  string `json:"error,omitempty"`
			Kind   string `json:"kind,omitempty"`
			Remedy string `json:"remedy,omitempty"`
		}{Host: r.Host, Cleaned: r.Cleaned}
		if r.Err != nil {
			line.Error, line.Kind, line.Remedy = r.Err.Err.Error(), r.Err.Kind.String(), r.Err.Remedy
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// cleanedTable writes a line for each thing that was found on each host.
func cleanedTable(out io.Writer, results []fleet.CleanResult, dry bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	would := ""
	if dry {
		would = "would be "
	}
	for _, r := range results {
		lines := 0
		row := func(what, format string, args ...any) {
			lines++
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", r.Host, what, strings.Map(printable, fmt.Sprintf(format, args...))) // Flush has the error
		}
		c := r.Cleaned
		for _, s := range c.Stopped {
			row(would+"stopped", "run %s, host %s, shim %d", s.Run, s.Host, s.PID)
		}
		for _, e := range c.Ended {
			row(would+"ended", "processes %s of %s", strings.Trim(fmt.Sprint(e.PIDs), "[]"), e.Session)
		}
		for _, d := range c.Removed {
			row(would+"removed", "%s (%d KiB)", d.Path, d.Bytes>>10)
		}
		for _, s := range c.Alive {
			row("alive", "run %s, host %s, shim %d: --live ends it", s.Run, s.Host, s.PID)
		}
		for _, s := range c.Spared {
			why := "this machine drives it"
			if s.Why == "young" {
				why = "it may be about to start"
			}
			row("left alone", "run %s, host %s: %s", s.Run, s.Host, why)
		}
		for _, path := range c.CacheKept {
			row("kept", "%s: sessions may need it", path)
		}
		for _, x := range c.Failed {
			row("failed", "%s: %s (look at it and remove it by hand)", x.Path, x.Reason)
		}
		if r.Err != nil {
			shown := *r.Err.WithHost("")
			row("failed", "%s", shown.Error())
		}
		if lines == 0 {
			row("clean", "nothing was left")
		}
	}
	return w.Flush()
}
