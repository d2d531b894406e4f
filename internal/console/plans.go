package console

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Plans is a Printer for a run that only looks: at the end it writes what would be done, once for all hosts of which that is the same,
// and what is in the way on the others.
type Plans struct {
	paint paint

	mu        sync.Mutex
	out       io.Writer
	waves     []messages.WaveStarted
	hosts     map[string][]string // with this plan
	collector *Collector
}

// NewPlans returns a printer that writes to out. The caller keeps out and closes it after the printer.
func NewPlans(out io.Writer, color bool) *Plans {
	return &Plans{paint: paint{color}, out: out, hosts: map[string][]string{}, collector: NewCollector()}
}

// Print keeps an event; the last one has everything written.
func (p *Plans) Print(event messages.Event) error {
	if messages.EventName(event) == "" {
		return unknown(event)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.collector.Note(event)
	switch e := event.(type) {
	case messages.WaveStarted:
		p.waves = append(p.waves, e)
	case messages.HostPlanned:
		text := planText(e)
		p.hosts[text] = append(p.hosts[text], e.Host)
	case messages.RunFinished:
		return p.write()
	}
	return nil
}

// Close does nothing: all was written at the end of the run.
func (p *Plans) Close() error { return nil }

func (p *Plans) write() error {
	var b bytes.Buffer
	for _, w := range p.waves {
		fmt.Fprintf(&b, "wave %d of %d: %s, %s\n", w.Wave, w.Waves, Plural(len(w.Hosts), "host"), nodes(w.Hosts))
	}
	if len(p.waves) > 0 {
		b.WriteByte('\n')
	}
	plans := make([]string, 0, len(p.hosts))
	for text := range p.hosts {
		plans = append(plans, text)
	}
	slices.SortFunc(plans, func(a, b string) int { // the most frequent first
		return cmp.Or(cmp.Compare(len(p.hosts[b]), len(p.hosts[a])), nodeset.Compare(p.hosts[a][0], p.hosts[b][0]))
	})
	planned := 0
	for _, text := range plans {
		hosts := p.hosts[text]
		planned += len(hosts)
		fmt.Fprintf(&b, "%s: %s\n", p.paint.text(bold, Plural(len(hosts), "host")), nodes(hosts))
		for line := range strings.Lines(text) {
			b.WriteString("    " + line)
		}
		b.WriteByte('\n')
	}
	r := p.collector.Report()
	fmt.Fprintf(&b, "%d of %s can be worked on; nothing was changed on any\n", planned, Plural(r.Hosts, "host"))
	writeFailures(&b, r.Failures, p.paint, false)
	_, err := p.out.Write(b.Bytes())
	return err
}

// planText is a plan for people, a line for each thing. It names no host.
func planText(e messages.HostPlanned) string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", what, Visible(fmt.Sprintf(format, args...)))
	}
	line("host", "%s, as %s", e.Platform, e.User)
	if e.Action != "start" {
		line(e.Action, "what is in %s", e.Base)
		return b.String()
	}
	state := "would be made"
	if e.Exists {
		state = "is there"
	}
	line("directory", "%s (%s), and SESSION, a directory of this run below it", e.Base, state)
	for _, c := range e.Copies {
		if c.Cached {
			line("cached", "%s, %s", c.Name, BytesText(c.Bytes))
		} else {
			line("copy", "%s, %s", c.Name, BytesText(c.Bytes))
		}
	}
	switch e.Tunnel {
	case "forward":
		line("tunnel", "a forwarded socket; standard streams where the server refuses that")
	default:
		line("tunnel", "%s", "standard streams")
	}
	line("start", "%s", strings.Join(e.Command, " "))
	if e.Cache {
		line("remove", "SESSION, at the end; copies of programs stay in the cache")
	} else {
		line("remove", "everything, at the end")
	}
	return b.String()
}
