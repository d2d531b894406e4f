package console

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// maxPartial bounds what is kept of a line of output that does not end, per host and stream, in bytes. What is longer
// is shown as several lines.
const maxPartial = 16 << 10

// LinesOptions says how lines are to look.
type LinesOptions struct {
	Terminal bool // somebody looks at it: control characters in payload output are shown, not sent
	Color    bool // see UseColor
	Verbose  bool // also states, beginnings of steps, progress, and what hosts say of themselves
}

// Lines is a Printer for people: a line for each step of each host, payload output behind the host's name ("host |
// text" for stdout, "host ! text" for stderr), and the report at the end of the run.
type Lines struct {
	options LinesOptions
	paint   paint

	mu      sync.Mutex
	out     io.Writer
	width   int // of the longest host name so far
	partial map[stream][]byte

	collector *Collector
}

// stream is one of the two outputs of a host's payload.
type stream struct {
	host   string
	stderr bool
}

// NewLines returns a printer that writes to out. The caller keeps out and closes it after the printer.
func NewLines(out io.Writer, options LinesOptions) *Lines {
	return &Lines{options: options, paint: paint{options.Color}, out: out, partial: map[stream][]byte{}, collector: NewCollector()}
}

// Print writes what an event has to say to people, which may be nothing.
func (l *Lines) Print(event messages.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b bytes.Buffer
	l.collector.Note(event)
	if err := l.format(&b, event); err != nil {
		return err
	}
	return l.flush(&b)
}

// Close writes the unfinished lines of all hosts.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b bytes.Buffer
	for _, s := range sortedStreams(l.partial) {
		l.endPartial(&b, s)
	}
	return l.flush(&b)
}

func (l *Lines) flush(b *bytes.Buffer) error {
	if b.Len() == 0 {
		return nil
	}
	_, err := l.out.Write(b.Bytes())
	return err
}

// format turns an event into lines. Every type of event has its case, even if there is nothing to show.
func (l *Lines) format(b *bytes.Buffer, event messages.Event) error {
	switch e := event.(type) {
	case messages.RunStarted:
		for _, host := range e.Hosts {
			l.width = max(l.width, len(host))
		}
		fmt.Fprintf(b, "run %s: %s\n", e.Run, Plural(len(e.Hosts), "host"))
	case messages.StateChanged:
		if l.options.Verbose {
			l.line(b, e.Host, "state %s, connection %d", e.State, e.Epoch)
		}
	case messages.StepStarted:
		if l.options.Verbose {
			l.line(b, e.Host, "step %d %-14s ...", uint8(e.Step), e.Step)
		}
	case messages.StepDone:
		text := fmt.Sprintf("step %d %-14s %s %6s  %s", uint8(e.Step), e.Step, l.paint.text(green, "done"), DurationText(e.Took), Visible(e.Detail))
		l.line(b, e.Host, "%s", strings.TrimRight(text, " "))
	case messages.HostTroubled:
		l.troubled(b, e)
	case messages.Progressed:
		if l.options.Verbose {
			l.line(b, e.Host, "copied %s of %s", BytesText(e.Sent), BytesText(e.Total))
		}
	case messages.PayloadStarted:
		if e.Reattached {
			l.line(b, e.Host, "payload still runs, pid %d%s", e.PID, restartsText(e.Restarts))
		} else if l.options.Verbose {
			l.line(b, e.Host, "payload runs, pid %d", e.PID)
		}
	case messages.HostPlanned:
		for line := range strings.Lines(planText(e)) {
			l.line(b, e.Host, "%s", strings.TrimSuffix(line, "\n"))
		}
	case messages.DefinitionUpdated:
		l.line(b, e.Host, "definition %d is on the host", e.Version)
	case messages.DefinitionNotUpdated:
		l.line(b, e.Host, "%s: %s", l.paint.text(yellow, fmt.Sprintf("definition %d is not on the host", e.Version)), Visible(e.Reason))
		if e.Remedy != "" {
			l.line(b, e.Host, "  %s", Visible(e.Remedy))
		}
	case messages.PayloadRestarted:
		l.endHost(b, e.Host)
		what := l.paint.text(yellow, fmt.Sprintf("payload restarted (%d)", e.Count))
		l.line(b, e.Host, "%s after %s, pid %d", what, exitText(e.Exit), e.PID)
	case messages.PayloadRerun:
		l.endHost(b, e.Host)
		l.line(b, e.Host, "%s, payload is started again (%d)", l.paint.text(yellow, "host was rebooted"), e.Count)
	case messages.HostWarned:
		l.line(b, e.Host, "%s: %s", l.paint.text(yellow, "warning"), Visible(e.Text))
	case messages.PayloadEnded:
		l.endHost(b, e.Host)
		l.line(b, e.Host, "payload ended: %s", exitText(e.Exit))
	case messages.OutputReceived:
		l.output(b, e)
	case messages.OutputDropped:
		l.line(b, e.Host, "%s of output dropped on the host: more than its limit was waiting", BytesText(dropped(e)))
	case messages.QuietReported:
		if l.options.Verbose {
			l.line(b, e.Host, "%s", map[bool]string{true: "quiet", false: "busy"}[e.Quiet])
		}
	case messages.Converged:
		if e.Host != "" {
			l.line(b, e.Host, "converged: quiet for %s", DurationText(e.For))
		} else {
			fmt.Fprintf(b, "%s\n", l.paint.text(bold, fmt.Sprintf("converged: %s quiet for %s", Plural(e.Members, "host"), DurationText(e.For))))
		}
	case messages.WaveStarted, messages.WaveFinished, messages.RunExceeded:
		l.rollout(b, e)
	case messages.RunPaused:
		fmt.Fprintf(b, "%s\n", l.paint.text(yellow, "paused: no more hosts begin"+because(e.Reason)))
	case messages.RunContinued:
		b.WriteString("continued\n")
	case messages.ConnectionsLimited:
		fmt.Fprintf(b, "%s at the same time from now on\n", hostsAtOnce(e.Limit))
	case messages.HostFinished:
		l.endHost(b, e.Result.Host)
		l.line(b, e.Result.Host, "%s after %s", l.paint.text(outcomeColor(e.Result.Outcome), ResultText(e.Result)), DurationText(e.Result.Took))
	case messages.RunFinished:
		for _, s := range sortedStreams(l.partial) {
			l.endPartial(b, s)
		}
		b.WriteByte('\n')
		report(b, l.collector.Report(), l.paint)
	default:
		return unknown(event)
	}
	return nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return "; " + Visible(reason)
}

func hostsAtOnce(limit int) string {
	if limit == 0 {
		return "all hosts"
	}
	return Plural(limit, "host")
}

func restartsText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", restarted %s so far", Plural(n, "time"))
}

func (l *Lines) troubled(b *bytes.Buffer, e messages.HostTroubled) {
	what := l.paint.text(yellow, fmt.Sprintf("attempt %d failed", e.Attempt))
	next := "again in " + DurationText(e.RetryIn)
	if !e.Retry {
		what = l.paint.text(red, fmt.Sprintf("attempt %d failed", e.Attempt))
		next = "given up"
	}
	l.line(b, e.Host, "%s: %s; %s", what, Visible(e.Reason), next)
}

// line writes one line about a host.
func (l *Lines) line(b *bytes.Buffer, host, format string, args ...any) {
	fmt.Fprintf(b, "%s  %s\n", l.prefix(host), fmt.Sprintf(format, args...))
}

// prefix is a host's name, as wide as the widest so far, and in a colour that it always has.
func (l *Lines) prefix(host string) string {
	l.width = max(l.width, len(host))
	sum := fnv.New32a()
	_, _ = io.WriteString(sum, host) // a hash takes everything
	sgr := hostColors[sum.Sum32()%uint32(len(hostColors))]
	return l.paint.text(sgr, host) + strings.Repeat(" ", l.width-len(host)) // escapes have no width
}

// output writes the lines that data completes and keeps the rest.
func (l *Lines) output(b *bytes.Buffer, e messages.OutputReceived) {
	s := stream{e.Host, e.Stderr}
	data := append(l.partial[s], e.Data...)
	before := len(data)
	for {
		end := bytes.IndexByte(data, '\n')
		if end < 0 && len(data) <= maxPartial {
			break
		}
		if end < 0 || end > maxPartial {
			cut := runeBoundary(data, maxPartial)
			l.outputLine(b, s, data[:cut])
			data = data[cut:]
			continue
		}
		l.outputLine(b, s, data[:end])
		data = data[end+1:]
	}
	switch len(data) {
	case 0:
		delete(l.partial, s)
	case before:
		l.partial[s] = data
	default:
		l.partial[s] = bytes.Clone(data) // not the big array it was cut from
	}
}

func (l *Lines) outputLine(b *bytes.Buffer, s stream, text []byte) {
	shown := string(text)
	if l.options.Terminal {
		shown = Visible(strings.TrimSuffix(shown, "\r"))
	}
	mark := "|"
	if s.stderr {
		mark = l.paint.text(red, "!")
	}
	fmt.Fprintf(b, "%s %s %s\n", l.prefix(s.host), mark, shown)
}

// endHost writes the unfinished lines of one host: nothing will be added to them.
func (l *Lines) endHost(b *bytes.Buffer, host string) {
	l.endPartial(b, stream{host, false})
	l.endPartial(b, stream{host, true})
}

func (l *Lines) endPartial(b *bytes.Buffer, s stream) {
	if data, ok := l.partial[s]; ok {
		l.outputLine(b, s, data)
		delete(l.partial, s)
	}
}
