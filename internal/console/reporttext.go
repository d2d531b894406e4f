package console

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// The bounds of a report for people. All of it is in the one for programs.
const (
	maxRows     = 25  // hosts with a line of their own; more are grouped
	minTimed    = 5   // hosts from which on the times of steps are shown: of fewer, their own lines say it
	maxFailures = 20  // things that went wrong
	maxNodes    = 400 // bytes of a node set
)

// WriteReport writes a report for people: how each host or group of hosts ended, how long steps took, and what went wrong
// where and what can be done about it.
func WriteReport(out io.Writer, r Report, color bool) error {
	var b bytes.Buffer
	report(&b, r, paint{color})
	_, err := out.Write(b.Bytes())
	return err
}

func report(b *bytes.Buffer, r Report, p paint) {
	if len(r.Results) <= maxRows {
		table(b, r.Results, p)
	} else {
		groups(b, r.Results, p)
	}
	writeCount(b, r)
	if r.Hosts >= minTimed {
		totals(b, r)
		steps(b, r.Steps)
		waves(b, r.Waves)
	}
	for _, w := range r.Warnings[:min(len(r.Warnings), maxFailures)] {
		fmt.Fprintf(b, "\n%s: %s: %s\n", counted(w.Hosts), p.text(yellow, "warning"), Visible(w.Text))
	}
	writeFailures(b, r.Failures, p, false)
}

func writeCount(b *bytes.Buffer, r Report) {
	ok := r.Outcomes[messages.OutcomeSucceeded.String()]
	fmt.Fprintf(b, "\n%d of %s ok\n", ok, Plural(r.Hosts, "host"))
	if r.Exceeded != "" {
		fmt.Fprintf(b, "%s: no more hosts were begun\n", Visible(r.Exceeded))
	}
}

// totals is what all hosts together cost.
func totals(b *bytes.Buffer, r Report) {
	fmt.Fprintf(b, "%s in all, %s, %s copied", DurationText(r.Took), Plural(r.Attempts, "connection"), BytesText(r.BytesSent))
	if r.BytesSkipped > 0 {
		fmt.Fprintf(b, ", %s were there", BytesText(r.BytesSkipped))
	}
	fmt.Fprintf(b, ", %s of output", BytesText(r.OutputBytes))
	if r.OutputDropped > 0 {
		fmt.Fprintf(b, ", %s dropped", BytesText(r.OutputDropped))
	}
	b.WriteByte('\n')
}

// groups has one line for all hosts that ended in the same way.
func groups(b *bytes.Buffer, results []messages.Result, p paint) {
	all := byResult(results)
	width := len("RESULT")
	for _, g := range all {
		width = max(width, utf8.RuneCountInString(g.text))
	}
	fmt.Fprintf(b, "%-*s  %6s\n", width, "RESULT", "HOSTS")
	for _, g := range all {
		pad := strings.Repeat(" ", width-utf8.RuneCountInString(g.text))
		fmt.Fprintf(b, "%s%s  %6d  %s\n", p.text(outcomeColor(g.outcome), g.text), pad, len(g.hosts), nodes(g.hosts))
	}
}

// steps is how long each step took.
func steps(b *bytes.Buffer, steps []StepTime) {
	if len(steps) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%-16s  %7s  %7s  %7s\n", "STEP", "P50", "P99", "MAX")
	for _, s := range steps {
		fmt.Fprintf(b, "%d %-14s  %7s  %7s  %7s  %s\n", uint8(s.Step), s.Step, DurationText(s.P50), DurationText(s.P99), DurationText(s.Max), s.Slowest)
	}
}

// waves is how each wave went.
func waves(b *bytes.Buffer, waves []WaveCount) {
	if len(waves) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%-4s  %7s  %7s  %7s  %11s  %8s\n", "WAVE", "HOSTS", "OK", "FAILED", "UNREACHABLE", "TIME")
	for _, w := range waves {
		fmt.Fprintf(b, "%-4d  %7d  %7d  %7d  %11d  %8s\n", w.Wave, w.Hosts, w.Succeeded, w.Failed, w.Unreachable, DurationText(w.Took))
	}
}

// writeFailures writes what went wrong where, and what can be done about it. Where not all are wanted, those are left out of
// which a table says all there is.
func writeFailures(b *bytes.Buffer, failures []Failure, p paint, all bool) {
	shown, hosts := 0, 0
	for _, f := range failures {
		text := f.Text()
		if text == "" && all {
			text = ResultText(messages.Result{Outcome: f.Outcome, Exit: f.Exit})
		}
		if text == "" && f.Remedy == "" && f.LeftBehind == "" {
			continue
		}
		if shown++; shown > maxFailures {
			hosts += len(f.Hosts)
			continue
		}
		b.WriteString("\n" + p.text(outcomeColor(f.Outcome), counted(f.Hosts)) + strings.TrimRight(": "+text, " ") + "\n")
		if f.Remedy != "" {
			fmt.Fprintf(b, "    what to do: %s\n", Visible(f.Remedy))
		}
		if f.LeftBehind != "" {
			fmt.Fprintf(b, "    left behind: %s\n", Visible(f.LeftBehind))
		}
	}
	if n := shown - maxFailures; n > 0 {
		fmt.Fprintf(b, "\nand %s more on %s: --report FILE has all\n", Plural(n, "cause"), Plural(hosts, "host"))
	}
}

// counted is nodes, and how many they are where that is more than one.
func counted(hosts []string) string {
	if len(hosts) == 1 {
		return hosts[0]
	}
	return fmt.Sprintf("%s (%s)", nodes(hosts), Plural(len(hosts), "host"))
}

// nodes is a node set of hosts that is not too long to read: what does not fit is left out.
func nodes(hosts []string) string {
	text := nodeset.Fold(hosts)
	if len(text) <= maxNodes {
		return text
	}
	text = text[:strings.LastIndexByte(text[:maxNodes], ',')+1] + elided // names are shorter: there is a comma
	if strings.LastIndexByte(text, '[') > strings.LastIndexByte(text, ']') {
		text += "]"
	}
	return text
}
