package draw

import (
	"cmp"
	"math"
	"slices"
)

// result turns layers and heights into boxes and routes. Nodes without edges stand in rows below.
func (a *arranger) result() *layout {
	l := &layout{boxes: make([]rect, len(a.p.nodes)), routes: make([][]point, len(a.p.edges))}
	top := math.Inf(1)
	for _, layer := range a.order {
		for _, i := range layer {
			top = min(top, a.items[i].y-a.items[i].h/2)
		}
	}
	x := margin
	columns := make([]rect, len(a.order))
	for c, layer := range a.order {
		columns[c].x = x
		for _, i := range layer {
			if n := a.items[i].node; n >= 0 {
				columns[c].w = max(columns[c].w, a.widths[n])
			}
		}
		for _, i := range layer {
			it := &a.items[i]
			it.y += margin - top
			l.height = max(l.height, it.y+it.h/2)
			if it.node >= 0 {
				l.boxes[it.node] = rect{x, it.y - it.h/2, columns[c].w, it.h}
			}
		}
		x += columns[c].w + columnGap
	}
	if len(a.order) > 0 {
		l.width = x - columnGap
	}
	a.alone(l)
	l.width += margin
	l.height += margin
	a.route(l, columns)
	return l
}

// alone places the nodes without edges, about as wide as the rest of the picture.
func (a *arranger) alone(l *layout) {
	var nodes []int
	w := 0.0
	for i := range a.p.nodes {
		if a.layers[i] < 0 {
			nodes = append(nodes, i)
			w = max(w, a.widths[i])
		}
	}
	if len(nodes) == 0 {
		return
	}
	top := margin
	if l.height > 0 {
		top = l.height + 2*rowGap
	}
	perRow := max(int((l.width-margin+rowGap)/(w+rowGap)), int(math.Ceil(math.Sqrt(float64(len(nodes))/3))), 1)
	for k, i := range nodes {
		box := rect{margin + float64(k%perRow)*(w+rowGap), top + float64(k/perRow)*(boxHeight+rowGap), w, boxHeight}
		l.boxes[i] = box
		l.width = max(l.width, box.x+box.w)
		l.height = max(l.height, box.y+box.h)
	}
}

// route lays the edges. Where several leave or reach a box, they stand apart, in the order in which they come.
func (a *arranger) route(l *layout, columns []rect) {
	out, in := make([][]int, len(a.p.nodes)), make([][]int, len(a.p.nodes))
	for i, e := range a.p.edges {
		from, to := l.boxes[e.from], l.boxes[e.to]
		points := []point{{from.x + from.w, from.y + from.h/2}}
		for _, lane := range a.lanes[i] {
			it, c := a.items[lane], columns[a.items[lane].layer]
			points = append(points, point{c.x, it.y}, point{c.x + c.w, it.y})
		}
		l.routes[i] = append(points, point{to.x, to.y + to.h/2})
		out[e.from] = append(out[e.from], i)
		in[e.to] = append(in[e.to], i)
	}
	first := func(i int) (end, next *point) { return &l.routes[i][0], &l.routes[i][1] }
	last := func(i int) (end, next *point) {
		r := l.routes[i]
		return &r[len(r)-1], &r[len(r)-2]
	}
	for n := range a.p.nodes {
		spread(out[n], first)
		spread(in[n], last)
	}
}

// spread moves the ends of edges that meet at one side of a box apart.
func spread(edges []int, ends func(int) (end, next *point)) {
	slices.SortStableFunc(edges, func(x, y int) int {
		_, p := ends(x)
		_, q := ends(y)
		return cmp.Compare(p.y, q.y)
	})
	step := min(9, (boxHeight-12)/float64(max(1, len(edges)-1)))
	for k, i := range edges {
		end, _ := ends(i)
		end.y += (float64(k) - float64(len(edges)-1)/2) * step
	}
}
