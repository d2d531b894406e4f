package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmt-remote/mgmt-remote/actors/converge"
	"github.com/mgmt-remote/mgmt-remote/actors/host"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

const sessionDir = "/var/tmp/mgmt-remote-1000/" + runID + "/h1"

// Definition implements host.Planner: what is for one host says so.
func (r *rig) Definition(q payload.Request) (transfer.File, error) {
	if text := string(q.Definition.Source); strings.HasPrefix(text, "bad") {
		return transfer.File{}, fault.Wrap(fault.Environment, "copy", errors.New(text))
	}
	return transfer.File{Name: payload.DefinitionFile, Data: append(slices.Clone(q.Definition.Source), " for "+q.Facts.OS...), Mode: 0o600}, nil
}

// follows is a payload that reads its definition once a second and prints it when it changed, until it is signalled.
func follows(r **rig) simhost.Payload {
	return simhost.Payload{Body: func(ctx context.Context, p *simhost.Process) int {
		last := ""
		for {
			if now := (*r).definition(); now != last {
				last = now
				p.Print(false, now+"\n")
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return 0
			}
		}
	}}
}

// following runs a test with one host whose payload prints its definitions; the first one is "one".
func following(t *testing.T, o simhost.Options, test func(r *rig)) {
	t.Helper()
	var r *rig
	o.Payload = follows(&r)
	inBubble(t, []simhost.Options{o}, func(inside *rig) {
		r = inside
		r.first = messages.Definition{Version: 1, Source: []byte("one")}
		r.cfg.Policy.Budget = time.Hour
		test(r)
	})
}

// definition is what is on the first host.
func (r *rig) definition() string {
	for _, f := range r.sims["h1"].Files() {
		if f.Path == sessionDir+"/"+payload.DefinitionFile {
			return string(f.Data)
		}
	}
	return ""
}

func (r *rig) update(host string, version uint64, text string) {
	r.send(messages.UpdateDefinition{Host: host, Definition: messages.Definition{Version: version, Source: []byte(text)}})
}

func (r *rig) awaitUpdated(version uint64) {
	r.Helper()
	r.await(fmt.Sprintf("definition %d", version), func(e messages.Event) bool {
		m, ok := e.(messages.DefinitionUpdated)
		return ok && m.Version == version
	})
}

func (r *rig) awaitNotUpdated(version uint64) messages.DefinitionNotUpdated {
	r.Helper()
	return r.await(fmt.Sprintf("trouble with definition %d", version), func(e messages.Event) bool {
		m, ok := e.(messages.DefinitionNotUpdated)
		return ok && m.Version == version
	}).(messages.DefinitionNotUpdated)
}

// stopped ends the run and wants the payload to have seen these definitions, in one life.
func (r *rig) stopped(seen ...string) {
	r.Helper()
	r.stoppedOneOf(seen)
}

// stoppedOneOf is stopped where it depends on who is faster what the payload saw.
func (r *rig) stoppedOneOf(any ...[]string) {
	r.Helper()
	time.Sleep(3 * time.Second) // the payload looks once a second
	r.send(messages.StopRun{Level: messages.StopFinish})
	r.finish()
	out := r.outputs["h1"].String()
	if !slices.ContainsFunc(any, func(seen []string) bool { return out == strings.Join(seen, " for linux\n")+" for linux\n" }) {
		r.Errorf("the payload saw %q, want %q\n%s", out, any, r.story())
	}
	r.startedOnce()
	r.nothingLeft()
}

func TestADefinitionIsCopiedWhileThePayloadRuns(t *testing.T) {
	following(t, simhost.Options{}, func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		time.Sleep(2 * time.Second)
		r.update("h1", 2, "two")
		r.awaitUpdated(2)
		time.Sleep(2 * time.Second)
		r.update("h1", 3, "three")
		r.awaitUpdated(3)
		r.stopped("one", "two", "three")
		if n := count[messages.DefinitionUpdated](r); n != 2 {
			r.Errorf("%d updates", n)
		}
		for _, f := range r.sims["h1"].Files() {
			if f.Path == sessionDir+"/"+payload.DefinitionFile && f.Mode.Perm() != 0o600 {
				r.Errorf("mode %v", f.Mode)
			}
		}
	})
}

// The payload never starts with an old definition where the change came before the probe, and gets it soon after that.
func TestADefinitionThatChangesInAnyState(t *testing.T) {
	for _, state := range append([]string{"Admitting"}, connectedStates...) {
		t.Run(state, func(t *testing.T) {
			following(t, simhost.Options{}, func(r *rig) {
				r.cfg.Observe = r.onState(state, func() { r.update("h1", 2, "two") })
				r.start()
				r.awaitState("h1", "Running")
				time.Sleep(5 * time.Second)
				switch state {
				case "Finishing", "ClosingTunnel", "CleaningUp", "Disconnecting":
					r.stopped("one")
				default: // a host that is told early enough begins with the second
					r.stoppedOneOf([]string{"two"}, []string{"one", "two"})
				}
			})
		})
	}
}

func TestAConnectionThatIsLostDuringTheCopyOfADefinition(t *testing.T) {
	for _, stage := range []simhost.Stage{simhost.StageChannelOpen, simhost.StageSFTP} {
		following(t, simhost.Options{}, func(r *rig) {
			r.start()
			r.awaitState("h1", "Running")
			time.Sleep(2 * time.Second)
			r.sims["h1"].DropWhen(stage)
			r.update("h1", 2, "two")
			r.awaitUpdated(2)
			if n := count[messages.HostTroubled](r); n != 1 {
				r.Errorf("%d troubles\n%s", n, r.story())
			}
			r.stopped("one", "two")
		})
	}
}

func TestADefinitionThatChangesWhileTheHostIsAway(t *testing.T) {
	following(t, simhost.Options{}, func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		time.Sleep(2 * time.Second)
		r.network.Remove("h1:22")
		r.sims["h1"].Drop()
		time.Sleep(time.Minute)
		r.update("h1", 2, "two")
		time.Sleep(time.Minute)
		r.update("h1", 3, "three")
		r.network.Add("h1:22", r.sims["h1"])
		r.awaitUpdated(3)
		// Another loss copies nothing again, so that a full disk does no harm.
		seen := len(r.seen())
		r.sims["h1"].DiskFull(true)
		r.sims["h1"].Drop()
		r.awaitFrom(seen, "the payload found again", func(e messages.Event) bool {
			m, ok := e.(messages.PayloadStarted)
			return ok && m.Reattached
		})
		r.stopped("one", "three")
		if n := count[messages.DefinitionUpdated](r); n != 1 || count[messages.DefinitionNotUpdated](r) != 0 {
			r.Errorf("%d updates\n%s", n, r.story())
		}
	})
}

func TestAFullDiskLeavesTheOldDefinition(t *testing.T) {
	following(t, simhost.Options{}, func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		time.Sleep(2 * time.Second)
		r.sims["h1"].DiskFull(true)
		r.update("h1", 2, "two")
		if m := r.awaitNotUpdated(2); m.Remedy == "" || !strings.Contains(m.Reason, "full") || m.Epoch != 1 {
			r.Errorf("told %+v", m)
		}
		time.Sleep(time.Hour) // it is not tried again and again
		if n := count[messages.DefinitionNotUpdated](r); n != 1 {
			r.Errorf("%d attempts", n)
		}
		r.sims["h1"].DiskFull(false)
		r.sims["h1"].Drop() // the next connection tries again
		r.awaitUpdated(2)
		r.stopped("one", "two")
	})
}

func TestARefusedSecondSessionLeavesTheOldDefinition(t *testing.T) {
	for _, stdio := range []bool{false, true} {
		following(t, simhost.Options{MaxSessions: map[bool]int{false: 1, true: 2}[stdio]}, func(r *rig) {
			r.sims["h1"].RefuseForward(stdio)
			r.start()
			r.awaitState("h1", "Running")
			r.update("h1", 2, "two")
			m := r.awaitNotUpdated(2)
			if want := map[bool]string{false: "set MaxSessions to 2 or more", true: "set MaxSessions to 3 or more"}[stdio]; !strings.Contains(m.Remedy, want) {
				r.Errorf("told %+v", m)
			}
			r.update("h1", 3, "three")
			r.awaitNotUpdated(3)
			if count[messages.HostTroubled](r) != 0 {
				r.Errorf("the host was troubled\n%s", r.story())
			}
			r.stopped("one")
		})
	}
}

func TestADefinitionThatCantBeMadeForTheHost(t *testing.T) {
	following(t, simhost.Options{}, func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		r.update("h1", 2, "bad: site.yaml.tmpl:3")
		if m := r.awaitNotUpdated(2); m.Reason != "copy: bad: site.yaml.tmpl:3" {
			r.Errorf("told %+v", m)
		}
		r.sims["h1"].Drop() // and it does not keep the session from being claimed
		r.await("trouble again", func(e messages.Event) bool {
			m, ok := e.(messages.DefinitionNotUpdated)
			return ok && m.Epoch > 1
		})
		r.stopped("one")
	})
	// From the start it ends the host's part.
	following(t, simhost.Options{}, func(r *rig) {
		r.first.Source = []byte("bad: site.yaml.tmpl:3")
		r.start()
		if result := r.result(); result.Outcome != messages.OutcomeFailed || result.Fault.Kind != fault.Environment {
			r.Errorf("result %+v", result)
		}
		r.nothingLeft()
	})
}

func TestQuickChangesAreCopiedOneAfterTheOther(t *testing.T) {
	following(t, simhost.Options{MaxSessions: 2}, func(r *rig) { // two copies at once would be refused
		r.start()
		r.awaitState("h1", "Running")
		time.Sleep(2 * time.Second)
		release := r.sims["h1"].Hang(simhost.StageSFTP)
		r.update("h1", 2, "two")
		synctest.Wait()
		r.update("h1", 3, "three")
		r.update("h1", 4, "four")
		r.update("h1", 3, "late")
		synctest.Wait()
		release()
		r.awaitUpdated(4)
		if r.definition() != "four for linux" || count[messages.DefinitionNotUpdated](r) != 0 || count[messages.DefinitionUpdated](r) != 2 {
			r.Errorf("%q\n%s", r.definition(), r.story())
		}
		r.stopped("one", "four")
	})
}

func TestACopyThatHangsIsGivenUp(t *testing.T) {
	following(t, simhost.Options{}, func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		time.Sleep(2 * time.Second)
		release := r.sims["h1"].Hang(simhost.StageSFTP)
		began := time.Now()
		r.update("h1", 2, "two")
		r.awaitNotUpdated(2)
		if took := time.Since(began); took != host.DefaultDeadlines.Step {
			r.Errorf("after %v", took)
		}
		release()
		r.update("h1", 3, "three")
		r.awaitUpdated(3)
		r.stopped("one", "three")
	})
}

func TestAStopDuringTheCopyOfADefinition(t *testing.T) {
	for _, level := range levels {
		following(t, simhost.Options{}, func(r *rig) {
			r.start()
			r.awaitState("h1", "Running")
			release := r.sims["h1"].Hang(simhost.StageSFTP)
			r.update("h1", 2, "two")
			synctest.Wait()
			r.send(messages.StopRun{Level: level})
			synctest.Wait()
			release()
			result := r.result()
			if result.Outcome != messages.OutcomeCanceled || count[messages.DefinitionUpdated](r) != 0 {
				r.Errorf("result %+v\n%s", result, r.story())
			}
			r.cleanSoon(result)
		})
	}
}

func TestAHostThatIsNotAdmittedYetBeginsWithTheNewest(t *testing.T) {
	var r *rig
	inBubble(t, []simhost.Options{{Payload: follows(&r)}, {Payload: untilStopped}}, func(inside *rig) {
		r = inside
		r.first = messages.Definition{Version: 1, Source: []byte("one")}
		r.cfg.MaxConnections = 1
		r.start()
		r.awaitState("h1", "Running")
		r.update("h2", 2, "two")
		r.send(messages.RemoveHost{Host: "h1"})
		r.awaitState("h2", "Running")
		found := slices.ContainsFunc(r.sims["h2"].Files(), func(f simhost.File) bool { return string(f.Data) == "two for linux" })
		if !found || count[messages.DefinitionUpdated](r) != 0 {
			r.Errorf("two is not there\n%s", r.story())
		}
		r.update("nobody", 2, "two")
		r.send(messages.StopRun{Level: messages.StopFinish})
		r.finish()
	})
}

// convergedAfter starts three hosts that are quiet all the time, has something done after 3 s, and returns when the run
// converged, of 5 s of silence.
func convergedAfter(t *testing.T, act func(r *rig)) time.Duration {
	t.Helper()
	var end messages.RunFinished
	inBubble(t, three(), func(r *rig) {
		s := r.converging(converge.Group, 5*time.Second)
		r.first = messages.Definition{Version: 1, Source: []byte("one")}
		r.start()
		for _, h := range []string{"h1", "h2", "h3"} {
			r.awaitState(h, "Running")
			s.set(h, true)
		}
		time.Sleep(3 * time.Second)
		act(r)
		end = r.finish()
		r.converged(end, true, true, true)
	})
	return end.Took.Round(time.Second)
}

func TestAnUpdateStartsTheClockAnew(t *testing.T) {
	if took := convergedAfter(t, func(*rig) {}); took != 5*time.Second {
		t.Errorf("without an update after %v", took)
	}
	// A second until the payload has noticed, and five more.
	if took := convergedAfter(t, func(r *rig) { r.update("h2", 2, "two") }); took != 9*time.Second {
		t.Errorf("with an update after %v", took)
	}
	// As long as the definition can't be copied, the group has not converged.
	took := convergedAfter(t, func(r *rig) {
		r.sims["h2"].DiskFull(true)
		r.update("h2", 2, "two")
		r.awaitNotUpdated(2)
		time.Sleep(time.Minute)
		r.sims["h2"].DiskFull(false)
		r.update("h2", 3, "three")
	})
	if took != 69*time.Second {
		t.Errorf("with a full disk after %v", took)
	}
	// A reattach alone does not make it current.
	took = convergedAfter(t, func(r *rig) {
		r.sims["h2"].DiskFull(true)
		r.update("h2", 2, "two")
		r.awaitNotUpdated(2)
		seen := len(r.seen())
		r.sims["h2"].Drop()
		r.awaitFrom(seen, "the host's return", func(e messages.Event) bool { _, ok := e.(messages.PayloadStarted); return ok })
		time.Sleep(time.Minute)
		r.sims["h2"].DiskFull(false)
		r.update("h2", 3, "three")
	})
	if took < 69*time.Second {
		t.Errorf("with a loss after %v", took)
	}
}

// Convergence that was on its way to the supervisor when the definition changed does not count.
func TestAnUpdateOvertakesConvergence(t *testing.T) {
	for _, m := range []any{messages.GroupConverged{Members: 3, For: 5 * time.Second}, messages.HostConverged{Host: "h2", For: 5 * time.Second}} {
		took := convergedAfter(t, func(r *rig) {
			r.update("h2", 2, "two")
			r.send(m)
		})
		if took != 9*time.Second {
			t.Errorf("%T: converged after %v", m, took)
		}
	}
}
