package engine

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/test/freshroot"
)

// TestDocumentedExamplesRun applies every example of docs/graph.md to a fresh root, and then looks a second time: nothing
// may be left to do. Packages and services are the machine's own business (there are no repositories, and nothing that
// runs services): those examples are run with noop, and each of their resources must be looked at.
func TestDocumentedExamplesRun(t *testing.T) {
	page, err := os.ReadFile("../../docs/graph.md") // from outside: there may be no such place in a fresh root
	if err != nil {
		t.Fatal(err)
	}
	freshroot.Run(t, func() {
		sh(t, "useradd -m www 2>/dev/null || true; mkdir -p /srv /tmp/demo/parts.d /etc/nginx/conf.d; echo part > /tmp/demo/parts.d/a")
		kinds := map[graph.Kind]bool{}
		for i, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
			if strings.Contains(m[1], "{{") {
				continue // rendered and parsed elsewhere
			}
			def := parse(t, "%s", m[1])
			real := true
			for _, r := range def.Resources {
				kinds[r.ID.Kind] = true
				real = real && r.ID.Kind != graph.KindPkg && r.ID.Kind != graph.KindSvc
			}
			if !real {
				lookAtAll(t, i, def)
				continue
			}
			world := newSharedWorld()
			for round := range 2 {
				r := prepare(t, def, Options{World: world})
				r.begin()
				r.untilStatus(Quiet)
				for _, ev := range r.all() {
					if round == 1 && ev.Kind == Applied && ev.ID.Kind != graph.KindExec {
						t.Errorf("example %d: applied again: %+v", i+1, ev)
					}
				}
				r.stop()
			}
		}
		for _, kind := range graph.Kinds() {
			if !kinds[kind] {
				t.Errorf("no example has a %s", kind)
			}
		}
	})
}

// lookAtAll runs def with noop until each of its resources was looked at, or waits for one that was.
func lookAtAll(t *testing.T, i int, def *graph.Definition) {
	t.Helper()
	r := prepare(t, def, Options{Noop: true})
	r.begin()
	r.until("each resource of the example", func() bool {
		return r.status() != Busy
	})
	if len(r.all()) == 0 {
		t.Errorf("example %d: nothing was looked at", i+1)
	}
	r.stop()
}
