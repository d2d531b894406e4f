package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// story steps through events and writes down the effects, one line for each event that has any.
func story(m *Machine, events ...Event) string {
	var b strings.Builder
	for _, e := range events {
		for _, effect := range m.Step(e) {
			fmt.Fprintf(&b, "%T%v ", effect, effect)
		}
	}
	return strings.ReplaceAll(strings.TrimSpace(b.String()), "rollout.", "")
}

func ends(o Outcome, hosts ...string) (events []Event) {
	for _, h := range hosts {
		events = append(events, Ended{h, o})
	}
	return events
}

func TestMachine(t *testing.T) {
	waves := [][]string{{"a"}, {"b", "c"}, {"d"}}
	for name, c := range map[string]struct {
		options Options
		events  []Event
		want    string
		state   State
	}{
		"one after the other": {
			Options{Waves: waves}, append(ends(Succeeded, "a", "c", "b"), ends(Failed, "d")...),
			"WaveStarts{0} WaveEnds{0 {1 1 0 0 0}} WaveStarts{1} WaveEnds{1 {2 2 0 0 0}} WaveStarts{2} WaveEnds{2 {1 0 1 0 0}}", Over,
		},
		"nothing": {Options{}, nil, "", Over},
		"twice the same end": {
			Options{Waves: waves}, ends(Succeeded, "a", "b", "b", "a"), "WaveStarts{0} WaveEnds{0 {1 1 0 0 0}} WaveStarts{1}", Going,
		},
		"no host of a wave succeeded": {
			Options{Waves: waves}, ends(Unreachable, "a"),
			"WaveStarts{0} WaveEnds{0 {1 0 0 1 0}} Exceed{no host of wave 1 succeeded}", Exceeded,
		},
		"a wave that was left out is none that failed": {
			Options{Waves: waves}, ends(Left, "b", "c", "a"),
			"WaveStarts{0} WaveEnds{0 {1 0 0 0 1}} WaveStarts{1} WaveEnds{1 {2 0 0 0 2}} WaveStarts{2}", Going,
		},
		"canaries tolerate nothing": {
			Options{Waves: [][]string{{"a", "b"}, {"c"}}, Canary: true}, ends(Failed, "b"),
			"WaveStarts{0} Exceed{1 of 2 hosts of wave 1 failed, more than 0}", Exceeded,
		},
		"nor that they are unreachable": {
			Options{Waves: [][]string{{"a", "b"}, {"c"}}, Canary: true}, ends(Unreachable, "b"),
			"WaveStarts{0} Exceed{1 of 2 hosts of wave 1 were unreachable, more than 0}", Exceeded,
		},
		"unless they are told to": {
			Options{Waves: [][]string{{"a", "b"}, {"c"}}, Canary: true, Failures: &Amount{50, true}}, append(ends(Failed, "b"), ends(Succeeded, "a")...),
			"WaveStarts{0} WaveEnds{0 {2 1 1 0 0}} WaveStarts{1}", Going,
		},
		"bounds are of each wave": {
			Options{Waves: [][]string{{"a", "b"}, {"c", "d"}}, Failures: &Amount{1, false}},
			slices.Concat(ends(Failed, "a"), ends(Succeeded, "b"), ends(Failed, "c", "d")),
			"WaveStarts{0} WaveEnds{0 {2 1 1 0 0}} WaveStarts{1} Exceed{2 of 2 hosts of wave 2 failed, more than 1} WaveEnds{1 {2 0 2 0 0}}", Exceeded,
		},
		"or of all": {
			Options{Waves: [][]string{{"a", "b"}, {"c", "d"}}, TotalFailures: &Amount{25, true}},
			slices.Concat(ends(Failed, "a"), ends(Succeeded, "b"), ends(Failed, "c")),
			"WaveStarts{0} WaveEnds{0 {2 1 1 0 0}} WaveStarts{1} Exceed{2 of all 4 hosts failed, more than 25%}", Exceeded,
		},
		"and exceeded once": {
			Options{Waves: [][]string{{"a", "b"}}, TotalUnreachable: &Amount{0, false}}, ends(Unreachable, "a", "b"),
			"WaveStarts{0} Exceed{1 of all 2 hosts were unreachable, more than 0} WaveEnds{0 {2 0 0 2 0}}", Exceeded,
		},
		"a rest": {
			Options{Waves: waves, Rest: time.Minute}, []Event{Ended{"a", Succeeded}, Ended{"d", Left}, Rested{1}, Rested{0}, Rested{0}},
			"WaveStarts{0} WaveEnds{0 {1 1 0 0 0}} Rest{0 1m0s} WaveStarts{1}", Going,
		},
		"a rest that is cut short": {
			Options{Waves: waves, Rest: time.Minute, Ask: true}, []Event{WentOn{}, Ended{"a", Succeeded}, WentOn{}, Rested{0}},
			"WaveStarts{0} WaveEnds{0 {1 1 0 0 0}} Rest{0 1m0s} WaveStarts{1}", Going,
		},
		"a question": {
			Options{Waves: waves, Rest: time.Minute, Ask: true}, []Event{Ended{"a", Succeeded}, Rested{0}, Rested{0}, WentOn{}, WentOn{}},
			"WaveStarts{0} WaveEnds{0 {1 1 0 0 0}} Rest{0 1m0s} Ask{0} WaveStarts{1}", Going,
		},
		"a stop": {
			Options{Waves: waves, Ask: true}, []Event{Stop{}, Ended{"a", Left}, Ended{"b", Left}, WentOn{}},
			"WaveStarts{0}", Stopped,
		},
		"a host that comes late": {
			Options{Waves: waves[:2]}, append([]Event{Added{"x"}, Added{"a"}}, ends(Succeeded, "a", "b", "c")...),
			"WaveStarts{0} WaveEnds{0 {1 1 0 0 0}} WaveStarts{1}", Going,
		},
		"begun by an earlier initiator": {
			Options{Waves: [][]string{{"a"}, {"b", "c"}, {"d", "e"}}, Ended: map[string]Outcome{"a": Succeeded, "d": Left}, Begun: []string{"c"}, Ask: true}, ends(Succeeded, "b", "c"),
			"WaveStarts{1} WaveEnds{1 {2 2 0 0 0}} Ask{1}", Asking,
		},
		"between two waves of an earlier one": {
			Options{Waves: waves, Ended: map[string]Outcome{"a": Succeeded}, Ask: true}, nil, "Ask{0}", Asking,
		},
		"exceeded in an earlier one": {
			Options{Waves: waves, Ended: map[string]Outcome{"a": Failed}, Failures: &Amount{0, false}}, nil,
			"Exceed{1 of 1 hosts of wave 1 failed, more than 0}", Exceeded,
		},
		"what was left behind is gone on with": {
			Options{Waves: waves, Ended: map[string]Outcome{"b": Succeeded, "c": Succeeded}, Begun: []string{"a"}}, ends(Succeeded, "a"),
			"WaveStarts{1} WaveEnds{1 {2 2 0 0 0}} WaveStarts{2}", Going,
		},
	} {
		m := NewMachine(c.options)
		if got := story(m, append([]Event{Start{}}, c.events...)...); got != c.want || m.State() != c.state {
			t.Errorf("%s:\n%s, %v, not\n%s, %v", name, got, m.State(), c.want, c.state)
		}
	}
}

// TestWavesNeverOverlap has hosts end in any order: nobody may begin before the wave before is done, everybody does sooner or later, and
// where an earlier initiator is continued at any moment, it ends in the same way.
func TestWavesNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := names(rapid.IntRange(1, 20).Draw(t, "hosts"))
		o := Options{
			Waves: Waves(hosts, amounts(t), rapid.SliceOfDistinct(rapid.SampledFrom(hosts), rapid.ID).Draw(t, "canary")),
			Rest:  time.Duration(rapid.IntRange(0, 1).Draw(t, "rest")), Ask: rapid.Bool().Draw(t, "ask"),
		}
		m := NewMachine(o)
		waiting, working := slices.Clone(hosts), map[string]bool{}
		ended := map[string]Outcome{}
		take := func(effects []Effect) {
			for next := effects; len(next) > 0; {
				effect := next[0]
				next = next[1:]
				switch e := effect.(type) {
				case WaveStarts:
					for host := range working {
						if m.waveOf[host] < e.Wave {
							t.Fatalf("wave %d starts while %s works", e.Wave, host)
						}
					}
				case Rest:
					next = append(next, m.Step(Rested{e.Wave})...)
				case Ask:
					next = append(next, m.Step(WentOn{})...)
				case Exceed:
					t.Fatalf("exceeded: %s", e.Reason)
				}
			}
		}
		take(m.Step(Start{}))
		for turn := 0; len(ended) < len(hosts); turn++ {
			if turn > 10*len(hosts)+10 {
				t.Fatalf("stuck in %v, wave %d, waiting %q", m.State(), m.wave, waiting)
			}
			waiting = slices.DeleteFunc(waiting, func(h string) bool {
				if m.WaveOf(h) >= m.Open() {
					return false
				}
				working[h] = true
				return true
			})
			if rapid.IntRange(0, 5).Draw(t, "resume") == 0 {
				o.Ended, o.Begun = ended, nil
				for host := range working {
					o.Begun = append(o.Begun, host)
				}
				m = NewMachine(o)
				take(m.Step(Start{}))
				continue
			}
			if len(working) == 0 {
				continue
			}
			var all []string
			for _, h := range hosts {
				if working[h] {
					all = append(all, h)
				}
			}
			host := rapid.SampledFrom(all).Draw(t, "ends")
			delete(working, host)
			ended[host] = Succeeded
			take(m.Step(Ended{host, Succeeded}))
		}
		if m.State() != Over {
			t.Fatalf("all are done, and it is %v", m.State())
		}
	})
}
