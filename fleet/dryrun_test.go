package fleet

import (
	"reflect"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// TestDryRun looks at a host that is fine, one on which a run would fail, and waves, and holds that nothing is changed anywhere.
func TestDryRun(t *testing.T) {
	r := newRig(t, says("1"), says("2"), says("3"))
	r.opts.DryRun = true
	r.opts.Payload.Command = []string{"echo", "{{.Host}}", "{{.Dir}}/x", "{{.Endpoint}}"}
	r.opts.Hosts[1].Prefix = "/nowhere"
	r.opts.Rollout = Rollout{Canary: []string{"h2"}, Confirm: true}
	before := map[string]any{}
	for name, sim := range r.sims {
		before[name] = sim.Files()
	}
	report, err := r.fleet().Run(t.Context())
	if err != nil || len(report.Results) != 3 || report.Exceeded != "" {
		t.Fatalf("%+v, %v", report, err)
	}
	for i, want := range []messages.Outcome{messages.OutcomeSucceeded, messages.OutcomeFailed, messages.OutcomeSucceeded} {
		if got := report.Results[i]; got.Outcome != want || got.LeftBehind != "" {
			t.Errorf("%+v", got)
		}
	}
	plans := map[string]messages.HostPlanned{}
	for _, e := range r.events {
		switch e := e.(type) {
		case messages.HostPlanned:
			plans[e.Host] = e
		case messages.PayloadStarted, messages.RunPaused:
			t.Errorf("in a dry run: %+v", e)
		}
	}
	if len(plans) != 2 || len(r.waveStarts(0)) != 2 {
		t.Errorf("plans %+v, waves %q", plans, r.waveStarts(0))
	}
	p := plans["h1"]
	if p.Action != "start" || p.Base != "/var/tmp/mgmt-remote-1000" || !p.Exists || p.Tunnel != "forward" || !p.Cache ||
		len(p.Copies) != 1 || !p.Copies[0].Cached || p.Copies[0].Bytes == 0 || strings.Join(p.Command, " ") != "echo h1 SESSION/x ENDPOINT" {
		t.Errorf("%+v", p)
	}
	for name, sim := range r.sims {
		if after := sim.Files(); !reflect.DeepEqual(before[name], any(after)) {
			t.Errorf("%s: %+v became %+v", name, before[name], after)
		}
		if sim.PayloadStarts() != 0 {
			t.Errorf("%s: a payload was started", name)
		}
	}
	if left := r.states(); len(left) != 0 {
		t.Errorf("state of %q", left)
	}
}
