package draw

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// Widths of characters in a monospaced font: 0.6 of its size, in all that are usual.
const (
	titleSize  = 13.0
	detailSize = 11.0
	perEm      = 0.602
)

// Heights above and below the graph.
const (
	titleHeight  = 30.0
	legendHeight = 26.0
)

// colour is what a kind is known by; all of them stand out from light and from dark.
func colour(n node) string {
	if n.look == collect {
		return "#0f9bb3"
	}
	switch n.kind {
	case graph.KindFile:
		return "#4a90d9"
	case graph.KindExec:
		return "#d9822b"
	case graph.KindSvc:
		return "#2e9e6b"
	case graph.KindPkg:
		return "#8a63d2"
	case graph.KindUser:
		return "#c2577a"
	case graph.KindGroup:
		return "#d98ba3"
	case graph.KindTimer:
		return "#5d7a8c"
	case graph.KindKV:
		return "#b8971f"
	default:
		return "#9aa5b1"
	}
}

const style = `<style>
    text { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 11px; fill: #52606d }
    .t { font-size: 13px; fill: #1c2529 }
    .n, .l { fill: #7b8794 }
    .n { font-size: 15px }
    .b { fill: #ffffff; stroke: #9aa5b1 }
    .x { stroke-dasharray: 5 3 }
    .e { fill: none; stroke: #7b8794; stroke-width: 1.4 }
    .r { stroke: #d9822b; stroke-dasharray: 6 4 }
    .a { stroke: #7b8794; stroke-opacity: .45 }
    @media (prefers-color-scheme: dark) {
      text { fill: #b3bfc9 } .t { fill: #eef2f5 } .b { fill: #232b32; stroke: #5d6b77 }
    }
  </style>
`

// The markers are the heads of the three sorts of arrows.
const markers = `<defs>
    <marker id="e" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 .5L8 4L0 7.5z" fill="#7b8794"/></marker>
    <marker id="r" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 .5L8 4L0 7.5z" fill="#d9822b"/></marker>
    <marker id="a" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 .5L8 4L0 7.5z" fill="#7b8794" fill-opacity=".45"/></marker>
  </defs>
`

// SVG writes a drawing of def. auto are edges that the engine adds; they are pale. The error is that of w, or about an edge
// of auto whose end def does not have.
func SVG(w io.Writer, def *graph.Definition, auto []graph.Edge) error {
	p, err := newPicture(def, auto)
	if err != nil {
		return err
	}
	l := arrange(p)
	entries := legend(p)
	above, width := 0.0, l.width
	if p.title != "" {
		above = titleHeight
		width = max(width, 2*margin+textWidth(p.title, 15))
	}
	for _, e := range entries {
		width = max(width, e.x+e.w+margin)
	}
	height := above + l.height
	if len(entries) > 0 {
		height += legendHeight
	}
	out := &strings.Builder{}
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%s" height="%[2]s" viewBox="0 0 %[1]s %[2]s">`+"\n  ", number(width), number(height))
	title := p.title
	if title == "" {
		title = "graph"
	}
	fmt.Fprintf(out, "<title>%s</title>\n  %s  %s", escape(title), style, markers)
	if p.title != "" {
		fmt.Fprintf(out, `  <text class="n" x="%s" y="%s">%s</text>`+"\n", number(margin), number(margin+12), escape(p.title))
	}
	fmt.Fprintf(out, `  <g transform="translate(0 %s)">`+"\n", number(above))
	for i, e := range p.edges {
		writeEdge(out, e, l.routes[i])
	}
	for i, n := range p.nodes {
		writeBox(out, n, l.boxes[i])
	}
	out.WriteString("  </g>\n")
	for _, e := range entries {
		y := height - margin + 2
		fmt.Fprintf(out, `  <path class="%s" d="M%s %sH%s"`, e.class, number(e.x), number(y), number(e.x+legendMark))
		if e.marker != "" {
			fmt.Fprintf(out, ` marker-end="url(#%s)"`, e.marker)
		}
		fmt.Fprintf(out, "/>\n"+`  <text class="l" x="%s" y="%s">%s</text>`+"\n", number(e.x+legendMark+6), number(y+4), e.text)
	}
	out.WriteString("</svg>\n")
	_, err = io.WriteString(w, out.String())
	return err
}

// arrow names an edge's marker, and the classes of its line.
func arrow(e edge) (marker, class string) {
	switch {
	case e.auto:
		return "a", "e a"
	case e.notify:
		return "r", "e r"
	default:
		return "e", "e"
	}
}

func writeEdge(out *strings.Builder, e edge, route []point) {
	var d strings.Builder
	fmt.Fprintf(&d, "M%s %s", number(route[0].x), number(route[0].y))
	for i := 1; i < len(route); i++ {
		from, to := route[i-1], route[i]
		if i%2 == 0 { // along a lane
			fmt.Fprintf(&d, "L%s %s", number(to.x), number(to.y))
			continue
		}
		bend := max(columnGap/2, math.Abs(to.x-from.x)/2)
		fmt.Fprintf(&d, "C%s %s %s %s %s %s", number(from.x+bend), number(from.y), number(to.x-bend), number(to.y), number(to.x), number(to.y))
	}
	marker, class := arrow(e)
	fmt.Fprintf(out, `    <path class="%s" d="%s" marker-end="url(#%s)"><title>%s</title></path>`+"\n", class, d.String(), marker, escape(e.title))
}

func writeBox(out *strings.Builder, n node, box rect) {
	class, radius := "b", 4.0
	switch n.look {
	case exported:
		class = "b x"
	case collect:
		radius = box.h / 2
	}
	x, y, w, h := number(box.x), number(box.y), number(box.w), number(box.h)
	fmt.Fprintf(out, `    <g><title>%s</title><rect class="%s" x="%s" y="%s" width="%s" height="%s" rx="%s"/>`, escape(n.full), class, x, y, w, h, number(radius))
	left := box.x + 14
	if n.look == collect {
		left = box.x + box.h/2
		fmt.Fprintf(out, `<circle cx="%s" cy="%s" r="4" fill="%s"/>`, number(box.x+12), number(box.y+box.h/2), colour(n))
	} else {
		fmt.Fprintf(out, `<rect x="%s" y="%s" width="4" height="%s" rx="2" fill="%s"/>`, number(box.x+4), number(box.y+5), number(box.h-10), colour(n))
	}
	fmt.Fprintf(out, `<text class="t" x="%s" y="%s">%s</text>`, number(left), number(box.y+18), escape(n.title))
	fmt.Fprintf(out, `<text x="%s" y="%s">%s</text></g>`+"\n", number(left), number(box.y+33), escape(n.detail))
}

// legendMark is the width of what stands before the text of an entry.
const legendMark = 26.0

// entry explains a sort of line, by one of that class and with that marker at its end.
type entry struct {
	class, marker, text string
	x, w                float64
}

// legend explains what is not plain and occurs.
func legend(p *picture) []entry {
	present := make(map[string]bool)
	for _, e := range p.edges {
		_, class := arrow(e)
		present[class] = true
	}
	for _, n := range p.nodes {
		if n.look == exported {
			present["b x"] = true
		}
	}
	var entries []entry
	x := margin
	for _, e := range []entry{
		{class: "e", marker: "e", text: "before"},
		{class: "e r", marker: "r", text: "before, and refreshes it"},
		{class: "e a", marker: "a", text: "before, by itself"},
		{class: "b x", text: "exported"},
	} {
		if present[e.class] && (e.class != "e" || present["e r"] || present["e a"]) {
			e.x, e.w = x, legendMark+6+textWidth(e.text, detailSize)
			entries = append(entries, e)
			x += e.w + 20
		}
	}
	return entries
}

func boxWidth(n node) float64 {
	w := max(textWidth(n.title, titleSize), textWidth(n.detail, detailSize)) + 28
	if n.look == collect {
		w += boxHeight - 28
	}
	return max(math.Ceil(w), 90)
}

// textWidth is the width of a text; characters of East Asian scripts take two places.
func textWidth(s string, size float64) float64 {
	places := 0
	for _, r := range s {
		places++
		if unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana) || r > 0xffff {
			places++
		}
	}
	return float64(places) * size * perEm
}

// number writes a length with at most one decimal.
func number(f float64) string {
	return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64)
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}
