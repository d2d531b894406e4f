package supervisor

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

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
	if len(p.holders) != 0 || len(p.waiting) != 0 || len(p.queues) != 0 || len(p.through) != 0 {
		t.Errorf("left: %+v", p)
	}
}

// TestPermitsGoToWhoWaitedLongest has hosts ask, give back and give up in any order, and compares with what is easily seen to be right.
func TestPermitsGoToWhoWaitedLongest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit, jumping := rapid.IntRange(1, 4).Draw(t, "limit"), rapid.IntRange(1, 3).Draw(t, "jumping")
		p := newPool(limit, jumping)
		through, waiting, holding := map[string]string{}, []string{}, []string{}
		behind := func(jump string) (n int) {
			for _, h := range holding {
				if through[h] == jump {
					n++
				}
			}
			return n
		}
		fits := func(h string) bool {
			return len(holding) < limit && (through[h] == "" || behind(through[h]) < jumping)
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			h := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}).Draw(t, "host")
			if !slices.Contains(waiting, h) && !slices.Contains(holding, h) {
				through[h] = rapid.SampledFrom([]string{"", "gate", "door"}).Draw(t, "through")
				want := fits(h)
				if got := p.ask(messages.AskPermit{Host: h, Through: through[h]}); got != want {
					t.Fatalf("%s asks: %v", h, got)
				}
				if want {
					holding = append(holding, h)
				} else {
					waiting = append(waiting, h)
				}
				continue
			}
			is := func(other string) bool { return other == h }
			waiting, holding = slices.DeleteFunc(waiting, is), slices.DeleteFunc(holding, is)
			var want, got []string
			waiting = slices.DeleteFunc(waiting, func(h string) bool {
				if !fits(h) {
					return false
				}
				holding, want = append(holding, h), append(want, h)
				return true
			})
			for _, m := range p.giveBack(h) {
				got = append(got, m.Host)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s gives back: %q get one, want %q", h, got, want)
			}
		}
	})
}

// BenchmarkPermits has 10,000 hosts wait for a permit at once, each until the one before it is done.
func BenchmarkPermits(b *testing.B) {
	for name, jumps := range map[string]int{"direct": 0, "jump hosts": 20} {
		b.Run(name, func(b *testing.B) {
			asks := make([]messages.AskPermit, 10_000)
			for i := range asks {
				asks[i].Host = fmt.Sprintf("h%d", i)
				if jumps > 0 {
					asks[i].Through = fmt.Sprintf("j%d", i%jumps)
				}
			}
			for b.Loop() {
				p := newPool(DefaultHandshakes, DefaultJumping)
				for _, m := range asks {
					p.ask(m)
				}
				for next := asks[:1]; len(next) > 0; {
					var more []messages.AskPermit
					for _, m := range next {
						more = append(more, p.giveBack(m.Host)...)
					}
					next = more
				}
			}
		})
	}
}
