package console

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// FoldOptions says how folded output is to look.
type FoldOptions struct {
	Terminal bool // somebody looks at it: control characters in payload output are shown, not sent
	Color    bool // see UseColor
	Diff     bool // of all groups but the biggest only what differs from that
	Late     bool // the beginning of the run was not seen: of hosts without output nothing is known

	MaxHost  int // bytes of output kept of one host, 0 = 128 KiB
	MaxTotal int // bytes kept of all, 0 = 256 MiB
}

// Fold is a Printer for people that shows equal output once: at the end of the run one block for all hosts that wrote the same and
// ended in the same way, the biggest group first, and then the report. Stdout and stderr are compared each for itself,
// because the order between them is chance, and stdout is shown first.
//
// Its memory is bounded, see FoldOptions. What is not kept is compared all the same, and a note stands where it was cut.
type Fold struct {
	options FoldOptions
	paint   paint

	mu        sync.Mutex
	out       io.Writer
	collector *Collector
	hosts     map[string]*spoken        // that are not done
	groups    map[foldKey]*foldGroup    // of hosts that are done
	exits     map[string]*messages.Exit // of payloads that ended on hosts that are not done
	kept      int                       // bytes of output in memory
	over      bool
}

// foldKey is what hosts of one group have in common.
type foldKey struct {
	stdout, stderr digest
	missing        bool
	end            string
}

type foldGroup struct {
	spoken
	end   string // how the payload ended; "" = well
	bad   bool
	hosts []string
}

// NewFold returns a printer that writes to out. The caller keeps out and closes it after the printer.
func NewFold(out io.Writer, options FoldOptions) *Fold {
	options.MaxHost = cmp.Or(options.MaxHost, 128<<10)
	options.MaxTotal = cmp.Or(options.MaxTotal, 256<<20)
	return &Fold{
		options: options, paint: paint{options.Color}, out: out, collector: NewCollector(),
		hosts: map[string]*spoken{}, groups: map[foldKey]*foldGroup{}, exits: map[string]*messages.Exit{},
	}
}

// Print notes an event. At the last one it writes everything.
func (f *Fold) Print(event messages.Event) error {
	if messages.EventName(event) == "" {
		return unknown(event)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.collector.Note(event)
	switch e := event.(type) {
	case messages.OutputReceived:
		if f.hosts[e.Host] == nil {
			f.hosts[e.Host] = &spoken{}
		}
		f.kept += f.hosts[e.Host].add(e, f.options.MaxHost, f.options.MaxTotal-f.kept)
	case messages.PayloadEnded:
		f.exits[e.Host] = &e.Exit
	case messages.HostFinished:
		f.done(e.Result)
	case messages.RunFinished:
		if err := f.blocks(); err != nil {
			return err
		}
		var b bytes.Buffer
		report(&b, f.collector.Report(), f.paint)
		_, err := f.out.Write(b.Bytes())
		return err
	}
	return nil
}

// Close writes what there is of a run whose end was not seen.
func (f *Fold) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.blocks()
}

// done puts a host into its group, where one copy of the output is enough.
func (f *Fold) done(r messages.Result) {
	said := f.hosts[r.Host]
	exit := cmp.Or(r.Exit, f.exits[r.Host])
	delete(f.hosts, r.Host)
	delete(f.exits, r.Host)
	end, bad := r.Outcome.String(), r.Outcome != messages.OutcomeSucceeded
	if exit != nil {
		end, bad = "", !exit.OK()
		if bad {
			end = exitText(*exit)
		}
	} else if said == nil {
		return // nothing ran: the report says why
	}
	f.group(r.Host, said, end, bad)
}

func (f *Fold) group(host string, said *spoken, end string, bad bool) {
	if said == nil && f.options.Late {
		return
	}
	if said == nil {
		said = &spoken{}
	}
	key := foldKey{said.stdout.digest(), said.stderr.digest(), said.missing, end}
	g := f.groups[key]
	switch {
	case g == nil:
		g = &foldGroup{spoken: *said, end: end, bad: bad}
		f.groups[key] = g
	case g.size() < said.size(): // it was cut earlier
		f.kept -= g.size()
		g.spoken = *said
	default:
		f.kept -= said.size()
	}
	g.hosts = append(g.hosts, host)
}

// blocks writes the groups, once.
func (f *Fold) blocks() error {
	if f.over {
		return nil
	}
	f.over = true
	for host, said := range f.hosts {
		end, bad := "not ended", false
		if exit := f.exits[host]; exit != nil && exit.OK() {
			end = ""
		} else if exit != nil {
			end, bad = exitText(*exit), true
		}
		f.group(host, said, end, bad)
	}
	all := make([]*foldGroup, 0, len(f.groups))
	for _, g := range f.groups {
		slices.SortFunc(g.hosts, nodeset.Compare)
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *foldGroup) int {
		return cmp.Or(cmp.Compare(len(b.hosts), len(a.hosts)), nodeset.Compare(a.hosts[0], b.hosts[0]))
	})
	var first string // what the biggest group wrote, where the others are compared with it
	if len(all) > 1 && f.options.Diff && !all[0].cut() {
		first = f.lines(all[0], paint{})
	}
	for i, g := range all {
		var b bytes.Buffer
		if i == 0 || first == "" || g.cut() || g.size() == 0 {
			f.block(&b, g)
		} else {
			f.difference(&b, g, first, nodes(all[0].hosts))
		}
		if _, err := f.out.Write(b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// block writes one group: its hosts, and what they wrote.
func (f *Fold) block(b *bytes.Buffer, g *foldGroup) {
	if g.size() == 0 && !g.cut() {
		f.head(b, g, ": no output")
	} else {
		f.head(b, g, ":")
	}
	b.WriteString(f.lines(g, f.paint) + "\n")
}

// difference writes one group: its hosts, and how what they wrote differs from what others did.
func (f *Fold) difference(b *bytes.Buffer, g *foldGroup, other, others string) {
	text := f.lines(g, paint{})
	if text == other {
		f.head(b, g, ": the same output as "+others)
	} else {
		f.head(b, g, ": differs from "+others)
		b.WriteString(f.diff(other, text))
	}
	b.WriteByte('\n')
}

// head writes whose block it is, and how their payloads ended where that was not well.
func (f *Fold) head(b *bytes.Buffer, g *foldGroup, more string) {
	text := fmt.Sprintf("%s (%s)", nodes(g.hosts), Plural(len(g.hosts), "host"))
	if g.end != "" {
		text += ", " + g.end
	}
	sgr := bold
	if g.bad {
		sgr = red
	}
	b.WriteString(f.paint.text(sgr, text+more) + "\n")
}

// diff is a unified diff without its head, which names files.
func (f *Fold) diff(before, after string) string {
	text := string(diff.Diff("a", []byte(before), "b", []byte(after)))
	for range 3 {
		_, text, _ = strings.Cut(text, "\n")
	}
	if !f.paint.on {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		sgr := map[byte]string{'-': red, '+': green, '@': bold}[line[0]]
		b.WriteString(f.paint.text(sgr, strings.TrimSuffix(line, "\n")) + "\n")
	}
	return b.String()
}

// lines is what a group wrote, with "| " before each line of stdout and "! " before each one of stderr, so that nothing a
// host writes looks like a line of ours.
func (f *Fold) lines(g *foldGroup, p paint) string {
	var b strings.Builder
	if g.missing {
		b.WriteString(elided + " some output is missing here: it was dropped, or another initiator had it\n")
	}
	for _, s := range []struct {
		text *heard
		mark string
	}{{&g.stdout, "| "}, {&g.stderr, p.text(red, "!") + " "}} {
		for line := range strings.Lines(string(s.text.head)) {
			line = strings.TrimSuffix(line, "\n")
			if f.options.Terminal {
				line = Visible(strings.TrimSuffix(line, "\r"))
			}
			b.WriteString(s.mark + line + "\n")
		}
		if n := s.text.cut(); n > 0 {
			fmt.Fprintf(&b, "%s %s more is not kept; --log-dir DIR keeps all\n", elided, BytesText(n))
		}
	}
	return b.String()
}
