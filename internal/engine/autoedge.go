package engine

import (
	"path/filepath"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// AutoEdges are the edges that the engine adds to those of a definition, in a fixed order; none of them notifies. Like
// mgmt's they order what obviously depends on each other:
//
//   - a directory before what is in it; what is to be absent before a directory that is to be absent, too
//   - users and groups before files and commands that name them, and groups before their users
//   - files before the file that is made of them: its source, its fragments, and what is in its directories of fragments
//   - a package and a unit file before the service of that name
//
// Where the one that is needed is to be absent, it goes last instead. Exported resources and those with NoAutoEdge have
// no such edges. An edge that would close a cycle with the definition's edges and the automatic ones before it is left
// out, as is one that the definition has itself.
//
// Def must be valid: both ends of its edges exist, and they make no cycle.
func AutoEdges(def *graph.Definition) []graph.Edge {
	index := def.Index()
	given := make([][2]int, 0, len(def.Edges))
	for _, d := range def.Edges {
		given = append(given, [2]int{index[d.From], index[d.To]})
	}
	found := autoEdges(def, index, given)
	edges := make([]graph.Edge, 0, len(found))
	for _, d := range found {
		edges = append(edges, graph.Edge{From: def.Resources[d[0]].ID, To: def.Resources[d[1]].ID})
	}
	return edges
}

// autoEdges is AutoEdges with places in def.Resources, as FindCycle has them.
func autoEdges(def *graph.Definition, index map[graph.ID]int, given [][2]int) [][2]int {
	f := &edgeFinder{
		def: def, index: index, files: make(map[string]int), inside: make(map[string][]int),
		groups: make(map[uint32][]graph.ID), seen: make(map[[2]int]struct{}),
	}
	for _, d := range given {
		f.seen[d] = struct{}{}
	}
	f.prepare()
	for i := range def.Resources {
		if r := &def.Resources[i]; takesPart(r) {
			f.find(i, r)
		}
	}
	all := append(given[:len(given):len(given)], f.found...)
	if graph.FindCycle(len(def.Resources), all) == nil {
		return f.found
	}
	return withoutCycles(len(def.Resources), given, f.found)
}

func takesPart(r *graph.Resource) bool { return !r.Exported() && !r.Meta.NoAutoEdge }

type edgeFinder struct {
	def    *graph.Definition
	index  map[graph.ID]int
	files  map[string]int        // files and directories by location
	inside map[string][]int      // by directories that are read as source or for fragments: the files that matter to those
	groups map[uint32][]graph.ID // by number
	seen   map[[2]int]struct{}
	found  [][2]int
}

// prepare finds which file is where, and which are in the directories that others are made from.
func (f *edgeFinder) prepare() {
	trees := make(map[string]struct{}) // what is anywhere below
	flats := make(map[string]struct{}) // what is directly in it
	for i := range f.def.Resources {
		r := &f.def.Resources[i]
		if g, isGroup := r.Spec.(*graph.Group); isGroup && g.GID != nil {
			f.groups[*g.GID] = append(f.groups[*g.GID], r.ID)
		}
		spec, isFile := r.Spec.(*graph.File)
		if !isFile || !takesPart(r) {
			continue
		}
		f.files[spec.Location()] = i
		if spec.Directory() && spec.Source != "" {
			trees[filepath.Clean(spec.Source)] = struct{}{}
		}
		for _, fragment := range spec.Fragments {
			if strings.HasSuffix(fragment, "/") {
				flats[filepath.Clean(fragment)] = struct{}{}
			}
		}
	}
	if len(trees)+len(flats) == 0 {
		return
	}
	for i := range f.def.Resources {
		r := &f.def.Resources[i]
		spec, isFile := r.Spec.(*graph.File)
		if !isFile || !takesPart(r) {
			continue
		}
		for dir, direct := filepath.Dir(spec.Location()), true; ; dir, direct = filepath.Dir(dir), false {
			_, inTree := trees[dir]
			_, inFlat := flats[dir]
			if inTree || inFlat && direct {
				f.inside[dir] = append(f.inside[dir], i)
			}
			if dir == "/" {
				break
			}
		}
	}
}

func (f *edgeFinder) find(i int, r *graph.Resource) {
	switch spec := r.Spec.(type) {
	case *graph.File:
		f.directory(i, spec)
		f.account(i, spec.Owner, spec.Group)
		if spec.Source != "" {
			f.contents(i, spec.Source)
		}
		for _, fragment := range spec.Fragments {
			f.contents(i, fragment)
		}
	case *graph.Exec:
		f.account(i, spec.User, spec.Group)
	case *graph.User:
		f.user(i, spec)
	case *graph.Svc:
		f.service(i, r.ID.Name, spec)
	}
}

// add notes that first comes before second.
func (f *edgeFinder) add(first, second int) {
	d := [2]int{first, second}
	if _, twice := f.seen[d]; twice || first == second {
		return
	}
	f.seen[d] = struct{}{}
	f.found = append(f.found, d)
}

// need notes that i needs another resource, if there is one with that ID: last, if that is to be absent.
func (f *edgeFinder) need(i int, id graph.ID, absent func(graph.Spec) bool) {
	j, found := f.index[id]
	switch {
	case !found || !takesPart(&f.def.Resources[j]):
	case absent(f.def.Resources[j].Spec):
		f.add(i, j)
	default:
		f.add(j, i)
	}
}

// directory finds the nearest directory around a file.
func (f *edgeFinder) directory(i int, spec *graph.File) {
	for path := spec.Location(); path != "/"; {
		path = filepath.Dir(path)
		j, managed := f.files[path]
		if !managed {
			continue
		}
		dir := f.def.Resources[j].Spec.(*graph.File)
		switch {
		case dir.State == graph.Exists && dir.Directory():
			f.add(j, i)
			return
		case dir.State == graph.Absent && spec.State == graph.Absent:
			f.add(i, j)
			return
		}
	}
}

func (f *edgeFinder) account(i int, owner, group string) {
	f.need(i, graph.ID{Kind: graph.KindUser, Name: owner}, userAbsent)
	f.need(i, graph.ID{Kind: graph.KindGroup, Name: group}, groupAbsent)
}

func userAbsent(s graph.Spec) bool  { return s.(*graph.User).State == graph.Absent }
func groupAbsent(s graph.Spec) bool { return s.(*graph.Group).State == graph.Absent }

// contents finds what a file is made from.
func (f *edgeFinder) contents(i int, path string) {
	clean := filepath.Clean(path)
	if j, managed := f.files[clean]; managed {
		f.add(j, i)
	}
	if strings.HasSuffix(path, "/") {
		for _, j := range f.inside[clean] {
			f.add(j, i)
		}
	}
}

func (f *edgeFinder) user(i int, spec *graph.User) {
	absent := func(s graph.Spec) bool { return spec.State == graph.Absent || groupAbsent(s) }
	f.need(i, graph.ID{Kind: graph.KindGroup, Name: spec.Group}, absent)
	for _, name := range spec.Groups {
		f.need(i, graph.ID{Kind: graph.KindGroup, Name: name}, absent)
	}
	if spec.GID == nil {
		return
	}
	for _, id := range f.groups[*spec.GID] {
		f.need(i, id, absent)
	}
}

func (f *edgeFinder) service(i int, name string, spec *graph.Svc) {
	f.need(i, graph.ID{Kind: graph.KindPkg, Name: name}, func(s graph.Spec) bool {
		return s.(*graph.Pkg).State == graph.PkgUninstalled
	})
	if spec.Session {
		return // its unit file may be anywhere
	}
	unit := strings.TrimSuffix(name, ".service") + ".service"
	for _, path := range []string{
		"/etc/systemd/system/" + unit, "/usr/lib/systemd/system/" + unit, "/lib/systemd/system/" + unit, "/etc/init.d/" + name,
	} {
		if j, managed := f.files[path]; managed {
			f.need(i, f.def.Resources[j].ID, func(s graph.Spec) bool { return s.(*graph.File).State == graph.Absent })
		}
	}
}

// withoutCycles returns those of the wanted edges that close no cycle with the given ones and the wanted ones before
// them. The given ones have no cycle.
func withoutCycles(n int, given, wanted [][2]int) [][2]int {
	next := make([][]int, n)
	for _, d := range given {
		next[d[0]] = append(next[d[0]], d[1])
	}
	visited := make([]int, n) // in which search
	var stack []int
	reaches := func(from, to, search int) bool {
		stack = append(stack[:0], from)
		for len(stack) > 0 {
			v := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if v == to {
				return true
			}
			if visited[v] == search {
				continue
			}
			visited[v] = search
			stack = append(stack, next[v]...)
		}
		return false
	}
	var kept [][2]int
	for k, d := range wanted {
		if reaches(d[1], d[0], k+1) {
			continue
		}
		next[d[0]] = append(next[d[0]], d[1])
		kept = append(kept, d)
	}
	return kept
}
