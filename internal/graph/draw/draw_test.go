package draw

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

var update = flag.Bool("update", false, "write the golden files anew")

func id(kind graph.Kind, name string) graph.ID { return graph.ID{Kind: kind, Name: name} }

// auto are edges that an engine could add to testdata/site.yaml; the last is in the definition, too.
var auto = []graph.Edge{
	{From: id(graph.KindGroup, "www"), To: id(graph.KindUser, "app")},
	{From: id(graph.KindPkg, "nginx"), To: id(graph.KindSvc, "nginx")},
	{From: id(graph.KindUser, "app"), To: id(graph.KindFile, "/srv/app/")},
}

// TestGolden compares drawings with those that somebody has looked at. After a change: go test -run Golden -update, and
// look at testdata/site.svg.
func TestGolden(t *testing.T) {
	def, err := graph.Load("testdata/site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, draw := range map[string]func(io.Writer, *graph.Definition, []graph.Edge) error{"testdata/site.svg": SVG, "testdata/site.dot": DOT} {
		var got bytes.Buffer
		if err := draw(&got, def, auto); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s differs from\n%s", name, got.String())
		}
	}
}

// random is a definition with edges that lead to later resources, and edges of an engine that lead anywhere.
func random(t *rapid.T) (*graph.Definition, []graph.Edge) {
	def := &graph.Definition{Name: rapid.String().Draw(t, "graph")}
	n := rapid.IntRange(0, 40).Draw(t, "resources")
	for i := range n {
		r := graph.Resource{ID: id(graph.KindNoop, fmt.Sprintf("%d%s", i, rapid.String().Draw(t, "name"))), Spec: &graph.Noop{}}
		def.Resources = append(def.Resources, r)
	}
	for range rapid.IntRange(0, 2).Draw(t, "collect") {
		def.Collect = append(def.Collect, graph.Collect{Kind: graph.KindFile, Pattern: "/" + rapid.String().Draw(t, "pattern") + "/"})
	}
	var auto []graph.Edge
	if n > 0 {
		ends := rapid.IntRange(0, n-1)
		for range rapid.IntRange(0, 2*n).Draw(t, "edges") {
			if from, to := ends.Draw(t, "from"), ends.Draw(t, "to"); from < to {
				def.Edges = append(def.Edges, graph.Edge{From: def.Resources[from].ID, To: def.Resources[to].ID, Notify: rapid.Bool().Draw(t, "notify")})
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "auto") {
			auto = append(auto, graph.Edge{From: def.Resources[ends.Draw(t, "from")].ID, To: def.Resources[ends.Draw(t, "to")].ID})
		}
	}
	return def, auto
}

// TestLayout holds that boxes do not overlap and are inside, that arrows begin and end at their boxes and lead to the
// right, and that they pass no box in the columns between.
func TestLayout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		def, auto := random(t)
		p, err := newPicture(def, auto)
		if err != nil {
			t.Fatal(err)
		}
		l := arrange(p)
		for i, b := range l.boxes {
			if b.x < 0 || b.y < 0 || b.x+b.w > l.width || b.y+b.h > l.height || b.w < textWidth(p.nodes[i].title, titleSize) {
				t.Fatalf("box %d is outside or too narrow: %+v in %v × %v", i, b, l.width, l.height)
			}
			for j, c := range l.boxes[:i] {
				if overlap(b, c) {
					t.Fatalf("boxes %d and %d overlap: %+v, %+v", j, i, c, b)
				}
			}
		}
		for i, e := range p.edges {
			from, to, route := l.boxes[e.from], l.boxes[e.to], l.routes[i]
			first, last := route[0], route[len(route)-1]
			if first.x != from.x+from.w || first.y < from.y || first.y > from.y+from.h || last.x != to.x || last.y < to.y || last.y > to.y+to.h {
				t.Fatalf("edge %d from %+v to %+v goes %+v", i, from, to, route)
			}
			if !e.auto && first.x >= last.x {
				t.Fatalf("edge %d leads to the left: %+v", i, route)
			}
			for k := 1; k+1 < len(route); k += 2 {
				for n, b := range l.boxes {
					if overlap(b, rect{route[k].x, route[k].y, route[k+1].x - route[k].x, 0}) {
						t.Fatalf("edge %d passes through box %d", i, n)
					}
				}
			}
		}
	})
}

func overlap(a, b rect) bool {
	return a.x < b.x+b.w && b.x < a.x+a.w && a.y < b.y+b.h && b.y < a.y+a.h
}

// TestApart compares with what least squares mean: no small step that keeps the distances makes it better.
func TestApart(t *testing.T) {
	cost := func(y, want []float64) (sum float64) {
		for i := range y {
			sum += (y[i] - want[i]) * (y[i] - want[i])
		}
		return sum
	}
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Float64Range(-100, 100), 1, 8).Draw(t, "want")
		distances := rapid.SliceOfN(rapid.Float64Range(0, 50), len(want), len(want)).Draw(t, "distances")
		distances[0] = 0
		got := apart(want, distances)
		keeps := func(y []float64) bool {
			for i := 1; i < len(y); i++ {
				if y[i]-y[i-1] < distances[i]-1e-6 {
					return false
				}
			}
			return true
		}
		if !keeps(got) {
			t.Fatalf("too near: %v", got)
		}
		for from := range got { // moving any run of neighbours together is enough to test, since the problem is convex
			for to := from + 1; to <= len(got); to++ {
				for _, step := range []float64{-0.01, 0.01} {
					moved := append([]float64(nil), got...)
					for i := from; i < to; i++ {
						moved[i] += step
					}
					if keeps(moved) && cost(moved, want) < cost(got, want)-1e-6 {
						t.Fatalf("%v is better than %v for %v", moved, got, want)
					}
				}
			}
		}
	})
}

// TestDrawings holds that every drawing is well-formed and always the same.
func TestDrawings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		def, auto := random(t)
		var svg, dot, again bytes.Buffer
		if err := errors.Join(SVG(&svg, def, auto), DOT(&dot, def, auto), SVG(&again, def, auto)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(svg.Bytes(), again.Bytes()) {
			t.Fatal("drawn twice, and different")
		}
		boxes := 0
		for d := xml.NewDecoder(&svg); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "g" {
				boxes++
			}
		}
		if boxes != 1+len(def.Resources)+len(def.Collect) {
			t.Errorf("%d boxes", boxes)
		}
		if got := strings.Count(dot.String(), "label="); got < len(def.Resources)+len(def.Collect) {
			t.Errorf("%d nodes in\n%s", got, dot.String())
		}
	})
}

// FuzzDOTQuote holds that a reader of DOT finds the text again, and that nothing follows it.
func FuzzDOTQuote(f *testing.F) {
	for _, s := range []string{"", "a", `\`, `"`, `\"`, "a\nb", `\n`, `\\N`, "x\\\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = printable(s)
		quoted := dotQuote(s, "second")
		var got strings.Builder
		body, ok := strings.CutPrefix(quoted, `"`)
		for escaped := false; ok && body != ""; body = body[1:] {
			switch c := body[0]; {
			case escaped && c == 'n':
				got.WriteByte('\n')
				escaped = false
			case escaped:
				got.WriteByte(c)
				escaped = false
			case c == '\\':
				escaped = true
			case c == '"':
				if body != `"` {
					t.Fatalf("ends early: %s", quoted)
				}
			default:
				got.WriteByte(c)
			}
		}
		if got.String() != s+"\nsecond" {
			t.Fatalf("%q became %s", s, quoted)
		}
	})
}

func TestUnknownEnd(t *testing.T) {
	err := SVG(io.Discard, &graph.Definition{}, []graph.Edge{{From: id(graph.KindFile, "a"), To: id(graph.KindFile, "b")}})
	if err == nil || err.Error() != "draw: edge file[a] → file[b]: no such resource" {
		t.Errorf("got %v", err)
	}
	if err := DOT(brokenWriter{}, &graph.Definition{}, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

// TestManyAreFast draws a thousand resources in the shapes that are hard: a chain with long arrows, a fan, a mesh, none.
func TestManyAreFast(t *testing.T) {
	const n = 1000
	for name, edges := range map[string]func(i int) []int{
		"alone": func(int) []int { return nil },
		"chain": func(i int) []int { return []int{i - 1, 0, i / 2} },
		"fan":   func(int) []int { return []int{0} },
		"mesh":  func(i int) []int { return []int{i * 7 / 10, i * 8 / 10, i * 9 / 10, i - 40} },
	} {
		def := &graph.Definition{}
		for i := range n {
			def.Resources = append(def.Resources, graph.Resource{ID: id(graph.KindNoop, fmt.Sprint(i)), Spec: &graph.Noop{}})
			for _, from := range edges(i) {
				if from >= 0 && from < i {
					def.Edges = append(def.Edges, graph.Edge{From: id(graph.KindNoop, fmt.Sprint(from)), To: id(graph.KindNoop, fmt.Sprint(i))})
				}
			}
		}
		begin := time.Now()
		if err := SVG(io.Discard, def, nil); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		t.Logf("%s: %v", name, took)
		if took > 5*time.Second { // generous: the race detector, and others at work; alone it takes a tenth of a second
			t.Errorf("%s took %v", name, took)
		}
		p, err := newPicture(def, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range arrange(p).boxes {
			if math.IsNaN(b.x+b.y+b.w+b.h) || math.IsInf(b.x+b.y, 0) {
				t.Fatalf("%s: %+v", name, b)
			}
		}
	}
}
