package supervisor

import (
	"slices"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// TestPermitsBehindAJumpHost holds that hosts behind one jump host wait for each other and for nobody else, and nobody for them.
func TestPermitsBehindAJumpHost(t *testing.T) {
	p := newPool(4, 2)
	ask := func(host, jump string) bool {
		return p.ask(messages.AskPermit{Host: host, Through: jump})
	}
	for host, want := range map[string]bool{"a1": true, "a2": true} {
		if got := ask(host, "gate"); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
	if ask("a3", "gate") || ask("a4", "gate") {
		t.Error("a third login at once through the jump host")
	}
	if !ask("d1", "") || !ask("b1", "other") {
		t.Error("hosts elsewhere wait for the jump host")
	}
	if ask("d2", "") {
		t.Error("a fifth login at once")
	}
	for _, c := range []struct {
		gives string
		gets  []string
	}{
		{"a3", nil}, // its place in the queue
		{"b1", []string{"d2"}},
		{"d1", nil},
		{"a1", []string{"a4"}},
		{"a2", nil}, {"a4", nil}, {"d2", nil},
	} {
		var got []string
		for _, m := range p.giveBack(c.gives) {
			got = append(got, m.Host)
		}
		if !slices.Equal(got, c.gets) {
			t.Errorf("%s gives back: %q get one, want %q", c.gives, got, c.gets)
		}
	}
	if len(p.holders) != 0 || len(p.waiting) != 0 || len(p.through) != 0 {
		t.Errorf("left: %+v", p)
	}
}
