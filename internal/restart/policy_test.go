package restart

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

func whole() float64 { return 0.999999 }

func TestBackoffDoublesUpToTheCap(t *testing.T) {
	tr := NewTracker(Default(0), whole)
	now := time.Unix(0, 0)
	for i, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second} {
		d := tr.Failed(fault.Lost, now)
		if !d.Restart || d.Delay > want || d.Delay < want-want/1000 {
			t.Fatalf("failure %d: %+v, want just under %v", i, d, want)
		}
		now = now.Add(time.Hour)
	}
}

func TestOnceIsOneAttempt(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Lost, fault.Unreachable, fault.Busy} {
		if d := NewTracker(Default(Once), whole).Failed(kind, time.Unix(0, 0)); d.Restart || d.Why == "" {
			t.Errorf("%v: %+v", kind, d)
		}
	}
}

func TestBusyWaitsLonger(t *testing.T) {
	d := NewTracker(Default(0), whole).Failed(fault.Busy, time.Unix(0, 0))
	if d.Delay < 1900*time.Millisecond {
		t.Fatalf("delay after Busy is %v", d.Delay)
	}
}

func TestBudgetEndsTheRowAndAStableTimeRenewsIt(t *testing.T) {
	p := Default(10 * time.Second)
	tr := NewTracker(p, whole)
	now := time.Unix(0, 0)
	if d := tr.Failed(fault.Unreachable, now); !d.Restart {
		t.Fatalf("first failure: %+v", d)
	}
	now = now.Add(9 * time.Second)
	if d := tr.Failed(fault.Unreachable, now); !d.Restart || d.Delay > time.Second {
		t.Fatalf("the last attempt must come within the budget: %+v", d)
	}
	tr.Well(now)
	tr.Well(now.Add(p.Stable)) // saying it again does not move the beginning
	now = now.Add(p.Stable)
	if d := tr.Failed(fault.Lost, now); !d.Restart {
		t.Fatalf("a stable time did not renew the budget: %+v", d)
	}
	tr.Well(now)
	now = now.Add(p.Budget)
	if d := tr.Failed(fault.Lost, now); d.Restart || d.Why == "" {
		t.Fatalf("a short recovery renewed the budget: %+v", d)
	}
}

func TestKindsThatNeverRestart(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Denied, fault.Untrusted, fault.Environment, fault.Payload, fault.Canceled} {
		if d := NewTracker(Default(0), whole).Failed(kind, time.Unix(0, 0)); d.Restart {
			t.Errorf("%v restarts", kind)
		}
	}
}

// Who was let in before is let in again, perhaps: that is tried, but rarely. Who never was is not.
func TestStayingTriesSlowlyWhatWorkedBefore(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Denied, fault.Untrusted, fault.Environment} {
		for random, want := range map[float64]time.Duration{0: 150 * time.Second, 0.5: 225 * time.Second} {
			tr := NewTracker(Stay(), func() float64 { return random })
			now := time.Unix(0, 0)
			if d := tr.Failed(kind, now); d.Restart || d.Why == "" {
				t.Errorf("%v of a host that never was well: %+v", kind, d)
			}
			tr.Well(now)
			for range 3 {
				if d := tr.Failed(kind, now); !d.Restart || d.Delay != want {
					t.Errorf("%v: %+v, want %v", kind, d, want)
				}
			}
		}
	}
	tr := NewTracker(Stay(), whole)
	tr.Well(time.Unix(0, 0))
	for _, kind := range []fault.Kind{fault.Payload, fault.Canceled} {
		if d := tr.Failed(kind, time.Unix(0, 0)); d.Restart {
			t.Errorf("%v restarts", kind)
		}
	}
	for range 1000 {
		if d := tr.Failed(fault.Unreachable, time.Unix(1<<40, 0)); !d.Restart || d.Delay > Stay().Cap {
			t.Fatalf("gives up: %+v", d)
		}
	}
}

func TestFourBugsInAMinuteStop(t *testing.T) {
	tr := NewTracker(Default(0), whole)
	now := time.Unix(0, 0)
	for i := range 3 {
		if d := tr.Failed(fault.Bug, now); !d.Restart {
			t.Fatalf("bug %d: %+v", i, d)
		}
		now = now.Add(time.Second)
	}
	if d := tr.Failed(fault.Bug, now); d.Restart {
		t.Fatal("the fourth bug restarts")
	}
	if d := tr.Failed(fault.Bug, now.Add(2*time.Minute)); !d.Restart {
		t.Fatal("old bugs count")
	}
}

func TestDelaysStayWithinBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Default(time.Duration(rapid.IntRange(0, 300).Draw(t, "budget")) * time.Second)
		tr := NewTracker(p, func() float64 { return rapid.Float64Range(0, 0.999).Draw(t, "random") })
		now, began := time.Unix(0, 0), time.Unix(0, 0)
		for range rapid.IntRange(1, 40).Draw(t, "failures") {
			d := tr.Failed(rapid.SampledFrom([]fault.Kind{fault.Lost, fault.Unreachable, fault.Busy}).Draw(t, "kind"), now)
			if d.Delay < 0 || d.Delay > p.Cap {
				t.Fatalf("delay %v", d.Delay)
			}
			if !d.Restart {
				if p.Budget == 0 {
					t.Fatal("gave up without a budget")
				}
				return
			}
			if p.Budget > 0 && now.Add(d.Delay).Sub(began) > p.Budget {
				t.Fatalf("attempt at %v is later than the budget %v", now.Add(d.Delay).Sub(began), p.Budget)
			}
			now = now.Add(d.Delay).Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "took")) * time.Millisecond)
		}
	})
}

func TestFaultOf(t *testing.T) {
	f := fault.New(fault.Lost, "run", "EOF")
	if FaultOf(f) != f {
		t.Error("a fault is not itself")
	}
	if k := FaultOf(errors.New("x")).Kind; k != fault.Bug {
		t.Errorf("an error is %v", k)
	}
	if k := FaultOf("x").Kind; k != fault.Bug {
		t.Errorf("a string is %v", k)
	}
}
