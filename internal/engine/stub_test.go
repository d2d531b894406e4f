package engine

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// stub is a resource that does what a test wants. What is not set finds nothing to do.
type stub struct {
	onCheck func(ctx context.Context) (string, error)
	onApply func(ctx context.Context) (string, error)
	checks  atomic.Int32
}

func (f *stub) check(ctx context.Context) (string, error) {
	f.checks.Add(1)
	if f.onCheck == nil {
		return "", nil
	}
	return f.onCheck(ctx)
}

func (f *stub) apply(ctx context.Context) (string, error) {
	if f.onApply == nil {
		return "", nil
	}
	return f.onApply(ctx)
}

type stubWatcher struct {
	stub
	onWatch func(ctx context.Context, ready, changed func()) error
}

func (f *stubWatcher) watch(ctx context.Context, ready, changed func()) error {
	return f.onWatch(ctx, ready, changed)
}

type stubRefresher struct {
	stub
	onRefresh func(ctx context.Context) (string, error)
}

func (f *stubRefresher) refreshChange(context.Context) (string, error) { return "refresh", nil }
func (f *stubRefresher) refresh(ctx context.Context) (string, error)   { return f.onRefresh(ctx) }

// startWith is start with other resources behind some of the definition's names.
func startWith(t testing.TB, def *graph.Definition, opts Options, stubs map[string]resource) *run {
	t.Helper()
	r := prepare(t, def, opts)
	for _, v := range r.e.initial.vertices {
		if impl := stubs[v.id.String()]; impl != nil {
			v.impl = impl
		}
	}
	r.begin()
	return r
}

// definition makes a definition without the parser.
func definition(resources ...graph.Resource) *graph.Definition {
	return &graph.Definition{Resources: resources}
}

func res(kind graph.Kind, name string, spec graph.Spec) graph.Resource {
	return graph.Resource{ID: graph.ID{Kind: kind, Name: name}, Spec: spec}
}

func noop(name string) graph.Resource { return res(graph.KindNoop, name, &graph.Noop{}) }

func fileWith(name, path, content string) graph.Resource {
	return res(graph.KindFile, name, &graph.File{Path: path, Content: &content})
}

func shell(name, cmd string) graph.Resource {
	return res(graph.KindExec, name, &graph.Exec{Cmd: cmd, Shell: "sh"})
}

// with returns a definition that has more resources.
func with(def *graph.Definition, more ...graph.Resource) *graph.Definition {
	other := *def
	other.Resources = slices.Concat(def.Resources, more)
	return &other
}

func edgeTo(from, to graph.Resource, notify bool) graph.Edge {
	return graph.Edge{From: from.ID, To: to.ID, Notify: notify}
}
