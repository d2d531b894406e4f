package engine

import (
	"path/filepath"
)

// pathTree knows which paths matter to which vertices. Besides the paths themselves it holds every directory above them:
// replacing one of those changes the file just as well.
type pathTree struct {
	nodes map[string]*pathNode
}

type pathNode struct {
	path     string
	parent   *pathNode // nil for the root
	place    int       // in parent.children
	children []*pathNode
	vertices []*vertex // those whose path this is
	entries  []*vertex // those that also want to know about what is directly in it
	watched  bool      // it is a directory that is watched, or will be once it exists
	real     string    // the name under which it is watched; empty if it is not
}

func newPathTree() *pathTree { return &pathTree{nodes: make(map[string]*pathNode)} }

// add returns the node of path, absolute and clean.
func (t *pathTree) add(path string) *pathNode {
	if n := t.nodes[path]; n != nil {
		return n
	}
	n := &pathNode{path: path}
	if parent := filepath.Dir(path); parent != path {
		n.parent = t.add(parent)
		n.place = len(n.parent.children)
		n.parent.children = append(n.parent.children, n)
	}
	t.nodes[path] = n
	return n
}

// directory reports whether what is in n matters.
func (n *pathNode) directory() bool { return len(n.children) > 0 || len(n.entries) > 0 }

// remove takes a node away that matters to nobody; its parent may be the next.
func (t *pathTree) remove(n *pathNode) {
	delete(t.nodes, n.path)
	if n.parent == nil {
		return
	}
	siblings := n.parent.children
	last := siblings[len(siblings)-1]
	siblings[n.place], last.place = last, n.place
	siblings[len(siblings)-1] = nil
	n.parent.children = siblings[:len(siblings)-1]
}

// below calls visit for n and all nodes under it, parents first.
func (n *pathNode) below(visit func(*pathNode)) {
	visit(n)
	for _, c := range n.children {
		c.below(visit)
	}
}
