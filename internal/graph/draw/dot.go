package draw

import (
	"fmt"
	"io"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// DOT writes def in the language of Graphviz, which draws it with `dot -Tsvg`. auto are edges that the engine adds; they are
// grey. The error is that of w, or about an edge of auto whose end def does not have.
func DOT(w io.Writer, def *graph.Definition, auto []graph.Edge) error {
	p, err := newPicture(def, auto)
	if err != nil {
		return err
	}
	out := &strings.Builder{}
	fmt.Fprintf(out, "digraph %s {\n", dotQuote(p.title))
	out.WriteString("  rankdir=LR\n  node [shape=box, fontname=\"monospace\", fontsize=11]\n  edge [color=\"#7b8794\"]\n")
	for i, n := range p.nodes {
		fmt.Fprintf(out, "  n%d [label=%s, color=%q%s]\n", i, dotQuote(n.title, n.detail), colour(n), [...]string{
			local: "", exported: ", style=dashed", collect: ", shape=ellipse",
		}[n.look])
	}
	for _, e := range p.edges {
		var attributes []string
		if e.notify {
			attributes = append(attributes, "style=dashed", `tooltip="notify"`)
		}
		if e.auto {
			attributes = append(attributes, `color="#c5ccd3"`)
		}
		fmt.Fprintf(out, "  n%d -> n%d", e.from, e.to)
		if len(attributes) > 0 {
			fmt.Fprintf(out, " [%s]", strings.Join(attributes, ", "))
		}
		out.WriteString("\n")
	}
	out.WriteString("}\n")
	_, err = io.WriteString(w, out.String())
	return err
}

// dotQuote writes lines as one quoted string. In it, a backslash begins an escape of labels and a quote ends it; see
// "escString" and "ID" in the documentation of Graphviz.
func dotQuote(lines ...string) string {
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(strings.Join(lines, "\n"))
	return `"` + strings.ReplaceAll(escaped, "\n", `\n`) + `"`
}
