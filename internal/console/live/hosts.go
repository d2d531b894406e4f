package live

import (
	"fmt"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/console"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// filter says which hosts are shown. The zero value shows all.
type filter struct {
	text  string
	names map[string]bool // where the text is a node set
}

// newFilter makes a filter of what was typed: a part of a name, a node set (web[1-20]), or a place (failed, copy).
func newFilter(text string) filter {
	f := filter{text: strings.ToLower(strings.TrimSpace(text))}
	if strings.ContainsAny(text, "[,") {
		if names, err := nodeset.Parse(text); err == nil {
			f.names = make(map[string]bool, len(names))
			for _, name := range names {
				f.names[name] = true
			}
		}
	}
	return f
}

func (f filter) shows(h *host) bool {
	switch {
	case f.text == "":
		return true
	case f.names != nil:
		return f.names[h.name]
	}
	return strings.Contains(strings.ToLower(h.name), f.text) || strings.Contains(h.place.String(), f.text)
}

// shown returns the hosts that a filter shows, in their order.
func (s *state) shown(f filter) []*host {
	if f.text == "" {
		return s.hosts
	}
	var all []*host
	for _, h := range s.hosts {
		if f.shows(h) {
			all = append(all, h)
		}
	}
	return all
}

// detail is what there is to say of a host at its place.
func (h *host) detail(now time.Time) string {
	switch {
	case h.result != nil:
		text := console.ResultText(*h.result)
		if text == h.place.String() {
			text = "" // said already
		}
		if h.result.Reason != "" {
			text = strings.TrimPrefix(text+": "+console.Visible(h.result.Reason), ": ")
		}
		return text
	case h.place == retrying:
		text := fmt.Sprintf("attempt %d failed: %s", h.failed, h.reason)
		if left := h.retry.Sub(now); left > 0 {
			text += "; again in " + console.DurationText(left)
		}
		return text
	case h.place == copying && h.total > 0:
		return fmt.Sprintf("%d%% of %s", h.sent*100/h.total, console.BytesText(h.total))
	case h.place == running && h.quiet:
		return fmt.Sprintf("pid %d, quiet", h.pid)
	case h.place == running && h.pid > 0:
		return fmt.Sprintf("pid %d", h.pid)
	}
	return ""
}

// list is the screen of all hosts, or those that the filter shows.
func (s *state) list(p *page, now time.Time, hosts []*host, selected, top int) {
	s.head(p, now)
	width := 8
	for _, h := range hosts[top:min(top+p.height, len(hosts))] {
		width = max(width, min(len(h.name), 40))
	}
	p.add(faint.Render(pad("HOST", width) + "  " + pad("AT", 16) + " FOR"))
	if len(hosts) == 0 {
		p.add("no host is like that")
	}
	for i := top; i < len(hosts) && p.room() > 0; i++ {
		h := hosts[i]
		name := pad(h.name, width)
		if i == selected {
			name = inverse.Render(name)
		}
		since := console.DurationText(now.Sub(h.since))
		if h.result != nil {
			since = console.DurationText(h.result.Took)
		}
		p.add(name + "  " + h.place.style().Render(pad(h.place.label(), 16)) + " " + pad(since, 6) + " " + h.detail(now))
	}
}

// inspect is the screen of one host.
func (h *host) inspect(p *page, now time.Time) {
	p.add(bold.Render(h.name) + "  " + h.place.style().Render(h.place.label()) + "  " + h.detail(now))
	facts := fmt.Sprintf("connection %d", h.epoch)
	if h.state != "" {
		facts += ", state " + h.state
	}
	if h.pid > 0 {
		facts += fmt.Sprintf(", pid %d", h.pid)
	}
	if h.failed > 0 {
		facts += fmt.Sprintf(", %s failed", console.Plural(h.failed, "attempt"))
	}
	p.add(faint.Render(facts))
	var took []string
	for step := messages.StepConnect; step <= messages.StepDisconnect; step++ {
		if d := h.took[step]; d > 0 {
			took = append(took, step.String()+" "+console.DurationText(d))
		}
	}
	if len(took) > 0 {
		p.add(strings.Join(took, "  "))
	}
	if h.failed > 0 {
		p.add(warning.Render("last trouble: ") + h.reason)
	}
	if h.result != nil && h.result.Remedy != "" {
		p.add("what to do: " + console.Visible(h.result.Remedy))
	}
	if h.result != nil && h.result.LeftBehind != "" {
		p.add("left behind: " + console.Visible(h.result.LeftBehind))
	}
	p.add("")
	p.add(faint.Render("output"))
	lines := strings.Split(strings.TrimRight(string(h.tail), "\n"), "\n")
	for _, text := range lines[max(0, len(lines)-p.room()):] {
		p.add(outputText([]byte(text)))
	}
}
