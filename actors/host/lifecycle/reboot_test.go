package lifecycle_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	. "github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

var (
	rebooted = messages.Exit{Code: -1, Error: "the host was rebooted while the payload ran", Cause: messages.CauseReboot}
	shutDown = messages.Exit{Code: -1, Signal: 15, Error: "the host was shut down", Cause: messages.CauseShutdown}
)

// probing is a machine that waits for the probe's answer.
func probing(t *testing.T, policy OnReboot) *Machine {
	t.Helper()
	return given(t, Probing, Begun{Reboot: policy})
}

// walk sends events through a machine and returns what it said to them, without the states.
func walk(m *Machine, events ...Event) string {
	var all []string
	for _, e := range events {
		if w := words(m.Step(e)); w != "" {
			all = append(all, w)
		}
	}
	return strings.Join(all, ", ")
}

// What is left of the session tells what the payload had said; then it is removed, and the payload started again over the same connection.
func TestRerunFetchesCleansAndStartsAgain(t *testing.T) {
	m := probing(t, RebootReruns)
	got := walk(m, Probed{Found: FoundRemains}, Attached{Ended: true})
	if got != "Attach" || m.State() != Finishing {
		t.Fatalf("%s, in %v", got, m.State())
	}
	if got := walk(m, PayloadExited{rebooted}, CleanedUp{}); got != "CleanUpSession, Probe" || m.State() != Probing {
		t.Fatalf("%s, in %v", got, m.State())
	}
	if m.Trace() != messages.TraceNone {
		t.Errorf("trace %v of a session that was removed", m.Trace())
	}
	got = walk(m, Probed{Found: FoundRebooted}, DirectoryMade{}, Copied{}, TunnelOpened{}, Attached{})
	if got != "Rerun, MakeDirectory, Copy, OpenTunnel, Start, UseTunnel" || m.State() != Running {
		t.Fatalf("%s, in %v", got, m.State())
	}
	for e := range flow(m, PayloadExited{good}) {
		m.Step(e)
	}
	if r := m.Result(); r.Outcome != messages.OutcomeSucceeded || r.Fault != nil || r.Exit == nil || !r.Exit.OK() {
		t.Errorf("%+v", r)
	}
}

// Where nothing is left of it, there is nothing to fetch.
func TestRerunOfWhatIsGone(t *testing.T) {
	m := probing(t, RebootReruns)
	if got := walk(m, Probed{Found: FoundRebooted}); got != "Rerun, MakeDirectory" || m.State() != MakingDirectory {
		t.Errorf("%s, in %v", got, m.State())
	}
}

// What can't be fetched is told, and does not keep the payload from its start.
func TestRerunOfWhatCanNotBeFetched(t *testing.T) {
	m := probing(t, RebootReruns)
	got := walk(m, Probed{Found: FoundRemains}, Failed{full}, CleanedUp{}, Probed{Found: FoundRebooted})
	if got != "Attach, Warn, RemoveSession, Probe, Rerun, MakeDirectory" {
		t.Errorf("%s, in %v", got, m.State())
	}
}

// What can't be removed is in the way of another start.
func TestRerunNeedsARemoval(t *testing.T) {
	m := probing(t, RebootReruns)
	walk(m, Probed{Found: FoundRemains}, Attached{Ended: true}, PayloadExited{rebooted}, Failed{full}, Disconnected{})
	if r := m.Result(); r.Outcome != messages.OutcomeFailed || r.Fault != full || r.LeftBehind == "" || m.State() != Done {
		t.Errorf("%+v in %v", r, m.State())
	}
}

func TestARebootFailsTheHost(t *testing.T) {
	for name, events := range map[string][]Event{
		"something is left": {Probed{Found: FoundRemains}, Attached{Ended: true}, PayloadExited{rebooted}},
		"nothing is left":   {Probed{Found: FoundRebooted}},
	} {
		m := probing(t, RebootFails)
		for e := range flow(m, events...) {
			m.Step(e)
		}
		r := m.Result()
		if r.Outcome != messages.OutcomeFailed || r.Fault == nil || r.Fault.Kind != fault.Environment || m.Trace() != messages.TraceNone {
			t.Fatalf("%s: %+v", name, r)
		}
		if !strings.Contains(r.Fault.Error(), "rebooted") || !strings.Contains(r.Fault.Remedy, "--on-reboot") {
			t.Errorf("%s: %v, %s", name, r.Fault, r.Fault.Remedy)
		}
	}
}

// A session that is gone without a reboot may have left its payload behind: two of them must never run at once.
func TestWhatIsMissingIsNeverStartedAgain(t *testing.T) {
	for _, policy := range []OnReboot{RebootFails, RebootReruns} {
		m := probing(t, policy)
		for e := range flow(m, Probed{Found: FoundMissing}) {
			m.Step(e)
		}
		if r := m.Result(); r.Outcome != messages.OutcomeFailed || r.Fault.Remedy == "" || !strings.Contains(r.Fault.Error(), "gone") {
			t.Errorf("%+v", r)
		}
	}
}

// An end that came before the reboot is the payload's own.
func TestAnEndBeforeTheRebootCounts(t *testing.T) {
	for _, policy := range []OnReboot{RebootFails, RebootReruns} {
		for name, events := range map[string][]Event{
			"told now":           {Probed{Found: FoundRemains}, Attached{Ended: true}, PayloadExited{bad}},
			"told before":        {Probed{Found: FoundRemains, Exit: &bad}, Attached{Ended: true}, PayloadExited{bad}},
			"and nothing's left": {Probed{Found: FoundRebooted, Exit: &bad}},
		} {
			m := probing(t, policy)
			for e := range flow(m, events...) {
				for _, effect := range m.Step(e) {
					if _, ok := effect.(Rerun); ok {
						t.Errorf("%s: started again", name)
					}
				}
			}
			if r := m.Result(); r.Outcome != messages.OutcomePayloadFailed || r.Exit == nil || *r.Exit != bad {
				t.Errorf("%s: %+v", name, r)
			}
		}
	}
}

// The boot ID can be wrong (a container that was moved), the shim can't.
func TestALiveSessionIsAlive(t *testing.T) {
	for _, policy := range []OnReboot{RebootFails, RebootReruns} {
		m := probing(t, policy)
		if got := walk(m, Probed{Found: FoundRemains}, Attached{}, TunnelOpened{}); got != "Attach, OpenTunnel, UseTunnel" || m.State() != Running {
			t.Errorf("%s, in %v", got, m.State())
		}
	}
}

// A payload that its host told to end: whether a reboot follows, only a later connection can tell.
func TestAShutdownIsWaitedFor(t *testing.T) {
	m := given(t, Running, Begun{Reboot: RebootReruns})
	if got := walk(m, PayloadExited{shutDown}); got != "Fail busy" {
		t.Errorf("live: %s", got)
	}
	m = given(t, Running, Begun{})
	if got := walk(m, PayloadExited{shutDown}); got != "CloseTunnel" {
		t.Errorf("without the policy: %s", got)
	}
	again := probing(t, RebootReruns) // the same boot, and the end is on record
	for e := range flow(again, Probed{Found: FoundSession, Exit: &shutDown}, Attached{Ended: true}, TunnelOpened{}, PayloadExited{shutDown}) {
		again.Step(e)
	}
	if r := again.Result(); r.Outcome != messages.OutcomePayloadFailed || *r.Exit != shutDown {
		t.Errorf("the same boot: %+v", r)
	}
}

func TestAStopEndsARerun(t *testing.T) {
	steps := []Event{
		Probed{Found: FoundRemains}, Attached{Ended: true}, PayloadExited{rebooted}, CleanedUp{}, Probed{Found: FoundRebooted}, DirectoryMade{},
	}
	for n := range len(steps) + 1 {
		m := probing(t, RebootReruns)
		walk(m, steps[:n]...)
		state := m.State()
		m.Step(Stop{messages.StopFinish})
		for e := range flow(m) {
			if m.State() == Probing {
				e = Probed{Found: FoundRebooted}
			}
			for _, effect := range m.Step(e) {
				if _, ok := effect.(Start); ok {
					t.Errorf("stopped in %v: started all the same", state)
				}
			}
		}
		if r := m.Result(); r.Outcome != messages.OutcomeCanceled || m.Trace() != messages.TraceNone || m.State() != Done {
			t.Errorf("stopped in %v: %+v in %v", state, r, m.State())
		}
	}
}

// Whatever happens: what is started again was known to be ended by a reboot, and nothing is left of it.
func TestNothingIsStartedAgainWithoutAReboot(t *testing.T) {
	all := maps.Clone(events)
	all["Ended"], all["Exited.Reboot"], all["Exited.Shutdown"] = Attached{Ended: true}, PayloadExited{rebooted}, PayloadExited{shutDown}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		var m Machine
		m.Step(Begun{Reboot: OnReboot(rapid.IntRange(0, 1).Draw(t, "policy"))})
		found := FoundNothing
		for range rapid.IntRange(0, 120).Draw(t, "length") {
			e := all[rapid.SampledFrom(names).Draw(t, "event")]
			if rapid.Bool().Draw(t, "forward") {
				e = forward(m.State(), false)
			}
			if p, ok := e.(Probed); ok && m.State() == Probing {
				found = p.Found
			}
			before := m.State()
			for _, effect := range m.Step(e) {
				switch effect.(type) {
				case Fail:
					return
				case Rerun:
					if before != Probing || found != FoundRebooted || m.Trace() == messages.TraceSession {
						t.Fatalf("started again in %v after %v", before, found)
					}
				case Probe:
					if before == CleaningUp && m.Trace() != messages.TraceNone {
						t.Fatalf("probes again with trace %v", m.Trace())
					}
				}
			}
		}
	})
}
