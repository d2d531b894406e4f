package graph

import (
	"path"
	"slices"
	"strings"
)

// check reports what only shows when the whole definition is known.
func (p *parser) check(def *Definition) {
	p.checkTwice(def)
	p.checkNumbers(def)
	index := def.Index()
	edges := make([][2]int, 0, len(def.Edges))
	for i, e := range def.Edges {
		from, fromOK := p.find(index, e.From, "from", p.ends[i][0])
		to, toOK := p.find(index, e.To, "to", p.ends[i][1])
		if fromOK && toOK {
			edges = append(edges, [2]int{from, to})
		}
	}
	cycle := FindCycle(len(def.Resources), edges)
	if cycle == nil {
		return
	}
	names := make([]string, 0, len(cycle)+1)
	for _, v := range cycle {
		names = append(names, def.Resources[v].ID.String())
	}
	names = append(names, names[0])
	if len(names) > 20 {
		names = slices.Concat(names[:18], []string{"…"}, names[len(names)-1:])
	}
	at := Position{}
	for _, e := range def.Edges { // the edge that closes the circle is the one to point at
		if e.From == def.Resources[cycle[len(cycle)-1]].ID && e.To == def.Resources[cycle[0]].ID {
			at = e.At
		}
	}
	p.fail(at, "the edges make a cycle: %s", strings.Join(names, " → "))
}

// claim is something that only one resource of a definition may manage.
type claim struct {
	what string // the name of the resource's key that says so
	name string
}

// claims returns what a resource manages beside its name; the text is for people.
func claims(r *Resource) (claim, string) {
	switch spec := r.Spec.(type) {
	case *File:
		if r.Exported() { // it becomes a file on other hosts, where only the last part of its path counts
			base := path.Base(spec.Path)
			return claim{"export", base}, "a file " + base + " is exported by"
		}
		return claim{"path", spec.Location()}, spec.Location() + " is already managed by"
	case *KV:
		if spec.Mapped {
			return claim{"mapped", spec.Key}, "the mapped key " + spec.Key + " is already managed by"
		}
		return claim{"key", spec.Key}, "the key " + spec.Key + " is already managed by"
	default:
		return claim{}, ""
	}
}

func (p *parser) checkTwice(def *Definition) {
	ids := make(map[ID]int, len(def.Resources))
	claimed := make(map[claim]ID)
	for i := range def.Resources {
		r := &def.Resources[i]
		if first, twice := ids[r.ID]; twice {
			p.fail(p.given[i]["name"], "%s is already defined in line %d", r.ID, def.Resources[first].At.Line)
			continue
		}
		ids[r.ID] = i
		c, text := claims(r)
		if c == (claim{}) {
			continue
		}
		if other, twice := claimed[c]; twice {
			at := p.given[i].at("path")
			if _, ok := r.Spec.(*KV); ok {
				at = p.given[i].at("key")
			}
			p.fail(at, "%s: %s %s", r.ID, text, other)
		}
		claimed[c] = r.ID
	}
}

// find returns the place of the resource at an end of an edge.
func (p *parser) find(index map[ID]int, id ID, what string, at Position) (int, bool) {
	if i, ok := index[id]; ok {
		return i, true
	}
	_, refused := p.refused[id]
	_, kindRefused := p.refused[ID{Kind: id.Kind}]
	if !refused && !kindRefused {
		p.fail(at, "edge: %s: there is no resource %s", what, id)
	}
	return 0, false
}

// FindCycle returns the vertices of one cycle, in order, or nil if there is none. Vertices are 0 … n-1, edges lead from
// their first to their second one. It takes time and memory linear in vertices and edges, and no recursion.
func FindCycle(n int, edges [][2]int) []int {
	next := make([][]int, n)
	for _, e := range edges {
		next[e[0]] = append(next[e[0]], e[1])
	}
	const fresh, open, done = 0, 1, 2
	state := make([]uint8, n)
	used := make([]int, n) // how many of next were followed
	var stack []int
	for start := range n {
		if state[start] != fresh {
			continue
		}
		stack = append(stack[:0], start)
		state[start] = open
		for len(stack) > 0 {
			v := stack[len(stack)-1]
			if used[v] == len(next[v]) {
				state[v] = done
				stack = stack[:len(stack)-1]
				continue
			}
			to := next[v][used[v]]
			used[v]++
			switch state[to] {
			case fresh:
				state[to] = open
				stack = append(stack, to)
			case open:
				return slices.Clone(stack[slices.Index(stack, to):])
			}
		}
	}
	return nil
}
