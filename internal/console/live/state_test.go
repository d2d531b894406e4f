package live

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// names are n hosts, web1 and so on.
func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("web%d", i+1)
	}
	return all
}

// check holds what is true of every state.
func (s *state) check() error {
	var count [places]int
	quiet, left := 0, int64(0)
	for _, h := range s.hosts {
		count[h.place]++
		left += h.total - h.sent
		if h.quiet {
			quiet++
		}
		if len(h.tail) > 3*maxTail || len(h.partial) > maxPartial {
			return fmt.Errorf("%s keeps %d and %d bytes", h.name, len(h.tail), len(h.partial))
		}
	}
	if count != s.count || quiet != s.quiet || left != s.left {
		return fmt.Errorf("counted %v, %d quiet, %d left; the state says %v, %d, %d", count, quiet, left, s.count, s.quiet, s.left)
	}
	if len(s.recent) > 2*maxRecent || len(s.notes) > 2*maxNotes {
		return fmt.Errorf("%d lines and %d notes are kept", len(s.recent), len(s.notes))
	}
	return nil
}

// TestCountsAreRight applies events in any order, also such as no run has.
func TestCountsAreRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newState()
		s.apply(messages.RunStarted{At: start, Run: "r", Hosts: names(5)})
		name := rapid.SampledFrom(append(names(5), "late1", "late2"))
		event := rapid.Custom(func(t *rapid.T) messages.Event {
			h, now := name.Draw(t, "host"), at(rapid.Float64Range(0, 100).Draw(t, "at"))
			switch rapid.IntRange(0, 8).Draw(t, "type") {
			case 0:
				return messages.StateChanged{At: now, Host: h, State: rapid.SampledFrom([]string{"New", "Admitting", "Waiting", "Running", "Copying"}).Draw(t, "state")}
			case 1:
				return messages.StepStarted{At: now, Host: h, Step: messages.Step(rapid.IntRange(1, 9).Draw(t, "step"))}
			case 2:
				return messages.Progressed{At: now, Host: h, Sent: rapid.Int64Range(0, 50).Draw(t, "sent"), Total: rapid.Int64Range(50, 100).Draw(t, "total")}
			case 3:
				return messages.QuietReported{At: now, Host: h, Quiet: rapid.Bool().Draw(t, "quiet")}
			case 4:
				return messages.OutputReceived{At: now, Host: h, Data: []byte(strings.Repeat(rapid.SampledFrom([]string{"x", "\n", "x\n"}).Draw(t, "text"), rapid.IntRange(0, 5000).Draw(t, "length")))}
			case 5:
				return messages.HostTroubled{At: now, Host: h, Attempt: 1, Reason: "x", Retry: true}
			case 6:
				return messages.HostWarned{At: now, Host: h, Text: "x"}
			case 7:
				return messages.PayloadStarted{At: now, Host: h, PID: 1}
			default:
				outcome := messages.Outcome(rapid.IntRange(int(messages.OutcomeSucceeded), int(messages.OutcomeSkipped)).Draw(t, "outcome"))
				return messages.HostFinished{At: now, Result: messages.Result{Host: h, Outcome: outcome}}
			}
		})
		for i, e := range rapid.SliceOfN(event, 0, 60).Draw(t, "events") {
			s.apply(e)
			if err := s.check(); err != nil {
				t.Fatalf("after event %d, %+v: %v", i, e, err)
			}
		}
		s.refold(at(1000))
		for p := range s.folds {
			if (len(s.folds[p].pieces) > 0) != (s.count[p] > 0) {
				t.Errorf("%v: %d hosts, folded %q", place(p), s.count[p], s.folds[p].pieces)
			}
		}
	})
}

// TestSpeed: rates are means of the last seconds, and nobody guesses from nothing.
func TestSpeed(t *testing.T) {
	var s speed
	if hosts, bytes := s.perSecond(); hosts != 0 || bytes != 0 {
		t.Errorf("%v %v", hosts, bytes)
	}
	for i := range 101 { // ten hosts a second for 10 s, then none
		s.note(sample{at(float64(i) / 4), min(100, i*10/4), int64(min(100, i*10/4)) * 1000})
		if i == 20 {
			if hosts, bytes := s.perSecond(); hosts != 10 || bytes != 10000 {
				t.Errorf("after 5 s: %v %v", hosts, bytes)
			}
		}
	}
	if hosts, _ := s.perSecond(); hosts != 0 {
		t.Errorf("15 s after the last: %v", hosts)
	}
	if d, ok := eta(100, 10); !ok || d != 10*time.Second {
		t.Errorf("%v %v", d, ok)
	}
	if _, ok := eta(100, 0); ok {
		t.Error("guessed")
	}
}

func TestFilter(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "web1": true, "WEB": true, "web2": false, "fail": true, "copy": false, "web[1-3]": true, "web[2-3]": false, "web2,web1": true, "web[": false,
	} {
		if got := newFilter(text).shows(&host{name: "web1", place: failed}); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// BenchmarkEvent is the cost of an event where hosts are many.
func BenchmarkEvent(b *testing.B) {
	s := newState()
	all := names(10_000)
	s.apply(messages.RunStarted{At: start, Run: "r", Hosts: all})
	i := 0
	for b.Loop() {
		s.apply(messages.StepStarted{At: start, Host: all[i%len(all)], Step: messages.Step(1 + i/len(all)%9)})
		i++
	}
}

// BenchmarkScreen is the cost of a screen with 10,000 hosts, everywhere on their way, a tenth of them failed: with what is made once a
// second at most, and without.
func BenchmarkScreen(b *testing.B) {
	s := newState()
	all := names(10_000)
	s.apply(messages.RunStarted{At: start, Run: "r", Hosts: all})
	for i, name := range all {
		s.apply(messages.StepStarted{At: at(float64(i % 60)), Host: name, Step: messages.Step(1 + i%9)})
		if i%10 == 0 {
			s.apply(messages.HostFinished{At: at(60), Result: messages.Result{Host: name, Outcome: messages.OutcomeFailed, Reason: fmt.Sprintf("copy: disk of %s is full", name)}})
		}
	}
	b.Run("folded anew", func(b *testing.B) {
		now := at(100)
		for b.Loop() {
			for p := range s.folds {
				s.folds[p].stale = true
			}
			s.grouped.stale, now = true, now.Add(foldEvery)
			s.refold(now)
			s.overview(&page{width: 200, height: 50}, now, false, nil)
		}
	})
	b.Run("as it is", func(b *testing.B) {
		for b.Loop() {
			s.refold(at(100))
			s.overview(&page{width: 200, height: 50}, at(100), false, nil)
		}
	})
}
