package supervisor_test

import (
	"testing"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// TestHandOver lets go of a host in every state: nothing is ended there, and the supervisor is done at once.
func TestHandOver(t *testing.T) {
	for _, state := range append([]string{"Admitting"}, connectedStates[:len(connectedStates)-1]...) {
		t.Run(state, func(t *testing.T) {
			p, itself := untilStopped, false
			if state == "Finishing" || state == "ClosingTunnel" || state == "CleaningUp" {
				p, itself = talks, true // it gets there by itself, and may be done before it is told
			}
			inBubble(t, one(p), func(r *rig) {
				r.cfg.Observe = r.onState(state, func() { r.send(messages.HandOver{}) })
				r.start()
				result := r.result()
				done := itself && result.Outcome == messages.OutcomeSucceeded && result.LeftBehind == "" && len(r.sims["h1"].Sessions()) == 0
				if result.Outcome != messages.OutcomeTakenOver && !done {
					r.Errorf("result %+v\n%s", result, r.story())
				}
			})
		})
	}
}

// TestHandOverWhileWaiting has hosts that are not connected, or never were, handed over like the others, and the session that one of
// them has goes on.
func TestHandOverWhileWaiting(t *testing.T) {
	inBubble(t, one(untilStopped), func(r *rig) {
		r.cfg.Policy.Budget = 0
		r.start()
		r.awaitState("h1", "Running")
		r.network.Remove("h1:22")
		r.sims["h1"].Drop()
		r.awaitState("h1", "Waiting")
		r.send(messages.HandOver{})
		result := r.result()
		if result.Outcome != messages.OutcomeTakenOver || result.LeftBehind == "" {
			r.Errorf("result %+v", result)
		}
		if n := len(r.sims["h1"].Sessions()); n != 1 {
			r.Errorf("%d sessions are left", n)
		}
	})
}
