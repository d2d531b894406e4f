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
	children []*pathNode
	vertices []int // whose file this is
}

func newPathTree() *pathTree { return &pathTree{nodes: make(map[string]*pathNode)} }

// add notes that path, absolute and clean, matters to a vertex.
func (t *pathTree) add(path string, vertex int) {
	n := t.node(path)
	n.vertices = append(n.vertices, vertex)
}

func (t *pathTree) node(path string) *pathNode {
	if n := t.nodes[path]; n != nil {
		return n
	}
	n := &pathNode{path: path}
	t.nodes[path] = n
	if parent := filepath.Dir(path); parent != path {
		p := t.node(parent)
		p.children = append(p.children, n)
	}
	return n
}

// below calls visit for n and all nodes under it, parents first.
func (n *pathNode) below(visit func(*pathNode)) {
	visit(n)
	for _, c := range n.children {
		c.below(visit)
	}
}
