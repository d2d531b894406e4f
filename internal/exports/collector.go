package exports

import (
	"bytes"
	"maps"
	"slices"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// Collector collects again and again, and takes away what is not exported any more. It remembers what it brought in for
// as long as the process lives, no longer: files whose exports were withdrawn while no engine ran stay where they are.
// Directories that were collected stay in any case, since others may have put something there.
//
// The zero value works. One goroutine uses it at a time.
type Collector struct {
	decoded map[key]decoded
	landed  map[graph.ID]landing // what the last Merge collected
	brought map[string]spot      // by path: files that are there because they were collected
	going   map[graph.ID]string  // the last Merge's resources that remove a file, with its path
}

// decoded spares a list that changed in one place the decoding of all others.
type decoded struct {
	data []byte
	file *File
	err  error
}

// Merge returns def with what it collects from all exports of the run, and with resources that remove what was
// withdrawn. A withdrawn file is kept in mind until Applied hears that it is gone, or its path is taken by something else.
func (c *Collector) Merge(def *graph.Definition, all []Export) (*graph.Definition, []Refusal) {
	landed, refused := collect(def, all, c.decode)
	resources := make([]graph.Resource, 0, len(landed))
	c.landed = make(map[graph.ID]landing, len(landed))
	for _, l := range landed {
		resources = append(resources, l.resource)
		c.landed[l.resource.ID] = l
	}
	offered := make(map[key]struct{}, len(all))
	for _, e := range all {
		offered[e.key()] = struct{}{}
	}
	maps.DeleteFunc(c.decoded, func(k key, _ decoded) bool { _, is := offered[k]; return !is })
	return def.With(append(resources, c.remove(def, landed, offered)...)), refused
}

// remove makes the resources that remove what was brought in and is not exported any more.
func (c *Collector) remove(def *graph.Definition, landed []landing, offered map[key]struct{}) (resources []graph.Resource) {
	at := make(map[string]spot, len(landed))
	somewhere := make(map[spot]struct{}, len(landed))
	names := newNamer(def)
	for _, l := range landed {
		at[l.path] = l.spot
		somewhere[l.spot] = struct{}{}
		names.used[l.resource.ID] = struct{}{}
	}
	own := newTerritory(def)
	c.going = make(map[graph.ID]string)
	for _, where := range slices.Sorted(maps.Keys(c.brought)) {
		s := c.brought[where]
		now, isTaken := at[where]
		position, isWanted := wanted(def, s)
		_, isOffered := offered[s.from]
		_, isElsewhere := somewhere[s]
		switch {
		case isTaken && now == s: // it is still exported
		case isTaken, !isWanted, own.claims(where) != "": // it is somebody else's now, or nobody's
			delete(c.brought, where)
		case isOffered && !isElsewhere: // refused in its present form: the old one is better than none
		default:
			id := names.id(s, " withdrawn")
			c.going[id] = where
			resources = append(resources, graph.Resource{ID: id, At: position, Spec: &graph.File{Path: where, State: graph.Absent}})
		}
	}
	return resources
}

// wanted says where a definition asks for what came from there, if it does.
func wanted(def *graph.Definition, s spot) (graph.Position, bool) {
	for _, c := range def.Collect {
		if c.Pattern == s.pattern && c.Wants(s.from.kind, s.from.name) {
			return c.At, true
		}
	}
	return graph.Position{}, false
}

// Applied is told of each resource that is as declared. It is true when the definition that Merge made has a resource
// too many now.
func (c *Collector) Applied(id graph.ID) (done bool) {
	if where, is := c.going[id]; is {
		delete(c.going, id)
		delete(c.brought, where)
		return true
	}
	l, is := c.landed[id]
	if f, isFile := l.resource.Spec.(*graph.File); is && isFile && !f.Directory() {
		if c.brought == nil {
			c.brought = make(map[string]spot)
		}
		c.brought[l.path] = l.spot
	}
	return false
}

func (c *Collector) decode(e Export) (*File, error) {
	if d, known := c.decoded[e.key()]; known && d.data != nil && bytes.Equal(d.data, e.Data) {
		return d.file, d.err
	}
	d := decoded{data: e.Data}
	d.file, d.err = e.decode()
	if c.decoded == nil {
		c.decoded = make(map[key]decoded)
	}
	c.decoded[e.key()] = d
	return d.file, d.err
}
