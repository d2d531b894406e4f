package lifecycle_test

import (
	"testing"

	. "github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// A dry machine tells where a run would go, and leaves without having asked for anything that changes the host.
func TestADryMachineOnlyLooks(t *testing.T) {
	for found, c := range map[Found]struct {
		next    State
		outcome messages.Outcome
	}{
		FoundNothing: {MakingDirectory, messages.OutcomeSucceeded}, FoundDirectory: {MakingDirectory, messages.OutcomeSucceeded},
		FoundSession: {Attaching, messages.OutcomeSucceeded}, FoundForeign: {0, messages.OutcomeFailed}, FoundMissing: {0, messages.OutcomeFailed},
	} {
		m := given(t, Probing, Begun{Dry: true})
		var told *Preview
		for _, effect := range m.Step(Probed{Found: found}) {
			switch e := effect.(type) {
			case Preview:
				told = &e
			case Enter, Disconnect:
			default:
				t.Errorf("%v: %T", found, e)
			}
		}
		if (told != nil) != (c.next != 0) || told != nil && told.Next != c.next || m.State() != Disconnecting || m.Trace() != messages.TraceNone {
			t.Errorf("%v: told %v, in %v, trace %v", found, told, m.State(), m.Trace())
		}
		m.Step(Disconnected{})
		if r := m.Result(); r.Outcome != c.outcome || r.LeftBehind != "" {
			t.Errorf("%v: %+v", found, r)
		}
	}
	m := given(t, Probing, Begun{Dry: true})
	m.Step(Stop{Level: messages.StopFinish})
	m.Step(Probed{Found: FoundNothing})
	if r := m.Result(); r.Outcome != messages.OutcomeCanceled {
		t.Errorf("stopped: %+v", r)
	}
}
