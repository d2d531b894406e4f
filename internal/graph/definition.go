package graph

import (
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

func (p *parser) definitionFields(def *Definition) map[string]field {
	return map[string]field{
		"graph":   p.text(&def.Name, "graph"),
		"comment": p.text(&def.Comment, "comment"),
		"remote": func(n ast.Node) {
			def.RemoteAt = nodeAt(n)
			p.text(&def.Remote, "remote")(n)
		},
		"resources": func(n ast.Node) { p.resources(def, n) },
		"edges":     func(n ast.Node) { p.list(n, "edges", func(n ast.Node) { p.edge(def, n) }) },
		"collect":   func(n ast.Node) { p.list(n, "collect", func(n ast.Node) { p.collect(def, n) }) },
	}
}

func (p *parser) edge(def *Definition, n ast.Node) {
	e := Edge{At: nodeAt(n)}
	var at [2]Position
	before := len(p.problems)
	p.mapping(n, "edge", p.edgeFields(&e, &at))
	if len(p.problems) > before {
		return
	}
	for _, end := range []struct {
		what string
		id   ID
	}{{"from", e.From}, {"to", e.To}} {
		if end.id.Kind == "" || end.id.Name == "" {
			p.fail(e.At, "edge: %s needs a kind and a name", end.what)
		}
	}
	if len(p.problems) > before {
		return
	}
	def.Edges = append(def.Edges, e)
	p.ends = append(p.ends, at)
}

// edgeFields are the keys of an edge; at tells where its ends stand.
func (p *parser) edgeFields(e *Edge, at *[2]Position) map[string]field {
	var comment string
	return map[string]field{
		"name":    p.text(&e.Name, "name"),
		"comment": p.text(&comment, "comment"),
		"from":    p.end("from", &e.From, &at[0]),
		"to":      p.end("to", &e.To, &at[1]),
		"notify":  p.boolean(&e.Notify, "notify"),
	}
}

// end takes one end of an edge.
func (p *parser) end(what string, dst *ID, at *Position) field {
	return func(n ast.Node) {
		var kind string
		given := p.mapping(n, what, map[string]field{
			"kind": p.text(&kind, what+": kind"),
			"name": p.text(&dst.Name, what+": name"),
		})
		*at = nodeAt(n)
		if name, ok := given["name"]; ok {
			*at = name
		}
		dst.Kind = Kind(strings.ToLower(kind)) // as mgmt does
	}
}

func (p *parser) collect(def *Definition, n ast.Node) {
	c := Collect{At: nodeAt(n)}
	before := len(p.problems)
	at := p.mapping(n, "collect", p.collectFields(&c))
	if len(p.problems) > before {
		return
	}
	switch {
	case c.Kind == "":
		p.fail(c.At, "collect: needs a kind: file")
	case !slices.Contains(Kinds(), c.Kind):
		p.fail(at["kind"], "collect: %s", lacking(string(c.Kind)))
	case c.Kind != KindFile:
		p.fail(at["kind"], "collect: only files are exchanged; a resource of the kind %s would let another host run commands on this one", c.Kind)
	case c.Pattern == "":
		p.fail(c.At, "collect: needs a pattern: the directory to place files in")
	case !path.IsAbs(c.Pattern):
		p.fail(at["pattern"], "collect: pattern: %q is not absolute", c.Pattern)
	}
	if _, err := path.Match(c.Name, ""); err != nil {
		p.fail(at["name"], "collect: name: %q is no pattern for names: %v", c.Name, err)
	}
	if len(p.problems) > before {
		return
	}
	c.Pattern = cleanPath(c.Pattern + "/")
	for _, other := range def.Collect {
		if other.Pattern == c.Pattern && other.Name == c.Name {
			p.fail(at["pattern"], "collect: line %d does the same", other.At.Line)
			return
		}
	}
	def.Collect = append(def.Collect, c)
}

func (p *parser) collectFields(c *Collect) map[string]field {
	var kind, comment string
	return map[string]field{
		"comment": p.text(&comment, "comment"),
		"kind": func(n ast.Node) {
			p.text(&kind, "kind")(n)
			c.Kind = Kind(strings.ToLower(kind)) // as in edges
		},
		"pattern": p.text(&c.Pattern, "pattern"),
		"name":    p.text(&c.Name, "name"),
	}
}
