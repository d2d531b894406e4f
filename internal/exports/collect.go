package exports

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// Export is a resource that a host of the run offers. Nothing about it is checked but that the host is the one that
// offered it.
type Export struct {
	Host string
	Kind graph.Kind
	Name string // without graph.ExportMark
	Data []byte // as Encode makes it; nil where there are more bytes than MaxEncoded
	Size int    // how many bytes there are
}

// Compare orders exports by host, kind and name.
func Compare(a, b Export) int {
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

// Refusal is an export that a definition would collect, but that can't be had.
type Refusal struct {
	Host   string
	Kind   graph.Kind
	Name   string
	Reason string // in words
}

// String is a line for people. It has text from other hosts in it.
func (r Refusal) String() string {
	return fmt.Sprintf("%s[%s:%s] is not collected: %s", r.Kind, r.Host, r.Name, r.Reason)
}

// Collect makes resources of what def collects of all exports of the run. A file lands in the pattern's directory under
// the last part of its path. Where two land on one path, that of the first host by name wins; what def manages itself,
// def wins. The IDs are file[HOST:NAME], and none of them is declared in def.
func Collect(def *graph.Definition, all []Export) ([]graph.Resource, []Refusal) {
	landed, refused := collect(def, all, Export.decode)
	resources := make([]graph.Resource, 0, len(landed))
	for _, l := range landed {
		resources = append(resources, l.resource)
	}
	return resources, refused
}

// key says which export it is.
type key struct {
	host string
	kind graph.Kind
	name string
}

func (e Export) key() key { return key{e.Host, e.Kind, e.Name} }

func (e Export) decode() (*File, error) {
	if err := CheckName(e.Name); err != nil {
		return nil, err
	}
	if e.Data == nil && e.Size > MaxEncoded {
		return nil, fmt.Errorf("it has %d bytes; %d are the most", e.Size, MaxEncoded)
	}
	return Decode(e.Data)
}

// spot is what was collected into which directory.
type spot struct {
	from    key
	pattern string
}

// landing is a collected resource and where it comes from.
type landing struct {
	spot
	resource graph.Resource
	path     string // without the slash of directories
}

func collect(def *graph.Definition, all []Export, decode func(Export) (*File, error)) ([]landing, []Refusal) {
	if !slices.IsSortedFunc(all, Compare) {
		all = slices.SortedFunc(slices.Values(all), Compare)
	}
	var (
		landed  []landing
		refused []Refusal
		bad     = make(map[key]struct{}) // reported once, whatever the number of patterns
		own     = newTerritory(def)
		taken   = make(map[string]key)
		names   = newNamer(def)
	)
	for _, c := range patterns(def) {
		for _, e := range all {
			if !c.Wants(e.Kind, e.Name) {
				continue
			}
			refuse := func(format string, args ...any) {
				refused = append(refused, Refusal{e.Host, e.Kind, e.Name, fmt.Sprintf(format, args...)})
			}
			f, err := decode(e)
			if err != nil {
				if _, again := bad[e.key()]; !again {
					bad[e.key()] = struct{}{}
					refuse("%v", err)
				}
				continue
			}
			where := c.Pattern + f.Base
			if why := own.claims(where); why != "" {
				refuse("%s", why)
				continue
			}
			other, is := taken[where]
			if is && other == e.key() { // another pattern for names brought it here already
				continue
			}
			if is {
				refuse("%s is already the place of %s[%s:%s]", where, other.kind, other.host, other.name)
				continue
			}
			taken[where] = e.key()
			from := spot{e.key(), c.Pattern}
			landed = append(landed, landing{
				spot: from, path: where, resource: graph.Resource{ID: names.id(from, ""), At: c.At, Spec: f.spec(where)},
			})
		}
	}
	return landed, refused
}

// patterns are the different ones of a definition.
func patterns(def *graph.Definition) []graph.Collect {
	var list []graph.Collect
	for _, c := range def.Collect {
		if !slices.ContainsFunc(list, func(o graph.Collect) bool { return o.Kind == c.Kind && o.Pattern == c.Pattern && o.Name == c.Name }) {
			list = append(list, c)
		}
	}
	return list
}

func (f *File) spec(where string) *graph.File {
	spec := &graph.File{Path: where, Mode: f.Mode, Owner: f.Owner, Group: f.Group}
	if f.Directory {
		spec.Path += "/"
		return spec
	}
	spec.Content = &f.Content // nobody changes either
	return spec
}

// territory is what a definition keeps for itself.
type territory struct {
	paths map[string]graph.ID // of its own files
	above map[string]string   // directories, each with something below it that is the definition's
}

func newTerritory(def *graph.Definition) territory {
	t := territory{paths: make(map[string]graph.ID), above: make(map[string]string)}
	for i := range def.Resources {
		r := &def.Resources[i]
		if f, isFile := r.Spec.(*graph.File); isFile && !r.Exported() {
			t.paths[f.Location()] = r.ID
			t.addAbove(path.Dir(f.Location()), r.ID.String())
		}
	}
	for _, c := range def.Collect {
		t.addAbove(path.Clean(c.Pattern), "what is collected into "+c.Pattern)
	}
	return t
}

func (t territory) addAbove(dir, what string) {
	for ; t.above[dir] == ""; dir = path.Dir(dir) {
		t.above[dir] = what
	}
}

// claims says in words why nothing can be collected to a path, or "".
func (t territory) claims(where string) string {
	if id, is := t.paths[where]; is {
		return fmt.Sprintf("%s manages %s", id, where)
	}
	if what := t.above[where]; what != "" {
		return fmt.Sprintf("%s has to be a directory, for %s", where, what)
	}
	return ""
}

// namer gives IDs that are not used yet.
type namer struct {
	used  map[graph.ID]struct{}
	first string // pattern
}

func newNamer(def *graph.Definition) namer {
	n := namer{used: make(map[graph.ID]struct{}, len(def.Resources))}
	for i := range def.Resources {
		n.used[def.Resources[i].ID] = struct{}{}
	}
	if len(def.Collect) > 0 {
		n.first = def.Collect[0].Pattern
	}
	return n
}

// id is HOST:NAME, and says more only where one export lands in several directories, or the ID is used. It follows from
// the definition and the order of the exports alone, so that what stays is the same resource the next time.
func (n namer) id(s spot, more string) graph.ID {
	id := graph.ID{Kind: s.from.kind, Name: s.from.host + ":" + s.from.name}
	if s.pattern != n.first {
		id.Name += " in " + s.pattern
	}
	id.Name += more
	for {
		if _, used := n.used[id]; !used {
			n.used[id] = struct{}{}
			return id
		}
		id.Name += "'"
	}
}
