package supervisor_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmt-remote/mgmt-remote/actors/converge"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// forgotten returns the hosts whose exports were deleted, once each time.
func (s *quietStore) forgotten() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hosts []string
	for _, prefix := range s.deleted {
		for _, h := range []string{"h1", "h2", "h3"} {
			if prefix == keys.Exports(runID, h) {
				hosts = append(hosts, h)
			}
		}
	}
	return hosts
}

func (r *rig) awaitEnd(name string) {
	r.Helper()
	r.await("the end of "+name, func(e messages.Event) bool {
		m, ok := e.(messages.HostFinished)
		return ok && m.Result.Host == name
	})
	synctest.Wait()
}

// What a host exported goes when its payload is known to be dead or the host is given up, and at no other end.
func TestWhoseExportsGo(t *testing.T) {
	bad, good := simhost.Payload{Run: time.Second, ExitCode: 3}, simhost.Payload{Run: time.Second}
	for name, c := range map[string]struct {
		h1 simhost.Payload
		do func(r *rig) // until it is known
		of []string
	}{
		"a bad end":  {bad, func(r *rig) { r.awaitEnd("h1") }, []string{"h1"}},
		"a good end": {good, func(r *rig) { r.awaitEnd("h1") }, nil},
		"out of reach for a while": {untilStopped, func(r *rig) {
			r.network.Remove("h1:22")
			r.sims["h1"].Drop()
			time.Sleep(10 * time.Second)
			r.network.Add("h1:22", r.sims["h1"])
			r.await("h1 is back", func(e messages.Event) bool {
				m, ok := e.(messages.PayloadStarted)
				return ok && m.Host == "h1" && m.Reattached
			})
		}, nil},
		"out of reach for good": {untilStopped, func(r *rig) {
			r.network.Remove("h1:22")
			r.sims["h1"].Drop()
			r.awaitEnd("h1")
		}, []string{"h1"}},
		"taken out": {untilStopped, func(r *rig) {
			r.send(messages.RemoveHost{Host: "h1"})
			r.awaitEnd("h1")
		}, []string{"h1"}},
		"the run is stopped": {untilStopped, func(r *rig) {
			r.send(messages.StopRun{Level: messages.StopFinish})
			r.awaitEnd("h1")
		}, nil},
		"the time is over": {untilStopped, func(r *rig) {
			r.send(messages.FinishRun{Reason: messages.FinishMaxRuntime})
			r.awaitEnd("h1")
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []simhost.Options{{Payload: c.h1}, {Payload: untilStopped}}, func(r *rig) {
				r.cfg.Policy = restart.Default(20 * time.Second)
				s := r.converging(converge.Group, time.Hour)
				r.start()
				r.awaitState("h1", "Running")
				r.awaitState("h2", "Running")
				c.do(r)
				synctest.Wait()
				if got := s.forgotten(); !slices.Equal(got, c.of) {
					r.Errorf("deleted are the exports of %v, want %v\n%s", got, c.of, r.story())
				}
				r.send(messages.StopRun{Level: messages.StopFinish})
				r.finish()
			})
		})
	}
}

// A converge actor that failed before it had deleted them is told again, and what payloads reported, too.
func TestARestartedConvergeActorKnowsWhatWasTold(t *testing.T) {
	bad := simhost.Payload{Run: time.Second, ExitCode: 3}
	inBubble(t, []simhost.Options{{Payload: bad}, {Payload: untilStopped}, {Payload: untilStopped}}, func(r *rig) {
		s := r.converging(converge.Group, 5*time.Second)
		s.deleting = panics(1)
		r.start()
		r.awaitState("h2", "Running")
		r.awaitState("h3", "Running")
		for _, h := range []string{"h2", "h3"} {
			s.set(h, true)
		}
		s.mu.Lock()
		s.before = panics(1)
		s.mu.Unlock()
		r.send(messages.ReportQuiet{Host: "h3", Quiet: false}) // its key is never written: the write panics
		r.awaitEnd("h1")
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := count[messages.Converged](r); n != 0 {
			r.Errorf("converged while h3 had something to do\n%s", r.story())
		}
		if got := s.forgotten(); len(got) == 0 {
			r.Error("the exports of h1 are still there")
		}
		r.send(messages.ReportQuiet{Host: "h3", Quiet: true})
		if end := r.finish(); !end.Converged {
			r.Errorf("end %+v", end)
		}
	})
}

// A host that can't be reached leaves the group, and once it is back the group waits for it again.
func TestAHostThatComesBackIsWaitedFor(t *testing.T) {
	inBubble(t, three(), func(r *rig) {
		r.cfg.Policy = restart.Default(0)
		s := r.converging(converge.Group, 80*time.Second)
		r.start()
		for _, h := range []string{"h1", "h2", "h3"} {
			r.awaitState(h, "Running")
			s.set(h, h != "h3")
		}
		r.network.Remove("h3:22")
		r.sims["h3"].Drop()
		time.Sleep(40 * time.Second) // the rest would be converged in forty seconds, and h3 is tried within thirty
		r.network.Add("h3:22", r.sims["h3"])
		r.await("h3 is back", func(e messages.Event) bool {
			m, ok := e.(messages.PayloadStarted)
			return ok && m.Host == "h3" && m.Reattached
		})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := count[messages.Converged](r); n != 0 {
			r.Errorf("converged without h3\n%s", r.story())
		}
		s.set("h3", true)
		end := r.finish()
		r.converged(end, true, true, true)
	})
}

// A host whose payload ended badly leaves the group for good, and its exports go, with the news of that: not with the
// end of the clean-up, which may take a while. That the others converge meanwhile makes it no success.
func TestAHostThatFailedDoesNotComeBack(t *testing.T) {
	inBubble(t, []simhost.Options{{Payload: untilStopped}, {Payload: untilStopped}}, func(r *rig) {
		s := r.converging(converge.Group, 20*time.Second)
		r.start()
		r.awaitState("h1", "Running")
		r.awaitState("h2", "Running")
		s.set("h2", true)
		r.send(messages.PayloadEnded{Host: "h1", Exit: messages.Exit{Code: 3}})
		synctest.Wait()
		if got := s.forgotten(); !slices.Equal(got, []string{"h1"}) {
			r.Errorf("deleted are the exports of %v", got)
		}
		time.Sleep(10 * time.Second)
		r.send(messages.PayloadStarted{Host: "h1", Epoch: 7}) // its session is found on another connection
		end := r.finish()
		if !end.Converged || end.Took > 25*time.Second {
			r.Errorf("end %+v\n%s", end, r.story())
		}
		if h1 := end.Results[0]; h1.Outcome != messages.OutcomePayloadFailed || h1.Converged || h1.Exit == nil || h1.Exit.Code != 3 {
			r.Errorf("result %+v", h1)
		}
		if got := s.forgotten(); !slices.Equal(got, []string{"h1"}) {
			r.Errorf("deleted are the exports of %v", got)
		}
	})
}
