package draw

import (
	"cmp"
	"math"
	"slices"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// Sizes in pixels.
const (
	boxHeight  = 42.0
	rowGap     = 16.0 // between boxes above each other
	columnGap  = 72.0 // between columns; arrows are here
	laneHeight = 10.0 // what an arrow takes where it passes a column
	margin     = 20.0
)

// maxLanes bounds the places where arrows pass columns. Above, long arrows go straight, over boxes if it must be.
const maxLanes = 20_000

// sweeps is how often orders and heights are adapted to the neighbours; more changes next to nothing.
const sweeps = 12

type point struct{ x, y float64 }

// rect is a box; x, y is its upper left corner.
type rect struct{ x, y, w, h float64 }

// layout is where everything goes. All boxes are inside width and height, and no two of them overlap.
type layout struct {
	width, height float64
	boxes         []rect    // of each node
	routes        [][]point // of each edge: the points it goes through, from the right side of a box to the left of another
}

// item takes part in a column: a node, or a lane, where an arrow passes.
type item struct {
	node   int // -1 for a lane
	layer  int
	h      float64
	y      float64 // of the middle
	before []int   // items of earlier layers
	after  []int   // items of later layers
}

// arranger makes a layout: layers from left to right, such that arrows lead to the right, an order in each layer with few
// crossings, and heights near to the neighbours'. This is Sugiyama's method with its simplest heuristics.
type arranger struct {
	p      *picture
	widths []float64 // of each node
	layers []int     // of each node; -1 for those without edges
	items  []item    // first those of the nodes
	order  [][]int   // items of each layer, from top to bottom
	lanes  [][]int   // of each edge: the items that it passes
}

func arrange(p *picture) *layout {
	a := &arranger{p: p, widths: make([]float64, len(p.nodes)), lanes: make([][]int, len(p.edges))}
	for i, n := range p.nodes {
		a.widths[i] = boxWidth(n)
	}
	a.layer()
	a.fill()
	a.sort()
	a.place()
	return a.result()
}

// layer gives each node the length of the longest way to it. A node without a way to it goes right before the first that
// it leads to.
func (a *arranger) layer() {
	edges := a.ordering()
	n := len(a.p.nodes)
	next, blockers := make([][]int, n), make([]int, n)
	a.layers = make([]int, n)
	for i := range a.layers {
		a.layers[i] = -1
	}
	for _, e := range edges {
		next[e[0]] = append(next[e[0]], e[1])
		blockers[e[1]]++
		a.layers[e[0]], a.layers[e[1]] = 0, 0
	}
	var free, sources []int
	for i := range n {
		if a.layers[i] == 0 && blockers[i] == 0 {
			free = append(free, i)
		}
	}
	sources = slices.Clone(free)
	for len(free) > 0 {
		v := free[0]
		free = free[1:]
		for _, to := range next[v] {
			a.layers[to] = max(a.layers[to], a.layers[v]+1)
			if blockers[to]--; blockers[to] == 0 {
				free = append(free, to)
			}
		}
	}
	for _, v := range sources {
		first := math.MaxInt
		for _, to := range next[v] {
			first = min(first, a.layers[to])
		}
		a.layers[v] = first - 1
	}
}

// ordering returns the edges that layers follow: all of them, unless those of the engine make a cycle.
func (a *arranger) ordering() [][2]int {
	var own, all [][2]int
	for _, e := range a.p.edges {
		all = append(all, [2]int{e.from, e.to})
		if !e.auto {
			own = append(own, [2]int{e.from, e.to})
		}
	}
	if graph.FindCycle(len(a.p.nodes), all) != nil {
		return own
	}
	return all
}

// fill makes the items of all layers.
func (a *arranger) fill() {
	for i := range a.p.nodes {
		a.items = append(a.items, item{node: i, layer: a.layers[i], h: boxHeight})
	}
	lanes := 0
	for _, e := range a.p.edges {
		lanes += max(0, a.layers[e.to]-a.layers[e.from]-1)
	}
	for i, e := range a.p.edges {
		from, to := a.layers[e.from], a.layers[e.to]
		if from < 0 || to <= from { // of the engine, and not followed
			continue
		}
		last := e.from
		for l := from + 1; l < to && lanes <= maxLanes; l++ {
			a.items = append(a.items, item{node: -1, layer: l, h: laneHeight})
			lane := len(a.items) - 1
			a.lanes[i] = append(a.lanes[i], lane)
			a.connect(last, lane)
			last = lane
		}
		a.connect(last, e.to)
	}
	for i, it := range a.items {
		if it.layer < 0 {
			continue
		}
		for len(a.order) <= it.layer {
			a.order = append(a.order, nil)
		}
		a.order[it.layer] = append(a.order[it.layer], i)
	}
}

func (a *arranger) connect(from, to int) {
	a.items[from].after = append(a.items[from].after, to)
	a.items[to].before = append(a.items[to].before, from)
}

// sort orders each layer by the mean place of the neighbours, alternately of those on the left and on the right.
func (a *arranger) sort() {
	rank := make([]float64, len(a.items))
	for _, layer := range a.order {
		for place, i := range layer {
			rank[i] = float64(place)
		}
	}
	a.sweep(func(layer []int, neighbours func(*item) []int) {
		mean := make(map[int]float64, len(layer))
		for _, i := range layer {
			mean[i] = average(neighbours(&a.items[i]), rank, rank[i])
		}
		slices.SortStableFunc(layer, func(x, y int) int { return cmp.Compare(mean[x], mean[y]) })
		for place, i := range layer {
			rank[i] = float64(place)
		}
	})
}

// place gives each item a height near the mean of its neighbours', in the order of the layer and without overlaps.
func (a *arranger) place() {
	for _, layer := range a.order {
		y := 0.0
		for k, i := range layer {
			if k > 0 {
				y += a.distance(layer[k-1], i)
			}
			a.items[i].y = y
		}
	}
	heights := make([]float64, len(a.items))
	for i := range a.items {
		heights[i] = a.items[i].y
	}
	a.sweep(func(layer []int, neighbours func(*item) []int) {
		want, distances := make([]float64, len(layer)), make([]float64, len(layer))
		for k, i := range layer {
			want[k] = average(neighbours(&a.items[i]), heights, heights[i])
			if k > 0 {
				distances[k] = a.distance(layer[k-1], i)
			}
		}
		for k, y := range apart(want, distances) {
			heights[layer[k]] = y
		}
	})
	for i := range a.items {
		a.items[i].y = heights[i]
	}
}

// sweep calls each for every layer, from left to right with the neighbours on the left, then back with those on the right.
func (a *arranger) sweep(each func(layer []int, neighbours func(*item) []int)) {
	for range sweeps {
		for _, layer := range a.order {
			each(layer, func(it *item) []int { return it.before })
		}
		for _, layer := range slices.Backward(a.order) {
			each(layer, func(it *item) []int { return it.after })
		}
	}
}

// distance is how far the middles of two items in one column must be from each other.
func (a *arranger) distance(upper, lower int) float64 {
	return (a.items[upper].h+a.items[lower].h)/2 + rowGap
}

// average is the mean of the values of some items, or otherwise if there are none.
func average(items []int, values []float64, otherwise float64) float64 {
	if len(items) == 0 {
		return otherwise
	}
	sum := 0.0
	for _, i := range items {
		sum += values[i]
	}
	return sum / float64(len(items))
}

// apart returns the values nearest to want (by least squares) of which each is at least its distance above the one before.
// Without distances this is isotonic regression, and pooling adjacent violators solves it.
func apart(want, distances []float64) []float64 {
	type pool struct {
		mean  float64
		count int
	}
	var pools []pool
	offset := 0.0
	for i := range want {
		offset += distances[i]
		pools = append(pools, pool{want[i] - offset, 1})
		for len(pools) > 1 && pools[len(pools)-2].mean > pools[len(pools)-1].mean {
			x, y := pools[len(pools)-2], pools[len(pools)-1]
			n := x.count + y.count
			pools = append(pools[:len(pools)-2], pool{(x.mean*float64(x.count) + y.mean*float64(y.count)) / float64(n), n})
		}
	}
	out := make([]float64, 0, len(want))
	offset = 0
	for _, p := range pools {
		for range p.count {
			offset += distances[len(out)]
			out = append(out, p.mean+offset)
		}
	}
	return out
}
