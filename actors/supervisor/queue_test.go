package supervisor

import (
	"slices"
	"testing"

	"github.com/asynkron/protoactor-go/actor"
)

// Hosts begin in the order in which they came, wave by wave; what is urgent goes before all.
func TestQueue(t *testing.T) {
	var q queue
	hosts := map[string]*host{}
	named := func(name string) *host {
		if hosts[name] == nil {
			hosts[name] = &host{name: name}
		}
		return hosts[name]
	}
	take := func(waves int) (names []string) {
		for h := q.next(waves); h != nil; h = q.next(waves) {
			h.pid = &actor.PID{}
			names = append(names, h.name)
		}
		return names
	}
	q.add(named("c"), 2)
	q.add(named("a1"), 0)
	q.add(named("b"), 1)
	q.add(named("a2"), 0)
	q.add(named("gone"), 0)
	named("gone").done = true
	q.urgent = append(q.urgent, named("u"), named("b"), named("u"))
	for _, c := range []struct {
		waves int
		want  []string
	}{
		{0, []string{"u", "b"}},
		{1, []string{"a1", "a2"}},
		{2, nil}, // b began already
		{1 << 40, []string{"c"}},
	} {
		if got := take(c.waves); !slices.Equal(got, c.want) {
			t.Errorf("with %d waves: %q, want %q", c.waves, got, c.want)
		}
	}
	q.add(named("late"), 0)
	if got := take(1); !slices.Equal(got, []string{"late"}) {
		t.Errorf("a host that comes later: %q", got)
	}
	q.add(named("d"), 3)
	q.add(named("e"), 0)
	var rest []string
	for _, h := range q.takeWaves() {
		if h.waits() {
			rest = append(rest, h.name)
		}
	}
	if !slices.Equal(rest, []string{"e", "d"}) || q.next(9) != nil {
		t.Errorf("all that wait: %q", rest)
	}
}
