package lifecycle_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	. "github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// versions returns those of the copies among effects.
func versions(effects []Effect) (all []uint64) {
	for _, e := range effects {
		if c, ok := e.(CopyDefinition); ok {
			all = append(all, c.Version)
		}
	}
	return all
}

// given leads a machine into a state with definition 1 given from the start and, where the state comes after step 3, on the host.
func given(t *testing.T, s State, begun Begun) *Machine {
	t.Helper()
	var m Machine
	for _, e := range paths[s] {
		if b, ok := e.(Begun); ok {
			begun.Wait = b.Wait
			e = begun
		}
		m.Step(e)
	}
	if m.State() != s {
		t.Fatalf("the path to %v leads to %v", s, m.State())
	}
	return &m
}

func TestAChangeInEveryState(t *testing.T) {
	for _, s := range States() {
		m := given(t, s, Begun{Newest: 1})
		effects := m.Step(DefinitionChanged{2})
		if s == Running {
			if got := versions(effects); !slices.Equal(got, []uint64{2}) || len(effects) != 1 {
				t.Errorf("in Running: %v", effects)
			}
			continue
		}
		if len(effects) != 0 || m.State() != s {
			t.Errorf("%v: %v, now %v", s, effects, m.State())
		}
		// On the way to Running it is copied by step 3, where the probe is still to come, or once Running is entered.
		var copies []uint64
		for range 20 {
			if m.State() == Running || m.State() == Done {
				break
			}
			copies = append(copies, versions(m.Step(nudge(m.State())))...)
		}
		if m.State() != Running {
			continue // it was on the way out
		}
		var want []uint64
		if s >= Probing {
			want = []uint64{2}
		}
		if !slices.Equal(copies, want) {
			t.Errorf("%v: copies %v, want %v", s, copies, want)
		}
		if want == nil && m.Definition() != 2 {
			t.Errorf("%v: step 3 left definition %d", s, m.Definition())
		}
	}
}

func TestAReattachCopiesOnlyWhatIsNotThere(t *testing.T) {
	for _, c := range []struct {
		newest, there uint64
		want          []uint64
	}{{1, 1, nil}, {3, 3, nil}, {3, 1, []uint64{3}}, {0, 0, nil}} {
		m := given(t, Rejoining, Begun{Newest: c.newest, There: c.there, Trace: messages.TraceSession})
		if got := versions(m.Step(TunnelOpened{})); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
		if m.State() != Running || m.Definition() != c.there {
			t.Errorf("%+v: %v with definition %d", c, m.State(), m.Definition())
		}
	}
}

func TestTheLastOfSeveralChangesWins(t *testing.T) {
	m := given(t, Running, Begun{Newest: 1})
	m.Step(DefinitionChanged{2})
	for _, v := range []uint64{3, 5, 4} {
		if effects := m.Step(DefinitionChanged{v}); len(effects) != 0 {
			t.Fatalf("beside a copy in flight: %v", effects)
		}
	}
	if effects := m.Step(DefinitionCopied{9}); len(effects) != 0 || m.CopyingDefinition() != 2 {
		t.Fatalf("an answer to another copy: %v", effects)
	}
	if got := versions(m.Step(DefinitionCopied{2})); !slices.Equal(got, []uint64{5}) || m.Definition() != 2 {
		t.Fatalf("after the first: %v", got)
	}
	if effects := m.Step(DefinitionCopied{5}); len(effects) != 0 || m.Definition() != 5 || m.CopyingDefinition() != 0 {
		t.Fatalf("after the last: %v", effects)
	}
}

func TestARefusedCopyWaitsForTheNextChange(t *testing.T) {
	m := given(t, Running, Begun{Newest: 1})
	m.Step(DefinitionChanged{2})
	if effects := m.Step(DefinitionNotCopied{2}); len(effects) != 0 || m.State() != Running || m.Definition() != 1 {
		t.Fatalf("%v in %v", effects, m.State())
	}
	if effects := m.Step(Attached{}); len(versions(effects)) != 0 { // a restarted exec actor
		t.Fatalf("again: %v", effects)
	}
	if got := versions(m.Step(DefinitionChanged{3})); !slices.Equal(got, []uint64{3}) {
		t.Fatalf("the next change: %v", got)
	}
	m.Step(DefinitionChanged{4})
	if got := versions(m.Step(DefinitionNotCopied{3})); !slices.Equal(got, []uint64{4}) {
		t.Fatalf("a change while the copy did not succeed: %v", got)
	}
}

// The removal of the session's directory never meets a copy in flight.
func TestTheEndOfRunningAbandonsACopy(t *testing.T) {
	for name, event := range events {
		m := given(t, Running, Begun{Newest: 1})
		m.Step(DefinitionChanged{2})
		effects := m.Step(event)
		abandoned := slices.Contains(effects, Effect(AbandonDefinition{}))
		if gone := m.State() != Running; gone != abandoned {
			t.Errorf("%s: %v, abandoned: %v", name, m.State(), abandoned)
		} else if gone && (m.CopyingDefinition() != 0 || len(m.Step(DefinitionCopied{2})) != 0 || m.Definition() != 1) {
			t.Errorf("%s: the copy goes on", name)
		}
	}
}

// Whatever happens in whatever order, copies don't overlap, versions only grow, and none is made outside of Running.
func TestCopiesOfDefinitionsNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Machine
		newest := uint64(1)
		m.Step(Begun{Newest: 1})
		inFlight, last := uint64(0), uint64(0)
		for range rapid.IntRange(1, 100).Draw(t, "length") {
			var e Event
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0, 1, 2:
				newest++
				e = DefinitionChanged{newest}
			case 3, 4:
				e = DefinitionCopied{inFlight}
				inFlight = 0
			case 5:
				e = DefinitionNotCopied{inFlight}
				inFlight = 0
			case 6:
				e = DefinitionCopied{rapid.Uint64Range(0, newest).Draw(t, "stale")}
				if e == (DefinitionCopied{inFlight}) {
					inFlight = 0
				}
			case 7:
				e = TunnelOpened{}
			default:
				if m.State() != Running {
					e = forward(m.State(), false)
				} else {
					e = Attached{}
				}
			}
			for _, effect := range m.Step(e) {
				switch x := effect.(type) {
				case CopyDefinition:
					if m.State() != Running || inFlight != 0 || x.Version <= last || x.Version != newest {
						t.Fatalf("copy of %d in %v with %d in flight, %d copied before, %d the newest", x.Version, m.State(), inFlight, last, newest)
					}
					inFlight, last = x.Version, x.Version
				case AbandonDefinition:
					inFlight = 0
				}
			}
			if m.CopyingDefinition() != inFlight {
				t.Fatalf("the machine waits for %d, in flight is %d", m.CopyingDefinition(), inFlight)
			}
			if m.State() == Running && inFlight == 0 && max(m.Definition(), last) != newest {
				t.Fatalf("nothing is in flight, but %d was never tried", newest)
			}
		}
	})
}
