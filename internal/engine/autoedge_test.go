package engine

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

func TestAutoEdges(t *testing.T) {
	number := func(n uint32) *uint32 { return &n }
	file := func(path string, f graph.File) graph.Resource {
		f.Path = path
		return res(graph.KindFile, path, &f)
	}
	user := func(name string, u graph.User) graph.Resource { return res(graph.KindUser, name, &u) }
	group := func(name string, g graph.Group) graph.Resource { return res(graph.KindGroup, name, &g) }
	svc := func(name string, s graph.Svc) graph.Resource { return res(graph.KindSvc, name, &s) }
	pkg := func(name, state string) graph.Resource { return res(graph.KindPkg, name, &graph.Pkg{State: state}) }
	alone := file("/d/f", graph.File{Owner: "u"})
	alone.Meta.NoAutoEdge = true
	for name, c := range map[string]struct {
		resources []graph.Resource
		given     [][2]int
		want      []string
	}{
		"directories": {
			[]graph.Resource{file("/a/b/f", graph.File{}), file("/a/", graph.File{}), file("/a/b/c/d/", graph.File{}), file("/a/b/", graph.File{}), file("/x", graph.File{})},
			nil,
			[]string{"file[/a/b/] → file[/a/b/f]", "file[/a/b/] → file[/a/b/c/d/]", "file[/a/] → file[/a/b/]"},
		},
		"directories that go": {
			[]graph.Resource{file("/a/", graph.File{State: graph.Absent}), file("/a/f", graph.File{State: graph.Absent}), file("/a/g", graph.File{})},
			nil,
			[]string{"file[/a/f] → file[/a/]"},
		},
		"accounts": {
			[]graph.Resource{
				file("/f", graph.File{Owner: "u", Group: "g"}), user("u", graph.User{Group: "g", Groups: []string{"h", "no"}}), group("g", graph.Group{}), group("h", graph.Group{}),
				res(graph.KindExec, "e", &graph.Exec{User: "u", Group: "h"}), user("v", graph.User{GID: number(7)}), group("seven", graph.Group{GID: number(7)}),
			},
			nil,
			[]string{
				"user[u] → file[/f]", "group[g] → file[/f]", "group[g] → user[u]", "group[h] → user[u]",
				"user[u] → exec[e]", "group[h] → exec[e]", "group[seven] → user[v]",
			},
		},
		"accounts that go": {
			[]graph.Resource{
				file("/f", graph.File{Owner: "u", Group: "g"}), user("u", graph.User{Group: "g", State: graph.Absent}), group("g", graph.Group{State: graph.Absent}),
				user("v", graph.User{Groups: []string{"g"}}),
			},
			nil,
			[]string{"file[/f] → user[u]", "file[/f] → group[g]", "user[u] → group[g]", "user[v] → group[g]"},
		},
		"contents": {
			[]graph.Resource{
				file("/out", graph.File{Fragments: []string{"/one", "/frags/"}}), file("/frags/x", graph.File{}), file("/frags/deep/y", graph.File{}), file("/one", graph.File{}),
				file("/frags/", graph.File{}), file("/copy", graph.File{Source: "/one"}), file("/tree/", graph.File{Source: "/src/"}), file("/src/a/b", graph.File{}),
			},
			nil,
			[]string{
				"file[/one] → file[/out]", "file[/frags/] → file[/out]", "file[/frags/x] → file[/out]", "file[/frags/] → file[/frags/x]",
				"file[/frags/] → file[/frags/deep/y]", "file[/one] → file[/copy]", "file[/src/a/b] → file[/tree/]",
			},
		},
		"services": {
			[]graph.Resource{
				svc("s", graph.Svc{}), pkg("s", graph.PkgInstalled), file("/etc/systemd/system/s.service", graph.File{}), file("/etc/init.d/s", graph.File{State: graph.Absent}),
				svc("t", graph.Svc{Session: true}), pkg("t", graph.PkgUninstalled), file("/lib/systemd/system/t.service", graph.File{}),
			},
			nil,
			[]string{"pkg[s] → svc[s]", "file[/etc/systemd/system/s.service] → svc[s]", "svc[s] → file[/etc/init.d/s]", "svc[t] → pkg[t]"},
		},
		"without": {
			[]graph.Resource{file("/d/", graph.File{}), alone, user("u", graph.User{}), file("@@/d/g", graph.File{Owner: "u"})},
			nil, nil,
		},
		"given already, and cycles": {
			[]graph.Resource{file("/a/", graph.File{}), file("/a/f", graph.File{}), file("/b/", graph.File{}), file("/b/f", graph.File{}), file("/c/", graph.File{}), file("/c/f", graph.File{})},
			[][2]int{{0, 1}, {3, 2}},
			[]string{"file[/c/] → file[/c/f]"},
		},
		"a cycle of their own": {
			[]graph.Resource{file("/a", graph.File{Source: "/b"}), file("/b", graph.File{Source: "/c"}), file("/c", graph.File{Source: "/a"})},
			nil,
			[]string{"file[/b] → file[/a]", "file[/c] → file[/b]"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			def := definition(c.resources...)
			for _, d := range c.given {
				def.Edges = append(def.Edges, edgeTo(c.resources[d[0]], c.resources[d[1]], false))
			}
			var got []string
			for _, d := range AutoEdges(def) {
				got = append(got, d.From.String()+" → "+d.To.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%q, want\n%q", got, c.want)
			}
		})
	}
}

// TestAutoEdgesOfManyResources: thousands of candidates that close cycles take moments, not minutes.
func TestAutoEdgesOfManyResources(t *testing.T) {
	const n = 5000
	var def graph.Definition
	for i := range n {
		def.Resources = append(def.Resources, res(graph.KindFile, fmt.Sprint(i), &graph.File{Path: fmt.Sprint("/", i), Source: fmt.Sprint("/", (i+1)%n)}))
	}
	began := cpuTime(t)
	if got := len(AutoEdges(&def)); got != n-1 {
		t.Errorf("%d edges", got)
	}
	if took := cpuTime(t) - began; took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// cpuTime is how long this process has computed, which says more than a clock where others compute, too.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
