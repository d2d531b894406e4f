package live

import (
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// The styles of the view. The colours are the terminal's own, so that they are readable on dark and light backgrounds; where
// there are none, all the view says is in its words.
var (
	bold    = lipgloss.NewStyle().Bold(true)
	faint   = lipgloss.NewStyle().Faint(true)
	inverse = lipgloss.NewStyle().Reverse(true)
	good    = lipgloss.NewStyle().Foreground(lipgloss.Green)
	warning = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	bad     = lipgloss.NewStyle().Foreground(lipgloss.Red)
	atWork  = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
)

func (p place) style() lipgloss.Style {
	switch p {
	case queued:
		return faint
	case retrying, canceled:
		return warning
	case succeeded:
		return good
	case failed:
		return bad
	}
	return atWork
}

// page is lines of a screen, each as wide as the screen at most.
type page struct {
	width, height int
	lines         []string
}

// add adds a line, unless the page is full.
func (p *page) add(text string) {
	if len(p.lines) < p.height {
		p.lines = append(p.lines, ansi.Truncate(text, p.width, "…"))
	}
}

// room is how many lines still fit.
func (p *page) room() int { return p.height - len(p.lines) }

// finish fills the page up and puts the footer under it.
func (p *page) finish(footer string) string {
	for p.room() > 0 {
		p.lines = append(p.lines, "")
	}
	return strings.Join(append(p.lines, ansi.Truncate(footer, p.width, "…")), "\n")
}

// pad makes text as wide as a column.
func pad(text string, width int) string {
	text = ansi.Truncate(text, width, "…")
	return text + strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
}

// bar is a bar of width cells, part of whole full.
func bar(part, whole, width int) string {
	full := 0
	if whole > 0 {
		full = part * width / whole
		if part > 0 && full == 0 {
			full = 1
		}
	}
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

// fit joins as many pieces of a node set as fit into width; what does not fit is "…".
func fit(pieces []string, width int) string {
	var b strings.Builder
	for i, piece := range pieces {
		need := len(piece)
		if i > 0 {
			need++
		}
		if i < len(pieces)-1 {
			need += 2 // for what follows
		}
		if b.Len()+need > width {
			if i == 0 {
				return ansi.Truncate(piece, width, "…")
			}
			return b.String() + ",…"
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(piece)
	}
	return b.String()
}
