package supervisor_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/actors/supervisor"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// chatty talks to the endpoint every second for ten seconds, and prints a line each time.
var chatty = simhost.Payload{Body: func(ctx context.Context, p *simhost.Process) int {
	for range 10 {
		if c, err := p.Dial(ctx); err == nil {
			_, _ = io.WriteString(c, "x")
			_ = c.Close()
		}
		p.Print(false, "line\n")
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return 1
		}
	}
	return 0
}}

var chattyOutput = strings.Repeat("line\n", 10)

// panics returns a function that panics the first n times it is called.
func panics(n int32) func() {
	var calls atomic.Int32
	return func() {
		if calls.Add(1) <= n {
			panic("planted")
		}
	}
}

// plant puts a panic into what one child calls.
var plant = map[string]func(r *rig, n int32){
	"tunnel": func(r *rig, n int32) { r.gateway.before = panics(n) },
	"exec, output": func(r *rig, n int32) {
		r.outputs["h1"].before = panics(n)
	},
	"exec, ledger": func(r *rig, n int32) {
		p := panics(n)
		r.ledger.before = func(store.SessionRecord) error { p(); return nil }
	},
}

func TestAChildsPanicRestartsThatChildAlone(t *testing.T) {
	for name, spoil := range plant {
		for n := int32(1); n <= 3; n++ {
			t.Run(name, func(t *testing.T) {
				inBubble(t, one(chatty), func(r *rig) {
					spoil(r, n)
					r.start()
					result := r.succeeded()
					if result.Attempts != 1 || count[messages.HostTroubled](r) != 0 {
						r.Errorf("the host was restarted: %+v\n%s", result, r.story())
					}
					if out := r.outputs["h1"].String(); out != chattyOutput {
						r.Errorf("output %q", out)
					}
				})
			})
		}
	}
}

func TestTheFourthPanicInAMinuteGivesTheHostUp(t *testing.T) {
	for name, spoil := range plant {
		t.Run(name, func(t *testing.T) {
			inBubble(t, one(chatty), func(r *rig) {
				spoil(r, 4)
				r.start()
				result := r.result()
				if result.Outcome != messages.OutcomeFailed || result.Fault == nil || result.Fault.Kind != fault.Bug || result.Attempts != 1 {
					r.Fatalf("result %+v\n%s", result, r.story())
				}
				if !strings.Contains(result.Fault.Error(), "planted") || !strings.Contains(result.Fault.Error(), "bugs_test.go") {
					r.Errorf("the stack is lost: %v", result.Fault)
				}
				if n := r.sims["h1"].PayloadStarts(); n > 1 {
					r.Errorf("%d starts", n)
				}
				if result.LeftBehind == "" {
					r.nothingLeft()
				}
			})
		})
	}
}

func TestTheHostsOwnPanicIsForgivenThreeTimes(t *testing.T) {
	for n := int32(1); n <= 4; n++ {
		inBubble(t, one(chatty), func(r *rig) {
			p := panics(n)
			dialer := r.host.Dialer
			r.host.Dialer = dialFunc{func() { p() }, dialer}
			r.start()
			if n == 4 {
				if result := r.result(); result.Outcome != messages.OutcomeFailed || result.Fault.Kind != fault.Bug || result.Attempts != 4 {
					r.Errorf("result %+v", result)
				}
				return
			}
			if result := r.succeeded(); result.Attempts != int(n)+1 {
				r.Errorf("result %+v", result)
			}
		})
	}
}

// A ledger that can't write any more ends the host's part in order.
func TestALedgerThatFails(t *testing.T) {
	for _, phase := range []store.SessionPhase{store.PhaseStarting, store.PhaseStarted, store.PhaseFinished, store.PhaseCleaned} {
		t.Run(string(phase), func(t *testing.T) {
			inBubble(t, one(chatty), func(r *rig) {
				r.ledger.before = func(record store.SessionRecord) error {
					if record.Phase == phase {
						return fault.New(fault.Environment, "record", "no space left on device")
					}
					return nil
				}
				r.start()
				result := r.result()
				if phase == store.PhaseCleaned {
					if result.Outcome != messages.OutcomeSucceeded {
						r.Errorf("result %+v\n%s", result, r.story())
					}
				} else if result.Outcome != messages.OutcomeFailed || result.Attempts != 1 {
					r.Errorf("result %+v\n%s", result, r.story())
				}
				r.cleanSoon(result)
			})
		})
	}
}

// What is not on record is not told: whoever continues the run would be refused to forget a session that nobody looks after any more.
func TestALedgerThatIsSlow(t *testing.T) {
	inBubble(t, one(untilStopped), func(r *rig) {
		r.ledger.before = func(record store.SessionRecord) error {
			if record.Phase == store.PhaseCleaned {
				time.Sleep(2 * supervisor.DefaultPatience.Leave)
			}
			return nil
		}
		r.start()
		r.awaitState("h1", "Running")
		r.send(messages.StopRun{Level: messages.StopLeave})
		if result := r.result(); result.LeftBehind == "" {
			rec, _ := r.ledger.Session("h1")
			r.Errorf("nothing is left, and the record says %q\n%s", rec.Phase, r.story())
		}
		time.Sleep(2 * supervisor.DefaultPatience.Leave)
	})
}

func TestKilledShimIsExamined(t *testing.T) {
	inBubble(t, one(talks), func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		time.Sleep(3500 * time.Millisecond)
		r.sims["h1"].KillShim()
		result := r.result()
		if result.Outcome != messages.OutcomePayloadFailed || result.Exit == nil || result.Exit.Error == "" {
			r.Errorf("result %+v\n%s", result, r.story())
		}
		if out := r.outputs["h1"].String(); out != "1\n2\n3\n" {
			r.Errorf("output %q", out)
		}
		r.startedOnce()
		r.nothingLeft()
	})
}

// TestTheShimThatStartedTheSessionAttaches holds that an attach goes through the program that the session was started with. Ours may be
// another one by now, which was never copied to the host.
func TestTheShimThatStartedTheSessionAttaches(t *testing.T) {
	inBubble(t, one(talks), func(r *rig) {
		r.start()
		r.awaitState("h1", "Running")
		h, rec := r.sims["h1"], r.ledger.records["h1"]
		if len(rec.Shim) != 1 {
			r.Fatalf("the shim is not recorded: %+v", rec)
		}
		h.RemoveAll(rec.Base + "/cache")
		h.PutFile(rec.Base+"/older", nil, 0o700)
		rec.Shim = []string{rec.Base + "/older"}
		r.check(r.ledger.Record(r.Context(), "h1", rec))
		h.Drop()
		r.succeeded()
		r.startedOnce()
	})
}

func TestWhatTheLedgerKnows(t *testing.T) {
	record := store.SessionRecord{Nonce: "n", Token: "t", Base: "/var/tmp/mgmt-remote-1000", Dir: "/var/tmp/mgmt-remote-1000/" + runID + "/h1", Fence: 1}
	for _, phase := range []store.SessionPhase{store.PhaseStarting, store.PhaseStarted} {
		t.Run("missing after "+string(phase), func(t *testing.T) {
			inBubble(t, one(talks), func(r *rig) {
				was := record
				was.Phase = phase
				r.ledger.records["h1"] = was
				r.start()
				if result := r.result(); result.Outcome != messages.OutcomeFailed || result.Remedy == "" {
					r.Errorf("result %+v", result)
				}
				if n := r.sims["h1"].PayloadStarts(); n != 0 {
					r.Errorf("%d starts", n)
				}
			})
		})
	}
	for _, phase := range []store.SessionPhase{store.PhaseFinished, store.PhaseCleaned} {
		t.Run("done: "+string(phase), func(t *testing.T) {
			inBubble(t, one(talks), func(r *rig) {
				was := record
				was.Phase, was.Exit = phase, &store.ExitRecord{}
				r.ledger.records["h1"] = was
				r.start()
				if result := r.result(); result.Outcome != messages.OutcomeSucceeded || result.Exit == nil {
					r.Errorf("result %+v", result)
				}
				if n := r.sims["h1"].PayloadStarts(); n != 0 {
					r.Errorf("%d starts", n)
				}
				if rec, _ := r.ledger.Session("h1"); rec.Phase != store.PhaseCleaned {
					r.Errorf("phase %v", rec.Phase)
				}
			})
		})
	}
	t.Run("nothing of a session that is there", func(t *testing.T) {
		inBubble(t, one(talks), func(r *rig) {
			h := r.sims["h1"]
			for _, d := range []string{record.Base, record.Base + "/" + runID, record.Dir} {
				h.Mkdir(d, 0o700, 1000)
			}
			h.PutFile(record.Dir+"/shim.json", []byte("{}"), 0o600)
			r.start()
			if result := r.result(); result.Outcome != messages.OutcomeFailed || result.Remedy == "" {
				r.Errorf("result %+v", result)
			}
			if _, ok := h.Session(record.Dir); ok {
				r.Error("the foreign session was touched")
			}
		})
	})
	t.Run("order of the phases", func(t *testing.T) {
		inBubble(t, one(talks), func(r *rig) {
			r.start()
			r.succeeded()
			want := []store.SessionPhase{store.PhaseStarting, store.PhaseStarted, store.PhaseFinished, store.PhaseCleaned}
			for i, phase := range r.ledger.phases {
				if i >= len(want) || phase != want[i] {
					r.Errorf("phases %v", r.ledger.phases)
					break
				}
			}
			if rec, _ := r.ledger.Session("h1"); rec.BootID == "" || rec.Nonce == "" || rec.Exit == nil {
				r.Errorf("record %+v", rec)
			}
		})
	})
}

func TestAStartThatFailsOnTheHost(t *testing.T) {
	inBubble(t, one(talks), func(r *rig) {
		r.sims["h1"].FailStart("exec: no such file")
		r.start()
		result := r.result()
		if result.Outcome != messages.OutcomePayloadFailed || !strings.Contains(result.Exit.Error, "no such file") {
			r.Errorf("result %+v", result)
		}
		r.nothingLeft()
	})
}
