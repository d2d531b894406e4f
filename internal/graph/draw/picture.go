// Package draw draws definitions: as DOT for Graphviz, and as SVG without any other program.
//
// The same definition always gives the same bytes. What is drawn is what the definition says; which edges the engine adds by
// itself the caller may pass.
package draw

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// look tells boxes apart that are not resources of this host.
type look uint8

const (
	local    look = iota // a resource that is applied on the host
	exported             // a resource that is offered to other hosts
	collect              // where the exports of other hosts are placed
)

// node is a box to draw. Its texts are printable.
type node struct {
	look   look
	kind   graph.Kind
	title  string
	detail string
	full   string // title and detail, not shortened
}

// edge is an arrow between two nodes, by their index.
type edge struct {
	from, to int
	notify   bool
	auto     bool // added by the engine
	title    string
}

// picture is what to draw.
type picture struct {
	title string
	nodes []node
	edges []edge
}

// The longest texts in a box, in characters.
const (
	maxTitle  = 40
	maxDetail = 48
)

// newPicture takes the resources and edges of def, and edges that the engine adds. The error is about an edge of auto whose
// end def does not have.
func newPicture(def *graph.Definition, auto []graph.Edge) (*picture, error) {
	p := &picture{title: shorten(printable(def.Name), 2*maxTitle)}
	for i := range def.Resources {
		p.nodes = append(p.nodes, newNode(&def.Resources[i]))
	}
	for _, c := range def.Collect {
		p.nodes = append(p.nodes, node{
			look: collect, kind: c.Kind, title: shorten(printable(c.Pattern), maxTitle), detail: "collected " + string(c.Kind) + "s",
			full: "collected from other hosts: " + printable(c.Pattern),
		})
	}
	index := def.Index()
	drawn := make(map[[2]int]bool)
	add := func(edges []graph.Edge, auto bool) error {
		for _, e := range edges {
			from, fromOK := index[e.From]
			to, toOK := index[e.To]
			if !fromOK || !toOK {
				return fmt.Errorf("draw: edge %s → %s: no such resource", e.From, e.To)
			}
			if auto && drawn[[2]int{from, to}] {
				continue // the definition says so itself
			}
			drawn[[2]int{from, to}] = true
			title := e.From.String() + " → " + e.To.String()
			if e.Name != "" {
				title = e.Name + ": " + title
			}
			p.edges = append(p.edges, edge{from: from, to: to, notify: e.Notify, auto: auto, title: printable(title)})
		}
		return nil
	}
	if err := add(def.Edges, false); err != nil {
		return nil, err
	}
	return p, add(auto, true)
}

func newNode(r *graph.Resource) node {
	n := node{kind: r.ID.Kind, title: r.ID.Name, detail: string(r.ID.Kind)}
	if r.Exported() {
		n.look = exported
		n.title = strings.TrimPrefix(n.title, graph.ExportMark)
		n.detail = "exported " + n.detail
	}
	if absent(r) {
		n.detail = "absent " + n.detail
	}
	about := detail(r)
	if about == n.title {
		about = ""
	}
	n.title, about = printable(n.title), printable(about)
	n.full = strings.TrimSpace(n.title + " — " + n.detail + " " + about)
	n.title = shorten(n.title, maxTitle)
	n.detail = strings.TrimSpace(n.detail + " " + shorten(about, maxDetail))
	return n
}

// detail is what a resource is about, where its name need not say it.
func detail(r *graph.Resource) string {
	switch spec := r.Spec.(type) {
	case *graph.File:
		return spec.Path
	case *graph.Exec:
		return strings.Join(append([]string{spec.Cmd}, spec.Args...), " ")
	case *graph.Svc:
		return map[graph.Running]string{graph.RunningYes: "running", graph.RunningNo: "stopped"}[spec.State]
	case *graph.Pkg:
		return spec.State
	case *graph.Timer:
		return "every " + spec.Interval.String()
	case *graph.KV:
		return spec.Key
	default:
		return ""
	}
}

// absent reports whether a resource is about what should not be there.
func absent(r *graph.Resource) bool {
	switch spec := r.Spec.(type) {
	case *graph.File:
		return spec.State == graph.Absent
	case *graph.User:
		return spec.State == graph.Absent
	case *graph.Group:
		return spec.State == graph.Absent
	case *graph.KV:
		return spec.Value == nil
	default:
		return false
	}
}

// printable makes one line of harmless characters; line ends and tabs become spaces.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// shorten leaves the end of what is too long, because paths differ there.
func shorten(s string, limit int) string {
	runes := []rune(s)
	if len(runes) <= limit {
		return s
	}
	return "…" + string(runes[len(runes)-limit+1:])
}
