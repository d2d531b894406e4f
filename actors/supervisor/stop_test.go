package supervisor_test

import (
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/actors/supervisor"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// untilStopped runs until it is signalled.
var untilStopped = simhost.Payload{Output: []simhost.Chunk{{Data: "begun\n"}}}

var levels = []messages.StopLevel{messages.StopFinish, messages.StopNow, messages.StopLeave}

func TestStopInEveryState(t *testing.T) {
	states := append([]string{"Admitting"}, connectedStates...)
	for _, state := range states {
		for _, level := range levels {
			t.Run(state+"/"+level.String(), func(t *testing.T) {
				p := untilStopped
				if state == "Finishing" || state == "ClosingTunnel" || state == "CleaningUp" || state == "Disconnecting" {
					p = talks // it gets there by itself
				}
				inBubble(t, one(p), func(r *rig) {
					r.cfg.Observe = r.onState(state, func() { r.send(messages.StopRun{Level: level}) })
					began := time.Now()
					r.start()
					result := r.result()
					if result.Outcome != messages.OutcomeCanceled && result.Outcome != messages.OutcomeSucceeded {
						r.Errorf("result %+v\n%s", result, r.story())
					}
					if took := time.Since(began); took > 30*time.Second {
						r.Errorf("took %v\n%s", took, r.story())
					}
					r.cleanSoon(result)
				})
			})
		}
	}
}

// cleanSoon gives a shim that was left time to end, and looks for leftovers; what the result admits may be there.
func (r *rig) cleanSoon(result messages.Result) {
	r.Helper()
	time.Sleep(time.Minute)
	if result.LeftBehind == "" {
		r.nothingLeft()
	}
}

func TestStopWhileWaiting(t *testing.T) {
	for _, level := range levels {
		t.Run(level.String()+"/nothing there", func(t *testing.T) {
			inBubble(t, one(untilStopped), func(r *rig) {
				r.network.Remove("h1:22")
				r.cfg.Policy.Budget = 0
				r.start()
				time.Sleep(5 * time.Minute)
				began := time.Now()
				r.send(messages.StopRun{Level: level})
				result := r.result()
				if result.Outcome != messages.OutcomeCanceled || result.LeftBehind != "" {
					r.Errorf("result %+v", result)
				}
				if took := time.Since(began); took > 16*time.Second {
					r.Errorf("took %v", took)
				}
			})
		})
		t.Run(level.String()+"/session there", func(t *testing.T) {
			inBubble(t, one(untilStopped), func(r *rig) {
				r.cfg.Policy.Budget = 0
				r.start()
				r.awaitState("h1", "Running")
				r.network.Remove("h1:22")
				r.sims["h1"].Drop()
				time.Sleep(5 * time.Minute)
				r.send(messages.StopRun{Level: level})
				time.Sleep(time.Second)
				r.network.Add("h1:22", r.sims["h1"])
				result := r.result()
				if level != messages.StopLeave {
					r.nothingLeft()
				} else if result.LeftBehind == "" {
					r.Errorf("left without saying so: %+v", result)
				}
			})
		})
	}
}

func TestStopsGetHarder(t *testing.T) {
	inBubble(t, one(simhost.Payload{IgnoreSignals: 100, Output: []simhost.Chunk{{Data: "x"}}}), func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		r.send(messages.StopRun{Level: messages.StopFinish})
		time.Sleep(time.Second)
		r.send(messages.StopRun{Level: messages.StopNow})
		began := time.Now()
		result := r.result()
		if result.Outcome != messages.OutcomeCanceled || result.Exit == nil || result.Exit.Signal != 9 {
			r.Errorf("result %+v", result)
		}
		if time.Since(began) > 2*time.Second {
			r.Error("the second stop was not faster")
		}
		r.nothingLeft()
	})
	inBubble(t, one(simhost.Payload{IgnoreSignals: 100, Output: []simhost.Chunk{{Data: "x"}}}), func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		began := time.Now()
		r.send(messages.StopRun{Level: messages.StopFinish})
		r.result()
		if took := time.Since(began); took < 15*time.Second || took > 17*time.Second {
			r.Errorf("SIGINT, SIGTERM and SIGKILL took %v", took)
		}
		r.nothingLeft()
	})
}

func TestAHungHostIsLeftInTime(t *testing.T) {
	limit := supervisor.DefaultPatience.Finish + supervisor.DefaultPatience.Now + supervisor.DefaultPatience.Leave + time.Second
	for stage := simhost.StageAccept; stage <= simhost.StageRemove; stage++ {
		t.Run(stage.String(), func(t *testing.T) {
			p := untilStopped
			inBubble(t, one(p), func(r *rig) {
				release := r.sims["h1"].Hang(stage)
				defer release()
				if stage == simhost.StageTunnel {
					r.sims["h1"].RefuseForward(true)
				}
				r.start()
				time.Sleep(5 * time.Second)
				began := time.Now()
				r.send(messages.StopRun{Level: messages.StopFinish})
				result := r.result()
				if took := time.Since(began); took > limit {
					r.Errorf("took %v", took)
				}
				if result.Outcome == messages.OutcomeSucceeded {
					r.Errorf("result %+v", result)
				}
				release()
				r.cleanSoon(result)
			})
		})
	}
}

func TestAFrozenHostIsLeftInTime(t *testing.T) {
	inBubble(t, one(untilStopped), func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		thaw := r.sims["h1"].Freeze()
		defer thaw()
		r.send(messages.StopRun{Level: messages.StopFinish})
		result := r.result()
		if result.LeftBehind == "" || result.Reason == "" {
			r.Errorf("result %+v", result)
		}
	})
}

func TestRemoveHost(t *testing.T) {
	inBubble(t, []simhost.Options{{Payload: untilStopped}, {Payload: talks}}, func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		r.send(messages.RemoveHost{Host: "h1"})
		end := r.finish()
		if end.Results[0].Outcome != messages.OutcomeCanceled || end.Results[1].Outcome != messages.OutcomeSucceeded {
			r.Errorf("results %+v", end.Results)
		}
		r.nothingLeft()
	})
}

func TestAddHostDuringTheRunAndAfterAStop(t *testing.T) {
	inBubble(t, []simhost.Options{{Payload: talks}, {Payload: talks}}, func(r *rig) {
		late := r.sims["h2"]
		delete(r.sims, "h2")
		r.startOpen()
		r.awaitState("h1", "Running")
		r.sims["h2"] = late
		r.send(messages.AddHost{Host: "h2"})
		r.send(messages.AddHost{Host: "h2"}) // is there already
		r.send(messages.NoMoreHosts{})
		if end := r.finish(); len(end.Results) != 2 || end.Results[1].Outcome != messages.OutcomeSucceeded {
			r.Errorf("results %+v", end.Results)
		}
		r.send(messages.AddHost{Host: "h3"})
		time.Sleep(time.Minute)
		if len(r.spawned) != 2 || r.spawned["h2"] != 1 {
			r.Errorf("actors spawned: %v", r.spawned)
		}
	})
	inBubble(t, one(untilStopped), func(r *rig) {
		r.startOpen()
		r.awaitState("h1", "Running")
		r.send(messages.StopRun{Level: messages.StopFinish})
		r.send(messages.AddHost{Host: "h2"})
		if end := r.finish(); len(end.Results) != 2 || end.Results[1].Outcome != messages.OutcomeCanceled || end.Results[1].Reason == "" {
			r.Errorf("results %+v", end.Results)
		}
	})
}

func TestMaxRuntime(t *testing.T) {
	inBubble(t, []simhost.Options{{Payload: untilStopped}, {Payload: untilStopped}}, func(r *rig) {
		r.cfg.MaxRuntime, r.cfg.MaxConnections = time.Minute, 1
		r.start()
		end := r.finish()
		if !end.TimedOut || end.Took < time.Minute || end.Took > 2*time.Minute {
			r.Errorf("end %+v", end)
		}
		for _, result := range end.Results {
			if result.Outcome != messages.OutcomeCanceled || result.Reason == "" {
				r.Errorf("result %+v", result)
			}
		}
		r.nothingLeft()
	})
}

func TestMaxConnections(t *testing.T) {
	hosts := make([]simhost.Options, 6)
	for i := range hosts {
		hosts[i].Payload = talks
	}
	inBubble(t, hosts, func(r *rig) {
		r.cfg.MaxConnections = 2
		busy := map[string]bool{}
		r.cfg.Observe = func(e messages.Event) {
			r.observe(e)
			if s, ok := e.(messages.StateChanged); ok {
				busy[s.Host] = true
			}
			if s, ok := e.(messages.HostFinished); ok {
				delete(busy, s.Result.Host)
			}
			if len(busy) > 2 {
				r.Errorf("at work: %v", busy)
			}
		}
		r.sims["h3"].DropWhen(simhost.StageForward)
		r.start()
		end := r.finish()
		for _, result := range end.Results {
			if result.Outcome != messages.OutcomeSucceeded {
				r.Errorf("result %+v", result)
			}
		}
		r.nothingLeft()
	})
}

// TestAStopSeesAfterWhatAnEarlierInitiatorLeft holds that a host that waits for its turn is still connected where
// something may be on it, and one where nothing is is not.
func TestAStopSeesAfterWhatAnEarlierInitiatorLeft(t *testing.T) {
	inBubble(t, []simhost.Options{{Payload: untilStopped}, {Payload: untilStopped}, {Payload: untilStopped}}, func(r *rig) {
		r.cfg.MaxConnections, r.cfg.FirstEpoch = 1, 7_000_000
		r.traces = map[string]messages.Trace{"h1": messages.TraceDirectory, "h2": messages.TraceDirectory}
		r.start()
		r.send(messages.StopRun{Level: messages.StopFinish})
		for _, result := range r.finish().Results {
			want := 1
			if result.Host == "h3" {
				want = 0
			}
			if _, total := r.sims[result.Host].Connections(); total != want || result.LeftBehind != "" {
				r.Errorf("%d connections, want %d: %+v", total, want, result)
			}
		}
		for _, e := range r.seen() {
			if s, ok := e.(messages.StateChanged); ok && s.Epoch <= 7_000_000 {
				r.Errorf("an epoch of an earlier initiator: %+v", s)
			}
		}
	})
}

func TestPermitsComeBack(t *testing.T) {
	hosts := make([]simhost.Options, 5)
	for i := range hosts {
		hosts[i].Payload = talks
	}
	inBubble(t, hosts, func(r *rig) {
		r.cfg.MaxHandshakes, r.cfg.MaxUploads, r.cfg.Policy.Budget = 1, 1, time.Hour
		for _, h := range r.sims {
			h.DropWhen(simhost.StageKeyExchange)
			h.DropWhen(simhost.StageInstall)
		}
		r.sims["h2"].Hang(simhost.StageAuth) // its handshake ends with its time
		r.start()
		for _, name := range []string{"h1", "h3", "h4", "h5"} {
			e := r.await(name+" done", func(e messages.Event) bool {
				f, ok := e.(messages.HostFinished)
				return ok && f.Result.Host == name
			})
			if f := e.(messages.HostFinished); f.Result.Outcome != messages.OutcomeSucceeded {
				r.Errorf("result %+v", f.Result)
			}
		}
		r.send(messages.StopRun{Level: messages.StopFinish})
		r.finish()
	})
}

func TestStatus(t *testing.T) {
	inBubble(t, one(untilStopped), func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		answer, err := r.system.Root.RequestFuture(r.pid, messages.GetStatus{}, time.Second).Result()
		r.check(err)
		if st := answer.(messages.Status); st.Hosts["h1"] != "Running" || st.Finished || len(st.Results) != 0 {
			r.Errorf("status %+v", st)
		}
		r.send(messages.StopRun{Level: messages.StopNow})
		r.finish()
		answer, err = r.system.Root.RequestFuture(r.pid, messages.GetStatus{}, time.Second).Result()
		r.check(err)
		if st := answer.(messages.Status); !st.Finished || len(st.Results) != 1 || st.Stop != messages.StopNow {
			r.Errorf("status %+v", st)
		}
	})
}

func TestWhatIsNeverTriedAgain(t *testing.T) {
	for name, spoil := range map[string]func(*simhost.Host){
		"denied":    func(h *simhost.Host) { h.DenyAuth(true) },
		"untrusted": func(h *simhost.Host) { h.WrongHostKey(true) },
		"disk full": func(h *simhost.Host) { h.DiskFull(true) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, one(talks), func(r *rig) {
				spoil(r.sims["h1"])
				r.start()
				result := r.result()
				if result.Outcome != messages.OutcomeFailed || result.Attempts != 1 || result.Fault == nil || result.LeftBehind != "" {
					r.Errorf("result %+v\n%s", result, r.story())
				}
				r.nothingLeft()
			})
		})
	}
}

func TestUnreachable(t *testing.T) {
	inBubble(t, one(talks), func(r *rig) {
		r.network.Remove("h1:22")
		r.start()
		result := r.result()
		if result.Outcome != messages.OutcomeUnreachable || result.Attempts < 4 || result.Took > 2*time.Minute || result.Fault.Kind != fault.Unreachable {
			r.Errorf("result %+v", result)
		}
		last := r.seen()
		troubled := last[len(last)-1]
		for _, e := range last {
			if m, ok := e.(messages.HostTroubled); ok {
				troubled = m
			}
		}
		if m, ok := troubled.(messages.HostTroubled); !ok || m.Retry {
			r.Errorf("last trouble %+v", troubled)
		}
	})
	inBubble(t, one(talks), func(r *rig) {
		r.network.Remove("h1:22")
		r.cfg.Policy.Budget = time.Hour
		r.start()
		time.Sleep(10 * time.Minute)
		r.network.Add("h1:22", r.sims["h1"])
		r.sendHost("h1", messages.RetryNow{})
		r.succeeded()
	})
}
