package main

import (
	"fmt"
	"image/color"
	"strings"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/ansi"

	"github.com/mgmt-remote/mgmt-remote/test/terminal"
)

// run is neighbouring cells of a row that look the same.
type run struct {
	x, width int
	text     string // "" where only the background is to be seen
	style    style
}

// style is how cells look. Colours are those of SVG; "" is the default one.
type style struct {
	fg, bg                          string
	bold, faint, italic, underlined bool
}

// The colours of the film, which are those of no terminal in particular.
const (
	background = "#0d1117"
	foreground = "#c9d1d9"
)

var palette = [16]string{
	"#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4",
	"#6e7681", "#ffa198", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#f0f6fc",
}

// plain is text without escape sequences.
func plain(styled string) string { return ansi.Strip(styled) }

// runs takes a screen of the recorded size apart: for each row, what is to be seen there.
func runs(s terminal.Screen) [rows][]run {
	buffer := uv.NewScreenBuffer(cols, rows)
	uv.NewStyledString(s.Styled).Draw(buffer, buffer.Bounds())
	var all [rows][]run
	for y := range rows {
		for x := 0; x < cols; {
			cell := buffer.CellAt(x, y)
			content, width, look := " ", 1, style{}
			if cell != nil && cell.Width > 0 {
				content, width, look = cell.Content, cell.Width, styleOf(cell.Style)
			}
			if s.Cursor && s.CursorX == x && s.CursorY == y {
				look.fg, look.bg = background, foreground
			}
			all[y] = extend(all[y], run{x, width, content, look})
			x += width
		}
		all[y] = seen(all[y])
	}
	return all
}

// extend adds a cell to a row.
func extend(row []run, cell run) []run {
	if n := len(row); n > 0 && row[n-1].style == cell.style {
		row[n-1].text += cell.text
		row[n-1].width += cell.width
		return row
	}
	return append(row, cell)
}

// seen leaves out what can't be seen: blanks at the ends of runs without a background.
func seen(row []run) []run {
	var out []run
	for _, r := range row {
		if r.style.bg == "" && !r.style.underlined {
			trimmed := strings.TrimLeft(r.text, " ")
			r.x += len(r.text) - len(trimmed)
			r.width -= len(r.text) - len(trimmed)
			r.text = strings.TrimRight(trimmed, " ")
			r.width -= len(trimmed) - len(r.text)
		} else if strings.TrimSpace(r.text) == "" {
			r.text = ""
		}
		if r.width > 0 {
			out = append(out, r)
		}
	}
	return out
}

func styleOf(s uv.Style) style {
	look := style{
		fg: hex(s.Fg), bg: hex(s.Bg),
		bold: s.Attrs&uv.AttrBold != 0, faint: s.Attrs&uv.AttrFaint != 0, italic: s.Attrs&uv.AttrItalic != 0,
		underlined: s.Underline != uv.UnderlineNone,
	}
	if s.Attrs&uv.AttrReverse != 0 {
		if look.fg == "" {
			look.fg = foreground
		}
		if look.bg == "" {
			look.bg = background
		}
		look.fg, look.bg = look.bg, look.fg
	}
	return look
}

func hex(c color.Color) string {
	switch c := c.(type) {
	case nil:
		return ""
	case ansi.BasicColor:
		return palette[c&15]
	case ansi.IndexedColor:
		if c < 16 {
			return palette[c]
		}
	}
	r, g, b, _ := c.RGBA()
	return fmt.Sprintf("#%02x%02x%02x", r>>8, g>>8, b>>8)
}
