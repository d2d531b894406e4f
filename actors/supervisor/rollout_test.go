package supervisor_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/rollout"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// waves writes down what observers hear of the rollout, and between that, sorted, which hosts begin and end.
func waves(r *rig) string {
	var lines, hosts []string
	for _, e := range r.seen() {
		switch m := e.(type) {
		case messages.WaveStarted:
			lines = append(lines, fmt.Sprintf("wave %d/%d %v", m.Wave, m.Waves, m.Hosts))
		case messages.WaveFinished:
			lines = append(lines, fmt.Sprintf("over %d: %d %d %d %d of %d, %v", m.Wave, m.Succeeded, m.Failed, m.Unreachable, m.Canceled, m.Hosts, m.Took))
		case messages.RunExceeded:
			lines = append(lines, "exceeded: "+m.Reason)
		case messages.RunPaused:
			lines = append(lines, "paused")
		case messages.RunContinued:
			lines = append(lines, "continued")
		case messages.HostFinished:
			lines = append(lines, m.Result.Host+" "+m.Result.Outcome.String())
		case messages.PayloadStarted:
			lines = append(lines, m.Host)
		}
	}
	for i := 0; i < len(lines); i++ {
		hosts = lines[i:]
		if end := slices.IndexFunc(hosts, func(line string) bool { return line[0] != 'h' }); end >= 0 {
			hosts = hosts[:end]
		}
		slices.Sort(hosts)
		i += len(hosts)
	}
	return strings.Join(lines, "\n")
}

func (r *rig) tells(want ...string) {
	r.Helper()
	if got := waves(r); got != strings.Join(want, "\n") {
		r.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

var (
	works = simhost.Payload{Run: 10 * time.Second}
	fails = simhost.Payload{Run: 5 * time.Second, ExitCode: 3}
)

func TestAWaveAfterTheOther(t *testing.T) {
	inBubble(t, hostsThat(3, works), func(r *rig) {
		r.cfg.Rollout = rollout.Options{Waves: [][]string{{"h2"}, {"h1", "h3"}}, Rest: time.Minute}
		r.start()
		end := r.finish()
		r.tells("wave 1/2 [h2]", "h2", "h2 ok", "over 1: 1 0 0 0 of 1, 10s",
			"wave 2/2 [h1 h3]", "h1", "h1 ok", "h3", "h3 ok", "over 2: 2 0 0 0 of 2, 10s")
		if end.Took != 80*time.Second || end.Exceeded != "" {
			r.Errorf("%+v", end)
		}
	})
}

func TestAWaveThatFailsEndsTheRun(t *testing.T) {
	inBubble(t, []simhost.Options{{Payload: fails}, {Payload: works}, {Payload: works}, {Payload: works}}, func(r *rig) {
		r.cfg.Rollout = rollout.Options{Waves: [][]string{{"h1", "h2"}, {"h3", "h4"}}, Failures: &rollout.Amount{}}
		r.start()
		end := r.finish()
		if end.Exceeded != "1 of 2 hosts of wave 1 failed, more than 0" {
			r.Errorf("%+v", end)
		}
		for i, want := range []messages.Outcome{messages.OutcomePayloadFailed, messages.OutcomeSucceeded, messages.OutcomeSkipped, messages.OutcomeSkipped} {
			if got := end.Results[i]; got.Outcome != want || want == messages.OutcomeSkipped && got.Reason != end.Exceeded {
				r.Errorf("%+v", got)
			}
		}
		if got := begun(r); len(got) != 2 {
			r.Errorf("begun are %q", got)
		}
	})
}

func TestAWaveThatFailsEndsThoseInWork(t *testing.T) {
	inBubble(t, []simhost.Options{{Payload: fails}, {Payload: works}, {Payload: works}}, func(r *rig) {
		r.cfg.MaxConnections, r.cfg.StopOnExceeded = 2, true
		r.cfg.Rollout = rollout.Options{Waves: [][]string{{"h1", "h2", "h3"}}, TotalFailures: &rollout.Amount{N: 33, Percent: true}}
		r.start()
		end := r.finish()
		for i, want := range []messages.Outcome{messages.OutcomePayloadFailed, messages.OutcomeCanceled, messages.OutcomeSkipped} {
			if got := end.Results[i]; got.Outcome != want {
				r.Errorf("%+v", got)
			}
		}
		r.nothingLeft()
	})
}

func TestUnreachableHostsExceed(t *testing.T) {
	inBubble(t, hostsThat(3, works), func(r *rig) {
		r.network.Remove("h1:22")
		r.cfg.Rollout = rollout.Options{Waves: [][]string{{"h1", "h2"}, {"h3"}}, Unreachable: &rollout.Amount{N: 10, Percent: true}}
		r.start()
		if end := r.finish(); end.Exceeded == "" || end.Results[2].Outcome != messages.OutcomeSkipped {
			r.Errorf("%+v", end)
		}
	})
}

func TestTheNextWaveIsAskedFor(t *testing.T) {
	inBubble(t, hostsThat(4, works), func(r *rig) {
		r.cfg.Rollout = rollout.Options{Waves: [][]string{{"h1"}, {"h2"}, {"h3"}, {"h4"}}, Ask: true}
		r.start()
		r.awaitNth(1, "a question", func(e messages.Event) bool { _, ok := e.(messages.RunPaused); return ok })
		time.Sleep(time.Hour)
		r.send(messages.RemoveHost{Host: "h2"})
		r.send(messages.RemoveHost{Host: "h4"})
		r.send(messages.ContinueRun{})
		r.awaitNth(2, "another question", func(e messages.Event) bool { _, ok := e.(messages.RunPaused); return ok })
		r.send(messages.ContinueRun{})
		r.finish()
		// Nobody is asked about a wave of which nothing is left at the end.
		r.tells("wave 1/4 [h1]", "h1", "h1 ok", "over 1: 1 0 0 0 of 1, 10s", "paused", "h2 canceled", "h4 canceled", "continued",
			"wave 2/4 [h2]", "over 2: 0 0 0 1 of 1, 0s", "paused", "continued", "wave 3/4 [h3]", "h3", "h3 ok", "over 3: 1 0 0 0 of 1, 10s")
	})
}

// awaitNth waits for the n-th event of a kind.
func (r *rig) awaitNth(n int, what string, is func(messages.Event) bool) {
	r.Helper()
	r.await(what, func(e messages.Event) bool {
		if is(e) {
			n--
		}
		return n == 0
	})
}

func TestAStopBetweenWaves(t *testing.T) {
	for name, o := range map[string]rollout.Options{"asking": {Ask: true}, "resting": {Rest: time.Hour}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, hostsThat(2, works), func(r *rig) {
				o.Waves = [][]string{{"h1"}, {"h2"}}
				r.cfg.Rollout = o
				r.start()
				r.await("the wave's end", func(e messages.Event) bool { _, ok := e.(messages.WaveFinished); return ok })
				r.send(messages.StopRun{Level: messages.StopFinish})
				end := r.finish()
				if end.Results[1].Outcome != messages.OutcomeCanceled || end.Took > time.Minute {
					r.Errorf("%+v", end)
				}
				time.Sleep(2 * time.Hour) // the rest ends after the run
			})
		})
	}
}

// A resumed run knows by what is recorded which wave it was in.
func TestAnotherInitiatorGoesOnInTheWave(t *testing.T) {
	inBubble(t, hostsThat(4, works), func(r *rig) {
		r.cfg.Rollout = rollout.Options{
			Waves: [][]string{{"h0"}, {"h1", "h2"}, {"h3", "h4"}}, Ended: map[string]rollout.Outcome{"h0": rollout.Succeeded}, Begun: []string{"h2"},
		}
		r.traces = map[string]messages.Trace{"h1": messages.TraceDirectory, "h3": messages.TraceDirectory, "h4": messages.TraceDirectory}
		r.start()
		r.finish()
		r.tells("wave 2/3 [h1 h2]", "h1", "h1 ok", "h2", "h2 ok", "over 2: 2 0 0 0 of 2, 10s",
			"wave 3/3 [h3 h4]", "h3", "h3 ok", "h4", "h4 ok", "over 3: 2 0 0 0 of 2, 10s")
	})
}

// Where too many have failed, what an earlier initiator may have left is looked for, and what it began goes on to its end.
func TestWhatWasBegunEndsAlthoughTooManyFailed(t *testing.T) {
	inBubble(t, hostsThat(2, works), func(r *rig) {
		r.cfg.Rollout = rollout.Options{
			Waves: [][]string{{"h0", "h1", "h2"}}, Ended: map[string]rollout.Outcome{"h0": rollout.Failed}, Begun: []string{"h1"}, Failures: &rollout.Amount{},
		}
		r.traces = map[string]messages.Trace{"h1": messages.TraceSession, "h2": messages.TraceDirectory}
		r.start()
		end := r.finish()
		if got := end.Results[0].Outcome; got == messages.OutcomeSkipped {
			r.Errorf("%+v", end.Results[0])
		}
		if got := end.Results[1]; got.Outcome != messages.OutcomeSkipped || got.Attempts != 1 || got.LeftBehind != "" {
			r.Errorf("%+v", got)
		}
		if got := begun(r); slices.Contains(got, "h2") {
			r.Errorf("begun are %q", got)
		}
	})
}
