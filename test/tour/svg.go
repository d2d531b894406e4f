package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// film is what was recorded.
type film struct {
	frames []frame
	length time.Duration
}

// The measures of the drawing, in pixels. 0.6 of its size is what a character of nearly all monospaced fonts is wide; where a font
// is different, textLength makes it fit.
const (
	fontSize  = 14
	cellWidth = 8.4
	rowHeight = 18
	baseline  = 13
	margin    = 14
	// block is the rows that are kept together: most frames differ from the one before in a few rows.
	block = 5
	// apart is the distance between frames on the strip.
	apart = 1000
)

// svg draws the film: all frames beside each other on a strip, which moves behind a window. Rows that look the same are drawn once, and
// so are blocks of rows. What can't or shan't move things shows the last frame.
func (f *film) svg(description string) []byte {
	d := &drawing{ids: map[string]string{}, classes: map[style]string{}}
	var strip bytes.Buffer
	for i, fr := range f.frames {
		fmt.Fprintf(&strip, `<g transform="translate(%d)">`, i*apart)
		screen := runs(fr.screen)
		for y := 0; y < rows; y += block {
			strip.WriteString(d.use(d.block(screen[y:min(y+block, rows)]), y))
		}
		strip.WriteString("</g>\n")
	}
	const width, height = cols*cellWidth + 2*margin, rows*rowHeight + 2*margin
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %d" width="%[1]g" height="%d" xml:space="preserve" role="img">`+"\n",
		float64(width), int(height), int(height))
	fmt.Fprintf(&out, "<title>A tour of mgmt-remote</title>\n<desc>%s</desc>\n", escape(description))
	fmt.Fprintf(&out, "<style>\ntext{font:%dpx ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace;fill:%s}\n",
		fontSize, foreground)
	out.WriteString(d.css.String())
	fmt.Fprintf(&out, ".strip{transform:translateX(%dpx);animation:film %gs step-end infinite}\n", -apart*(len(f.frames)-1), f.length.Seconds())
	out.WriteString("@media (prefers-reduced-motion:reduce){.strip{animation:none}}\n@keyframes film{")
	for i, fr := range f.frames {
		fmt.Fprintf(&out, "%s%%{transform:translateX(%dpx)}", percent(fr.at, f.length), -apart*i)
	}
	fmt.Fprintf(&out, "}\n</style>\n<defs>\n%s</defs>\n", d.defs.String())
	fmt.Fprintf(&out, `<rect width="%g" height="%d" rx="8" fill="%s"/>`+"\n", float64(width), int(height), background)
	fmt.Fprintf(&out, `<svg x="%d" y="%[1]d" width="%g" height="%d"><g class="strip">`+"\n%s</g></svg>\n</svg>\n",
		margin, float64(cols*cellWidth), rows*rowHeight, strip.String())
	return out.Bytes()
}

// percent is where a moment is in the whole.
func percent(at, whole time.Duration) string {
	return strconv.FormatFloat(100*at.Seconds()/whole.Seconds(), 'f', 2, 64)
}

// drawing has what several frames show.
type drawing struct {
	ids       map[string]string // by content
	classes   map[style]string
	css, defs bytes.Buffer
}

// define makes content something that can be used, once.
func (d *drawing) define(content string) string {
	if content == "" {
		return ""
	}
	id, ok := d.ids[content]
	if !ok {
		id = "a" + strconv.FormatInt(int64(len(d.ids)), 36)
		d.ids[content] = id
		fmt.Fprintf(&d.defs, `<g id="%s">%s</g>`+"\n", id, content)
	}
	return id
}

// use shows something at row y.
func (d *drawing) use(id string, y int) string {
	switch {
	case id == "":
		return ""
	case y == 0:
		return fmt.Sprintf(`<use href="#%s"/>`, id)
	}
	return fmt.Sprintf(`<use href="#%s" y="%d"/>`, id, y*rowHeight)
}

func (d *drawing) block(screen [][]run) string {
	var content strings.Builder
	for y, row := range screen {
		content.WriteString(d.use(d.row(row), y))
	}
	return d.define(content.String())
}

func (d *drawing) row(row []run) string {
	var content strings.Builder
	for _, r := range row {
		x, width := number(float64(r.x)*cellWidth), number(float64(r.width)*cellWidth)
		if r.style.bg != "" {
			fmt.Fprintf(&content, `<rect x="%s" width="%s" height="%d" fill="%s"/>`, x, width, rowHeight, r.style.bg)
		}
		if r.text == "" {
			continue
		}
		fmt.Fprintf(&content, `<text x="%s" y="%d"%s`, x, baseline, d.class(r.style))
		if r.width > 1 {
			fmt.Fprintf(&content, ` textLength="%s"`, width)
		}
		fmt.Fprintf(&content, `>%s</text>`, escape(r.text))
	}
	return d.define(content.String())
}

// class names how text looks; the background is no part of it.
func (d *drawing) class(s style) string {
	s.bg = ""
	if s == (style{}) {
		return ""
	}
	name, ok := d.classes[s]
	if !ok {
		name = string(rune('a' + len(d.classes)%26))
		if n := len(d.classes) / 26; n > 0 {
			name += strconv.Itoa(n)
		}
		d.classes[s] = name
		fmt.Fprintf(&d.css, "text.%s{", name)
		for _, rule := range []struct {
			holds bool
			text  string
		}{
			{s.fg != "", "fill:" + s.fg + ";"}, {s.bold, "font-weight:bold;"}, {s.italic, "font-style:italic;"},
			{s.faint, "opacity:.6;"}, {s.underlined, "text-decoration:underline;"},
		} {
			if rule.holds {
				d.css.WriteString(rule.text)
			}
		}
		d.css.WriteString("}\n")
	}
	return fmt.Sprintf(` class="%s"`, name)
}

func number(x float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(x, 'f', 1, 64), "0"), ".")
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}
