//go:build !engine

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/console"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// form is one way to show a run: a value of --output.
type form struct {
	name, what string // what: for completions
	printer    func(out io.Writer, l look) console.Printer
}

// look is what a form has to know of where it is shown, and of what the person wants.
type look struct {
	terminal bool // somebody looks at it
	color    bool
	verbose  bool
	diff     bool
	late     bool // the beginning of the run is not seen
}

// The names of forms that flags and defaults mean.
const (
	formLive  = "live"
	formLines = "lines"
	formFold  = "fold"
	formJSON  = "json"
	formQuiet = "quiet"
)

// forms are all values of --output.
var forms = []form{
	{formLive, "how far all hosts are, on a terminal, with keys to look at them and to steer the run", newLive},
	{formLines, "a line for each step and host, and payload output behind the host's name", func(out io.Writer, l look) console.Printer {
		return console.NewLines(out, console.LinesOptions{Terminal: l.terminal, Color: l.color, Verbose: l.verbose})
	}},
	{formFold, "equal output of hosts once, at the end", func(out io.Writer, l look) console.Printer {
		return console.NewFold(out, console.FoldOptions{Terminal: l.terminal, Color: l.color, Diff: l.diff, Late: l.late})
	}},
	{formJSON, "one JSON event per line", func(out io.Writer, _ look) console.Printer { return console.NewJSON(out) }},
	{formQuiet, "failures only", func(out io.Writer, l look) console.Printer { return console.NewQuiet(out, l.color) }},
}

// The values of --color.
const (
	colorAuto   = "auto"
	colorAlways = "always"
	colorNever  = "never"
)

// outputFlags are the flags that say how a run is shown, as given.
type outputFlags struct {
	form  string // "" = the default of where stdout leads
	json  bool
	color string // "" = colorAuto
	diff  bool
	asked *pflag.Flag // --diff; nil where there are no flags
	late  bool        // no flag: the beginning of the run is not seen

	logDir, report string
	plans          bool // the run only looks
}

func (f *outputFlags) register(p *pflag.FlagSet) {
	p.StringVarP(&f.form, "output", "o", "", "`FORM` of what stdout shows: "+words(formNames())+" (default: live on a terminal, else lines; with -v lines)")
	p.BoolVar(&f.json, "json", false, "short for --output json: one event per line (docs/events.md)")
	p.BoolVar(&f.diff, "diff", false, "with --output fold: of all groups but the biggest show only what differs from it")
	f.asked = p.Lookup("diff")
	p.StringVar(&f.color, "color", colorAuto, "`WHEN` to use colours: auto (on terminals, unless NO_COLOR is set), always or never")
}

// registerFiles adds the flags that say what is written beside stdout, which only one who drives a run can.
func (f *outputFlags) registerFiles(p *pflag.FlagSet) {
	p.StringVar(&f.logDir, "log-dir", "", "write each host's output to `DIR`/HOST.log")
	p.StringVar(&f.report, "report", "", "write the final report to `FILE`, as JSON (docs/events.md)")
}

// complete completes the values of the flags.
func (f *outputFlags) complete(cmd *cobra.Command) {
	values := make([]cobra.Completion, 0, len(forms))
	for _, f := range forms {
		values = append(values, cobra.CompletionWithDesc(f.name, f.what))
	}
	for flag, values := range map[string][]cobra.Completion{
		"output": values,
		"color": {
			cobra.CompletionWithDesc(colorAuto, "on terminals, unless NO_COLOR is set"),
			cobra.CompletionWithDesc(colorAlways, "also into files and pipes"), cobra.CompletionWithDesc(colorNever, "no colours"),
		},
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // there is no such flag: a mistake in this list
		}
	}
}

// chosen returns the form that is asked for, or that fits where nothing is said.
func (f *outputFlags) chosen(l look) (form, error) {
	name := f.form
	switch {
	case f.json && name != "" && name != formJSON:
		return form{}, fmt.Errorf("--json is --output json, and --output is %s: leave out one of them", name)
	case f.json:
		name = formJSON
	case name == formLive && !l.terminal:
		return form{}, errors.New("--output live is for terminals, and stdout is none")
	case name == "" && l.terminal && !l.verbose && os.Getenv("TERM") != "dumb":
		name = formLive
	case name == "":
		name = formLines
	}
	for _, form := range forms {
		if form.name == name {
			return form, nil
		}
	}
	return form{}, fmt.Errorf("--output %q: use %s", name, words(formNames()))
}

// nothingShown is an error where flags say how to show what is not shown.
func (f *outputFlags) nothingShown() error {
	switch {
	case f.json:
		return errors.New("--detach shows nothing: leave out --json, and give it to attach")
	case f.form != "":
		return errors.New("--detach shows nothing: leave out --output, and give it to attach")
	}
	return nil
}

// open makes what a run is shown by: stdout first, then the files that are to be written.
func (f *outputFlags) open(stdout io.Writer, verbose bool) (shown, error) {
	l := look{terminal: isTerminal(stdout), verbose: verbose, diff: f.diff, late: f.late}
	form, err := f.chosen(l)
	if err != nil {
		return nil, err
	}
	if f.diff && form.name != formFold && f.asked.Annotations[originKey] == nil { // one who always wants it may do without
		return nil, errors.New("--diff is for --output fold")
	}
	switch f.color {
	case colorAuto, "":
		l.color = console.UseColor(l.terminal, os.Getenv)
	case colorAlways, colorNever:
		l.color = f.color == colorAlways
	default:
		return nil, fmt.Errorf("--color %q: use auto, always or never", f.color)
	}
	printer := form.printer
	if f.plans && form.name != formJSON {
		printer = func(out io.Writer, l look) console.Printer { return console.NewPlans(out, l.color) }
	}
	all := shown{{Printer: printer(stdout, l), to: "stdout"}}
	if f.logDir != "" {
		dir, err := openLogDir(f.logDir)
		if err != nil {
			return nil, fmt.Errorf("--log-dir: %w", err)
		}
		all = append(all, &sink{Printer: dir, to: "--log-dir"})
	}
	if f.report != "" {
		file, err := console.NewReportFile(f.report)
		if err != nil {
			return nil, fmt.Errorf("--report: %w", err)
		}
		all = append(all, &sink{Printer: file, to: "--report"})
	}
	return all, nil
}

// openLogDir refuses the place of a run's own logs, which are what the new ones are made of.
func openLogDir(dir string) (*console.LogDir, error) {
	if _, err := os.Stat(dir + "/../journal.jsonl"); err == nil {
		return nil, fmt.Errorf("a run keeps its own logs in %s: name another directory", dir)
	}
	return console.NewLogDir(dir, ownLogs)
}

// ownLogs is where a run's own logs of its hosts' output are.
func ownLogs(run string) (string, error) {
	dir, err := fleet.RunDir("", run)
	return filepath.Join(dir, "logs"), err
}

// shown are all that get a run's events, in this order.
type shown []*sink

// sink is a printer, and where it prints to.
type sink struct {
	console.Printer
	to     string // for people
	broken error  // why it gets nothing any more
}

// beginner is a printer that wants the fleet before that runs: to ask what can't be asked later, or to steer it. Its error
// keeps the run from beginning.
type beginner interface {
	begin(ctx context.Context, f *fleet.Fleet) error
}

// files are all but stdout.
func (s shown) files() shown { return s[1:] }

// begin gives the fleet to those who want it.
func (s shown) begin(ctx context.Context, f *fleet.Fleet) error {
	for _, sink := range s {
		if b, wants := sink.Printer.(beginner); wants {
			if err := b.begin(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// print gives an event to all. One that fails gets nothing any more, and does not keep the others from anything. The
// error is what failed at this event.
func (s shown) print(event messages.Event) error {
	var errs []error
	for _, sink := range s {
		if sink.broken != nil {
			continue
		}
		if err := sink.Print(event); err != nil {
			sink.broken = fmt.Errorf("write to %s: %w", sink.to, err)
			errs = append(errs, sink.broken)
		}
	}
	return errors.Join(errs...)
}

// close closes all. The error has all that ever failed.
func (s shown) close() error {
	var errs []error
	for _, sink := range s {
		err := sink.Close()
		if sink.broken != nil {
			err = sink.broken // what else went wrong afterwards is no news
		} else if err != nil {
			err = fmt.Errorf("write to %s: %w", sink.to, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func formNames() []string {
	names := make([]string, len(forms))
	for i, f := range forms {
		names[i] = f.name
	}
	return names
}

// words lists alternatives: "a, b or c".
func words(all []string) string {
	last := len(all) - 1
	return strings.Join(all[:last], ", ") + " or " + all[last]
}
