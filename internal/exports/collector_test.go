package exports

import (
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// shown is what a merge adds to a definition.
func shown(c *Collector, def *graph.Definition, all ...Export) []string {
	merged, _ := c.Merge(def, all)
	return show(merged.Resources[len(def.Resources):])
}

func file(name string) graph.ID { return graph.ID{Kind: graph.KindFile, Name: name} }

func TestWithdrawn(t *testing.T) {
	var c Collector
	def := collecting(nil, "/c/")
	one, two := export(t, "a", "one", "/one", "1"), export(t, "a", "two", "/two", "2")
	want(t, "both", shown(&c, def, one, two), "file[a:one] /c/one 1", "file[a:two] /c/two 2")
	if c.Applied(file("a:one")) || c.Applied(file("something else")) {
		t.Error("done with what is declared")
	}
	// Two was never seen as declared: whatever is at its path, we did not bring it.
	want(t, "withdrawn", shown(&c, def), "file[a:one withdrawn] /c/one absent")
	want(t, "until it is gone", shown(&c, def), "file[a:one withdrawn] /c/one absent")
	want(t, "back meanwhile", shown(&c, def, one), "file[a:one] /c/one 1")
	want(t, "withdrawn again", shown(&c, def), "file[a:one withdrawn] /c/one absent")
	if !c.Applied(file("a:one withdrawn")) || c.Applied(file("a:one withdrawn")) {
		t.Error("not done, or twice")
	}
	want(t, "gone", shown(&c, def))
}

func TestWithdrawnPaths(t *testing.T) {
	one := export(t, "a", "one", "/one", "1")
	for name, c := range map[string]struct {
		def  *graph.Definition
		all  []Export
		want []string
	}{
		"taken by another host":    {collecting(nil, "/c/"), []Export{export(t, "b", "one", "/one", "b")}, []string{"file[b:one] /c/one b"}},
		"taken by another export":  {collecting(nil, "/c/"), []Export{export(t, "a", "1", "/one", "x")}, []string{"file[a:1] /c/one x"}},
		"taken by the definition":  {collecting([]string{"/c/one"}, "/c/"), nil, nil},
		"a directory now":          {collecting([]string{"/c/one/x"}, "/c/"), nil, nil},
		"not collected any more":   {collecting(nil, "/d/"), nil, nil},
		"exported under a new one": {collecting(nil, "/c/"), []Export{export(t, "a", "one", "/two", "1")}, []string{"file[a:one] /c/two 1", "file[a:one withdrawn] /c/one absent"}},
		"refused now":              {collecting(nil, "/c/"), []Export{{Host: "a", Kind: graph.KindFile, Name: "one", Data: []byte("{}")}}, nil},
		"the ID is declared": {
			&graph.Definition{Collect: collecting(nil, "/c/").Collect, Resources: []graph.Resource{{ID: file("a:one withdrawn"), Spec: &graph.File{Path: "/own"}}}},
			nil, []string{"file[a:one withdrawn'] /c/one absent"},
		},
	} {
		var col Collector
		shown(&col, collecting(nil, "/c/"), one)
		col.Applied(file("a:one"))
		want(t, name, shown(&col, c.def, c.all...), c.want...)
	}
}

// What is refused for a while is not withdrawn: it can still be withdrawn after that.
func TestRefusedThenWithdrawn(t *testing.T) {
	var c Collector
	def := collecting(nil, "/c/")
	shown(&c, def, export(t, "a", "one", "/one", "1"))
	c.Applied(file("a:one"))
	want(t, "refused", shown(&c, def, Export{Host: "a", Kind: graph.KindFile, Name: "one", Data: []byte("{}")}))
	want(t, "withdrawn", shown(&c, def), "file[a:one withdrawn] /c/one absent")
}

// Directories stay: others may have put something there.
func TestDirectoriesStay(t *testing.T) {
	var c Collector
	def := collecting(nil, "/c/")
	want(t, "there", shown(&c, def, export(t, "a", "d", "/d/", "")), "file[a:d] /c/d/")
	c.Applied(file("a:d"))
	want(t, "withdrawn", shown(&c, def))
}

func TestSeveralPatterns(t *testing.T) {
	var c Collector
	def := collecting(nil, "/c/", "/d/")
	one := export(t, "a", "one", "/one", "1")
	want(t, "both", shown(&c, def, one), "file[a:one] /c/one 1", "file[a:one in /d/] /d/one 1")
	c.Applied(file("a:one"))
	c.Applied(file("a:one in /d/"))
	want(t, "withdrawn", shown(&c, def), "file[a:one withdrawn] /c/one absent", "file[a:one in /d/ withdrawn] /d/one absent")
	c.Applied(file("a:one in /d/ withdrawn"))
	want(t, "one is gone", shown(&c, def), "file[a:one withdrawn] /c/one absent")
}

// A change in one export decodes that one alone, and what is not offered is forgotten.
func TestDecodedOnce(t *testing.T) {
	var c Collector
	def := collecting(nil, "/c/")
	one, two := export(t, "a", "one", "/one", "1"), export(t, "a", "two", "/two", "2")
	shown(&c, def, one, two)
	first := c.decoded[one.key()].file
	shown(&c, def, one, export(t, "a", "two", "/two", "changed"))
	if c.decoded[one.key()].file != first {
		t.Error("decoded again")
	}
	if got := c.decoded[two.key()].file.Content; got != "changed" {
		t.Errorf("still %q", got)
	}
	shown(&c, def, two)
	if len(c.decoded) != 1 {
		t.Errorf("%d are remembered", len(c.decoded))
	}
}
