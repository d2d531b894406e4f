package fleet

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// waveStarts returns which waves began, as "1/3 h1 h2", of the events from the n-th on.
func (r *rig) waveStarts(n int) (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events[n:] {
		if w, ok := e.(messages.WaveStarted); ok {
			all = append(all, strings.Join(append([]string{string(rune('0'+w.Wave)) + "/" + string(rune('0'+w.Waves))}, w.Hosts...), " "))
		}
	}
	return all
}

func TestHostsBeginInWavesAsGiven(t *testing.T) {
	r := newRig(t, says("1"), says("2"), says("3"), says("4"))
	r.opts.Hosts[0], r.opts.Hosts[3] = r.opts.Hosts[3], r.opts.Hosts[0]
	r.opts.Rollout = Rollout{Canary: []string{"h3"}, Serial: []Amount{{N: 2}}}
	report, err := r.fleet().Run(t.Context())
	if err != nil || report.Exceeded != "" || len(report.Results) != 4 {
		t.Fatalf("%+v, %v", report, err)
	}
	if got := strings.Join(r.waveStarts(0), ", "); got != "1/3 h3, 2/3 h4 h2, 3/3 h1" {
		t.Errorf("waves %s", got)
	}
	for _, result := range report.Results {
		if result.Outcome != messages.OutcomeSucceeded {
			t.Errorf("%+v", result)
		}
	}
}

func TestACanaryThatFailsEndsTheRun(t *testing.T) {
	r := newRig(t, simhost.Payload{Run: time.Millisecond, ExitCode: 1}, says("2"))
	r.opts.Rollout = Rollout{Canary: []string{"h1"}}
	report, err := r.fleet().Run(t.Context())
	if err != nil || report.Exceeded != "1 of 1 hosts of wave 1 failed, more than 0" || report.Results[1].Outcome != messages.OutcomeSkipped {
		t.Errorf("%+v, %v", report, err)
	}
	if n := r.sims["h2"].PayloadStarts(); n != 0 {
		t.Errorf("%d starts", n)
	}
}

// TestContinueInTheWave has a second initiator go on where the first one was lost in the middle of the second of three waves.
func TestContinueInTheWave(t *testing.T) {
	second := make(chan struct{}) // closed when the second initiator drives the run: until then the wave is not over
	r := newRig(t, says("1"), says("2"), simhost.Payload{Body: func(ctx context.Context, _ *simhost.Process) int {
		select {
		case <-second:
			return 0
		case <-ctx.Done():
			return 1
		}
	}}, says("4"))
	r.opts.Rollout = Rollout{Serial: []Amount{{N: 1}, {N: 2}}, Confirm: true, MaxFailures: &Amount{N: 1}}
	first := r.fleet()
	observe := first.opts.Observe
	first.opts.Observe = func(e messages.Event) {
		observe(e)
		if p, paused := e.(messages.RunPaused); paused && p.Reason != "" {
			first.Continue()
		}
	}
	go func() {
		<-r.at["h3"]
		first.HandOver() // as if it were killed
	}()
	report, err := first.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	opts, err := Saved(r.opts.StateDir, report.Run)
	if err != nil {
		t.Fatal(err)
	}
	if o := opts.Rollout; len(o.Serial) != 2 || !o.Confirm || o.MaxFailures == nil || o.MaxFailures.N != 1 || opts.Hosts[2].Name != "h3" {
		t.Fatalf("the rollout was kept as %+v", o)
	}
	before := len(r.events)
	opts.SSH.NetDial = r.opts.SSH.NetDial
	var continuing *Fleet
	opts.Observe = func(e messages.Event) {
		r.observe(e)
		switch e := e.(type) {
		case messages.RunStarted:
			close(second)
		case messages.RunPaused:
			if e.Reason != "" {
				continuing.Continue()
			}
		}
	}
	r.opts = opts
	continuing = r.fleet()
	again, err := continuing.Run(t.Context())
	if err != nil || len(again.Results) != 4 {
		t.Fatalf("%+v, %v", again, err)
	}
	if got := strings.Join(r.waveStarts(before), ", "); got != "2/3 h2 h3, 3/3 h4" {
		t.Errorf("the second initiator had the waves %s", got)
	}
	for _, result := range again.Results {
		if result.Outcome != messages.OutcomeSucceeded || r.sims[result.Host].PayloadStarts() != 1 {
			t.Errorf("%+v after %d starts", result, r.sims[result.Host].PayloadStarts())
		}
	}
}

func TestRolloutsThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(o *Options)
		says   string
	}{
		"a canary that is no host": {func(o *Options) { o.Rollout.Canary = []string{"h9"} }, "canary h9"},
		"a group in waves":         {func(o *Options) { o.Converge = ConvergeGroup }, "2 waves"},
		"payloads without an end":  {func(o *Options) { o.Payload.Restart = RestartAlways }, "a time for convergence"},
		"hosts without an end":     {func(o *Options) { o.Stay = true }, "never gives a host up"},
		"a pause that is negative": {func(o *Options) { o.Rollout.PauseBetween = -1 }, "the pause"},
	} {
		r := newRig(t, says("1"), says("2"))
		r.opts.Rollout.Serial = []Amount{{N: 1}}
		c.change(&r.opts)
		if _, err := New(r.opts); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
