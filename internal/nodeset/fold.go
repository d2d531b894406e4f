package nodeset

import (
	"slices"
	"strconv"
	"strings"
)

// Fold writes names as one expression that Parse expands to the same names, with few and short pieces: "web[1-3,7]". Which
// order they come in makes no difference, and a name that comes twice is one. Names hold no brackets, operators or
// white space; those of hosts never do. Foldable are numbers, and single letters that stand between '-', '_', '.' or digits and the
// end, '-', '_' or '.': "web1-a", "rack7b".
func Fold(names []string) string { return strings.Join(FoldList(names), ",") }

// FoldList is Fold, with the pieces between the commas apart.
func FoldList(names []string) []string {
	groups := map[string]*shape{}
	for _, name := range names {
		literals, coords := dissect(name)
		key := strings.Join(literals, "\x00")
		g := groups[key]
		if g == nil {
			g = &shape{literals: literals}
			groups[key] = g
		}
		g.points = append(g.points, coords)
	}
	shapes := make([]*shape, 0, len(groups))
	for _, g := range groups {
		g.normalize()
		shapes = append(shapes, g)
	}
	slices.SortFunc(shapes, func(a, b *shape) int { return Compare(a.name(a.points[0]), b.name(b.points[0])) })
	var pieces []string
	for _, g := range shapes {
		pieces = append(pieces, g.fold()...)
	}
	return pieces
}

// Compare orders names as people count: web2 before web10. It returns 0 for equal names only.
func Compare(a, b string) int {
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		if isDigit(a[i]) && isDigit(b[j]) {
			x, y := digitsAt(a, i), digitsAt(b, j)
			i, j = i+len(x), j+len(y)
			tx, ty := strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := compareCoords(tx, ty); c != 0 {
				return c
			}
			continue
		}
		if a[i] != b[j] {
			return int(a[i]) - int(b[j])
		}
		i, j = i+1, j+1
	}
	if c := (len(a) - i) - (len(b) - j); c != 0 {
		return c
	}
	if c := len(a) - len(b); c != 0 { // equal but for leading zeros
		return c
	}
	return strings.Compare(a, b)
}

// compareCoords orders numbers of one width class by value, and letters: shorter ones first.
func compareCoords(a, b string) int {
	if c := len(a) - len(b); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func comparePoints(a, b []string) int { return slices.CompareFunc(a, b, compareCoords) }

func digitsAt(s string, i int) string {
	end := i
	for end < len(s) && isDigit(s[end]) {
		end++
	}
	return s[i:end]
}

// dissect cuts a name into coordinates and the literals around them: there is one literal more. A literal before a coordinate
// that is a letter ends in "\x01", so that letters and numbers never get into one bracket.
func dissect(name string) (literals, coords []string) {
	start := 0
	for i := 0; i < len(name); i++ {
		switch {
		case isDigit(name[i]):
			digits := digitsAt(name, i)
			if len(digits) <= maxDigits {
				literals, coords = append(literals, name[start:i]), append(coords, digits)
				start = i + len(digits)
			}
			i += len(digits) - 1
		case isLetter(name[i]) && i > 0 && (isDigit(name[i-1]) || isSeparator(name[i-1])) && (i+1 == len(name) || isSeparator(name[i+1])):
			literals, coords = append(literals, name[start:i]+"\x01"), append(coords, name[i:i+1])
			start = i + 1
		}
	}
	return append(literals, name[start:]), coords
}

func isSeparator(c byte) bool { return c == '-' || c == '_' || c == '.' }

// shape is all names that differ in their coordinates only.
type shape struct {
	literals []string
	points   [][]string // the coordinates of each name
}

// normalize sorts the points, makes each one of its kind, and takes the mark of letters off the literals.
func (g *shape) normalize() {
	slices.SortFunc(g.points, comparePoints)
	g.points = slices.CompactFunc(g.points, slices.Equal[[]string])
	for i, l := range g.literals {
		g.literals[i] = strings.TrimSuffix(l, "\x01")
	}
}

func (g *shape) name(coords []string) string {
	var b strings.Builder
	for i, c := range coords {
		b.WriteString(g.literals[i])
		b.WriteString(c)
	}
	b.WriteString(g.literals[len(coords)])
	return b.String()
}

// fold covers the points with boxes. It merges boxes that differ in one dimension, until none do. Which dimension is
// merged first can make a difference: both directions are tried, and what is shorter is taken.
func (g *shape) fold() []string {
	if len(g.points) == 1 {
		return []string{g.name(g.points[0])}
	}
	back := g.pieces(func(round int) int { return len(g.points[0]) - 1 - round })
	if len(back) == 1 {
		return back
	}
	forth := g.pieces(func(round int) int { return round })
	if size(forth) < size(back) {
		return forth
	}
	return back
}

func size(pieces []string) int {
	n := 0
	for _, p := range pieces {
		n += len(p) + 1
	}
	return n
}

// box is a product of sets, one for each dimension.
type box struct {
	sets  [][]string // sorted
	texts []string   // of each set, as it stands in an expression; equal sets have equal texts
}

// pieces merges dimension by dimension, in the order that dim gives.
func (g *shape) pieces(dim func(round int) int) []string {
	boxes := make([]*box, len(g.points))
	for i, p := range g.points {
		b := &box{sets: make([][]string, len(p)), texts: slices.Clone(p)}
		for d := range p {
			b.sets[d] = p[d : d+1 : d+1] // growing makes a copy
		}
		boxes[i] = b
	}
	dims := len(g.points[0])
	for changed := true; changed; {
		changed = false
		for round := range dims {
			merged := merge(boxes, dim(round))
			changed = changed || len(merged) < len(boxes)
			boxes = merged
		}
	}
	slices.SortFunc(boxes, func(a, b *box) int {
		for d := range a.sets {
			if c := slices.CompareFunc(a.sets[d], b.sets[d], compareCoords); c != 0 {
				return c
			}
		}
		return 0
	})
	pieces := make([]string, len(boxes))
	for i, b := range boxes {
		pieces[i] = g.name(b.texts)
	}
	return pieces
}

// merge makes one box of all that are equal but for dimension d. Boxes never overlap, so neither do the merged sets.
func merge(boxes []*box, d int) []*box {
	groups := make(map[string]*box, len(boxes))
	out := boxes[:0:0]
	grown := map[*box]struct{}{}
	var key strings.Builder
	for _, b := range boxes {
		key.Reset()
		for i, t := range b.texts {
			if i != d {
				key.WriteString(t)
			}
			key.WriteByte(0)
		}
		first, ok := groups[key.String()]
		if !ok {
			groups[key.String()] = b
			out = append(out, b)
			continue
		}
		first.sets[d] = append(first.sets[d], b.sets[d]...)
		grown[first] = struct{}{}
	}
	for b := range grown {
		slices.SortFunc(b.sets[d], compareCoords)
		b.texts[d] = setText(b.sets[d])
	}
	return out
}

// setText writes a sorted set of coordinates; a single one has no brackets.
func setText(set []string) string {
	if len(set) == 1 {
		return set[0]
	}
	var b strings.Builder
	b.WriteByte('[')
	for i := 0; i < len(set); {
		end := i
		for end+1 < len(set) && follows(set[i], set[end], set[end+1]) {
			end++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(set[i])
		switch {
		case end == i+1 && isLetter(set[i][0]):
			b.WriteString("," + set[end])
		case end > i:
			b.WriteString("-" + set[end])
		}
		i = end + 1
	}
	b.WriteByte(']')
	return b.String()
}

// follows reports whether next comes right after last in a range that began with first.
func follows(first, last, next string) bool {
	if isLetter(last[0]) || isLetter(next[0]) {
		return next[0] == last[0]+1 && last[0]&0x20 == next[0]&0x20
	}
	if number(next) != number(last)+1 {
		return false
	}
	// One digit more, as 10 after 9, is in no range with leading zeros.
	return len(next) == len(last) || !padded(first) && len(next) == len(strconv.FormatUint(number(next), 10))
}
