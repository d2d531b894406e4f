package graph

import (
	"slices"
	"strings"
)

// check reports what only shows when the whole definition is known.
func (p *parser) check(def *Definition, pl *places) {
	p.checkTwice(def, pl)
	index := def.Index()
	edges := make([][2]int, 0, len(def.Edges))
	for i, e := range def.Edges {
		from, fromOK := p.end(index, pl, e.From, "from", pl.from[i])
		to, toOK := p.end(index, pl, e.To, "to", pl.to[i])
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

func (p *parser) checkTwice(def *Definition, pl *places) {
	ids := make(map[ID]int, len(def.Resources))
	paths := make(map[string]ID)
	for i, r := range def.Resources {
		if first, twice := ids[r.ID]; twice {
			p.fail(pl.names[i], "%s is already defined in line %d", r.ID, def.Resources[first].At.Line)
			continue
		}
		ids[r.ID] = i
		f, ok := r.Spec.(*File)
		if !ok {
			continue
		}
		if other, twice := paths[f.Location()]; twice {
			p.fail(pl.paths[i], "%s: %s already manages %s", r.ID, other, f.Location())
		}
		paths[f.Location()] = r.ID
	}
}

func (p *parser) end(index map[ID]int, pl *places, id ID, what string, at Position) (int, bool) {
	if i, ok := index[id]; ok {
		return i, true
	}
	_, refused := pl.refused[id]
	_, kindRefused := pl.refused[ID{Kind: id.Kind}]
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
