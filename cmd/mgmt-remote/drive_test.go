//go:build !engine

package main

import (
	"bytes"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

func TestSayNext(t *testing.T) {
	ok, failed := messages.Result{Outcome: messages.OutcomeSucceeded}, messages.Result{Outcome: messages.OutcomePayloadFailed}
	taken := messages.Result{Outcome: messages.OutcomeTakenOver}
	for name, c := range map[string]struct {
		kept    fleet.Kept
		results []messages.Result
		want    string
	}{
		"all is well":       {fleet.KeptNothing, []messages.Result{ok}, ""},
		"kept to look at":   {fleet.KeptToLookAt, []messages.Result{ok}, ""},
		"one failed":        {fleet.KeptForRetry, []messages.Result{ok, failed}, "mgmt-remote: again on the 1 host that did not succeed: mgmt-remote run --retry-failed k3v9x0ab\n"},
		"something is left": {fleet.KeptForResume, []messages.Result{ok, failed}, "mgmt-remote: to go on, and to clean up what is left on hosts: mgmt-remote resume k3v9x0ab\n"},
		"taken over":        {fleet.KeptForResume, []messages.Result{taken, failed}, ""},
	} {
		var b bytes.Buffer
		if sayNext(&b, fleet.Report{Run: "k3v9x0ab", Kept: c.kept, Results: c.results}); b.String() != c.want {
			t.Errorf("%s: %q", name, b.String())
		}
	}
}
