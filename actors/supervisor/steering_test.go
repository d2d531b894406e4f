package supervisor_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// hostsThat returns the options of n hosts with the same payload.
func hostsThat(n int, p simhost.Payload) []simhost.Options {
	return slices.Repeat([]simhost.Options{{Payload: p}}, n)
}

// begun returns the hosts whose payloads were started, in that order.
func begun(r *rig) (names []string) {
	for _, e := range r.seen() {
		if s, ok := e.(messages.PayloadStarted); ok && !s.Reattached {
			names = append(names, s.Host)
		}
	}
	return names
}

// inWork returns how many payloads run now.
func inWork(r *rig) (n int) {
	for _, sim := range r.sims {
		n += len(sim.Sessions())
	}
	return n
}

func TestAPausedRunBeginsNobody(t *testing.T) {
	inBubble(t, hostsThat(3, talks), func(r *rig) {
		r.cfg.MaxConnections = 1
		r.start()
		r.awaitState("h1", "Running")
		r.send(messages.PauseRun{})
		r.send(messages.PauseRun{}) // says nothing new
		r.sims["h1"].Drop()         // which is no reason not to go on with it
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := begun(r); !slices.Equal(got, []string{"h1"}) || count[messages.HostFinished](r) != 1 {
			r.Errorf("paused, and begun are %q\n%s", got, r.story())
		}
		r.send(messages.RemoveHost{Host: "h2"})
		r.send(messages.ContinueRun{})
		r.send(messages.ContinueRun{})
		end := r.finish()
		if got := begun(r); !slices.Equal(got, []string{"h1", "h3"}) {
			r.Errorf("begun are %q", got)
		}
		if count[messages.RunPaused](r) != 1 || count[messages.RunContinued](r) != 1 {
			r.Errorf("paused or continued more than once\n%s", r.story())
		}
		for i, want := range []messages.Outcome{messages.OutcomeSucceeded, messages.OutcomeCanceled, messages.OutcomeSucceeded} {
			if end.Results[i].Outcome != want {
				r.Errorf("%+v", end.Results[i])
			}
		}
	})
}

func TestAPausedRunStops(t *testing.T) {
	inBubble(t, hostsThat(2, untilStopped), func(r *rig) {
		r.cfg.MaxConnections = 1
		r.start()
		r.awaitState("h1", "Running")
		r.send(messages.PauseRun{})
		r.send(messages.StopRun{Level: messages.StopFinish})
		for _, result := range r.finish().Results {
			if result.Outcome != messages.OutcomeCanceled {
				r.Errorf("%+v", result)
			}
		}
		r.nothingLeft()
	})
}

// What an earlier initiator left is looked after while the run is paused.
func TestAPausedRunGoesOnWithSessions(t *testing.T) {
	inBubble(t, hostsThat(2, talks), func(r *rig) {
		r.traces = map[string]messages.Trace{"h2": messages.TraceSession}
		r.startOpen()
		r.send(messages.PauseRun{})
		r.send(messages.NoMoreHosts{})
		r.await("the end of h2", func(e messages.Event) bool {
			f, ok := e.(messages.HostFinished)
			return ok && f.Result.Host == "h2"
		})
		r.send(messages.ContinueRun{})
		r.finish()
	})
}

func TestTheBoundOfConnectionsChanges(t *testing.T) {
	inBubble(t, hostsThat(8, simhost.Payload{Run: time.Minute}), func(r *rig) {
		r.cfg.MaxConnections = 2
		r.start()
		time.Sleep(30 * time.Second)
		if n := inWork(r); n != 2 {
			r.Errorf("%d in work, not 2", n)
		}
		r.send(messages.LimitConnections{Limit: 4})
		time.Sleep(10 * time.Second)
		if n := inWork(r); n != 4 {
			r.Errorf("%d in work, not 4", n)
		}
		r.send(messages.LimitConnections{Limit: 1})
		time.Sleep(30 * time.Second) // the first two are done, and nobody takes their places
		if n := inWork(r); n != 2 {
			r.Errorf("%d in work, not the 2 that began last", n)
		}
		time.Sleep(30 * time.Second)
		if n := inWork(r); n != 1 {
			r.Errorf("%d in work, not 1", n)
		}
		r.send(messages.LimitConnections{})
		time.Sleep(10 * time.Second)
		if n := inWork(r); n != 4 {
			r.Errorf("%d in work, not all 4 that are left", n)
		}
		r.finish()
		if count[messages.ConnectionsLimited](r) != 3 {
			r.Errorf("events:\n%s", r.story())
		}
	})
}
