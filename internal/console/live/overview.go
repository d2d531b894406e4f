package live

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/mgmt-remote/mgmt-remote/internal/console"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
)

// The sizes from which on more is shown.
const (
	tall = 20 // each step has a row
	wide = 60 // places have bars
)

// maxSlow is how many of the slowest hosts are shown.
const maxSlow = 5

// head is what every screen begins with: the run and how far it is.
func (s *state) head(p *page, now time.Time) {
	title := fmt.Sprintf("run %s  %s  %s", s.run, console.DurationText(now.Sub(s.began).Truncate(time.Second)), console.Plural(len(s.hosts), "host"))
	if s.wave > 0 {
		title += fmt.Sprintf("  wave %d of %d", s.wave, s.waves)
	}
	switch {
	case s.paused != "":
		title = bold.Render(title) + "  " + warning.Render("PAUSED: "+s.paused)
	case s.converged > 0:
		title = bold.Render(title) + "  " + good.Render("converged, quiet for "+console.DurationText(s.converged))
	default:
		title = bold.Render(title)
	}
	p.add(title)

	done, all := s.done(), len(s.hosts)
	hosts, bytes := s.speed.perSecond()
	text := fmt.Sprintf(" %d/%d done", done, all)
	if hosts > 0 {
		text += fmt.Sprintf("  %.1f/s", hosts)
	}
	if left, ok := eta(float64(all-done), hosts); ok {
		text += "  " + console.DurationText(left.Round(time.Second)) + " left"
	}
	width := max(10, min(60, p.width-len(text)))
	p.add(good.Render(bar(done, all, width)) + text)

	var facts []string
	if s.sent > 0 {
		copied := console.BytesText(s.sent) + " copied"
		if bytes > 0 && s.left > 0 {
			copied += fmt.Sprintf(", %s/s", console.BytesText(int64(bytes)))
		}
		if left, ok := eta(float64(s.left), bytes); ok {
			copied += ", " + console.DurationText(left) + " left"
		}
		facts = append(facts, copied)
	}
	if s.quiet > 0 {
		facts = append(facts, fmt.Sprintf("%d of %d quiet", s.quiet, s.count[running]))
	}
	if s.limit > 0 {
		facts = append(facts, fmt.Sprintf("%d at once", s.limit))
	}
	p.add(faint.Render(strings.Join(facts, "   ")))
}

// overview is the screen that the view begins with.
func (s *state) overview(p *page, now time.Time, output bool, shown func(host string) bool) {
	s.head(p, now)
	s.places(p)
	if output {
		s.recentOutput(p, shown)
		return
	}
	slow := s.slowest(maxSlow)
	s.showFailures(p, min(len(slow)+2, max(0, p.room()/2)))
	s.showSlow(p, slow, now)
}

// places has a row for each place, or where the terminal is low a row for all that are at work.
func (s *state) places(p *page) {
	if p.height >= tall {
		for at := range places {
			if s.count[at] > 0 || at <= lastStep || at == succeeded {
				s.row(p, at.label(), at.style(), s.count[at], s.folds[at].pieces)
			}
		}
		return
	}
	var busy []string
	n := 0
	for at := connect; at <= lastStep; at++ {
		if s.count[at] > 0 {
			n += s.count[at]
			busy = append(busy, fmt.Sprintf("%s %d", at, s.count[at]))
		}
	}
	s.row(p, queued.label(), queued.style(), s.count[queued], s.folds[queued].pieces)
	s.row(p, "at work", atWork, n, busy)
	for at := retrying; at < places; at++ {
		if s.count[at] > 0 {
			s.row(p, at.label(), at.style(), s.count[at], s.folds[at].pieces)
		}
	}
}

// row is how many hosts are somewhere, and which.
func (s *state) row(p *page, label string, style lipgloss.Style, n int, pieces []string) {
	const labels, number, bars = 16, 6, 10
	text := style.Render(pad(label, labels)) + fmt.Sprintf("%*d", number, n)
	left := p.width - labels - number - 2
	if p.width >= wide {
		text += "  " + style.Render(bar(n, len(s.hosts), bars))
		left -= bars + 2
	}
	if n > 0 {
		text += "  " + fit(pieces, left)
	}
	p.add(text)
}

func (p place) label() string {
	if p >= connect && p <= lastStep {
		return fmt.Sprintf("%d %s", p, p)
	}
	return p.String()
}

// showFailures shows what went wrong, once for all hosts where it was the same. It leaves room for others.
func (s *state) showFailures(p *page, leave int) {
	if len(s.failures) == 0 || p.room() < leave+3 {
		return
	}
	p.add("")
	for i, f := range s.failures {
		if more := len(s.failures) - i; p.room() <= leave+1 && more > 1 {
			p.add(bad.Render(fmt.Sprintf("and %s more", console.Plural(more, "cause"))))
			return
		}
		text := cmp.Or(f.Text(), f.Outcome.String())
		who := fit(nodeset.FoldList(f.Hosts), max(20, p.width/2))
		p.add(bad.Render(who) + ": " + text)
		if f.Remedy != "" && p.room() > leave+1 {
			p.add(faint.Render("  " + console.Visible(f.Remedy)))
		}
	}
}

// showSlow shows the hosts that are longest at their places.
func (s *state) showSlow(p *page, slow []*host, now time.Time) {
	if len(slow) == 0 || p.room() < 3 {
		return
	}
	p.add("")
	p.add(faint.Render("slowest"))
	width := 0
	for _, h := range slow {
		width = max(width, len(h.name))
	}
	for _, h := range slow {
		p.add(pad(h.name, width) + "  " + h.place.style().Render(pad(h.place.label(), 16)) + " " + pad(console.DurationText(now.Sub(h.since)), 6) + " " + h.detail(now))
	}
}

// recentOutput shows what payloads wrote last.
func (s *state) recentOutput(p *page, shown func(host string) bool) {
	p.add("")
	p.add(faint.Render("output"))
	var lines []string
	for i := len(s.recent) - 1; i >= 0 && len(lines) < p.room(); i-- {
		if l := s.recent[i]; shown(l.host) {
			lines = append(lines, atWork.Render(l.host)+" | "+l.text)
		}
	}
	for i := len(lines) - 1; i >= 0; i-- {
		p.add(lines[i])
	}
}
