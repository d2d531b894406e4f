package supervisor_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// prefixes: /tmp is emptied by a reboot, /var/tmp is not.
var prefixes = map[string]string{"the directory is left": "", "nothing is left": "/tmp"}

// lives counts its lives, and prints a line every second. The last life ends after three lines.
func lives(last int32) simhost.Payload {
	var n atomic.Int32
	return simhost.Payload{Body: func(ctx context.Context, p *simhost.Process) int {
		life := n.Add(1)
		for line := 1; ; line++ {
			p.Print(false, fmt.Sprintf("life %d line %d\n", life, line))
			if life == last && line == 3 {
				return 0
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return 1
			}
		}
	}}
}

// story of a payload's lives: so many lines each.
func linesOf(lives ...int) string {
	var b strings.Builder
	for life, lines := range lives {
		for line := range lines {
			fmt.Fprintf(&b, "life %d line %d\n", life+1, line+1)
		}
	}
	return b.String()
}

func TestARebootIsAFailure(t *testing.T) {
	for name, prefix := range prefixes {
		t.Run(name, func(t *testing.T) {
			inBubble(t, one(talks), func(r *rig) {
				r.prefix = prefix
				r.start()
				r.awaitState("h1", "Running")
				time.Sleep(3500 * time.Millisecond)
				r.sims["h1"].Reboot()
				result := r.result()
				if result.Outcome != messages.OutcomeFailed || result.Fault.Kind != fault.Environment || !strings.Contains(result.Remedy, "--on-reboot") {
					r.Errorf("result %+v\n%s", result, r.story())
				}
				if !strings.Contains(result.Reason, "rebooted while the payload ran") {
					r.Errorf("reason %q", result.Reason)
				}
				r.startedOnce()
				r.nothingLeft()
			})
		})
	}
}

func TestARebootIsARerun(t *testing.T) {
	for name, prefix := range prefixes {
		t.Run(name, func(t *testing.T) {
			inBubble(t, one(lives(3)), func(r *rig) {
				r.prefix = prefix
				r.host.OnReboot = lifecycle.RebootReruns
				r.start()
				for life := 1; life <= 2; life++ {
					r.awaitLine("h1", fmt.Sprintf("life %d line 2\n", life))
					r.sims["h1"].Reboot()
				}
				result := r.result()
				if result.Outcome != messages.OutcomeSucceeded || result.Reruns != 2 {
					r.Errorf("result %+v\n%s", result, r.story())
				}
				if got := r.outputs["h1"].String(); got != linesOf(2, 2, 3) {
					r.Errorf("output %q\n%s", got, r.story())
				}
				var counts []int
				for _, e := range r.seen() {
					if e, ok := e.(messages.PayloadRerun); ok {
						counts = append(counts, e.Count)
					}
				}
				if fmt.Sprint(counts) != "[1 2]" || count[messages.PayloadEnded](r) != 1 {
					r.Errorf("reruns %v\n%s", counts, r.story())
				}
				if n := r.sims["h1"].PayloadStarts(); n != 3 {
					r.Errorf("%d starts", n)
				}
				if r.outputs["h1"].gaps != 0 {
					r.Errorf("%d bytes are told as lost", r.outputs["h1"].gaps)
				}
				r.nothingLeft()
			})
		})
	}
}

// awaitLine waits until the host's log has a text.
func (r *rig) awaitLine(host, text string) {
	r.Helper()
	for range 3600 {
		if strings.Contains(r.outputs[host].String(), text) {
			return
		}
		time.Sleep(100 * time.Millisecond) // of the bubble
	}
	r.Fatalf("no %q\n%s", text, r.story())
}

// What the payload said while nobody was connected is fetched from what the reboot left.
func TestARerunFetchesWhatWasSaid(t *testing.T) {
	inBubble(t, one(lives(2)), func(r *rig) {
		r.host.OnReboot = lifecycle.RebootReruns
		r.start()
		r.awaitLine("h1", "life 1 line 2\n")
		r.network.Remove("h1:22")
		r.sims["h1"].Drop()
		time.Sleep(10 * time.Second)
		r.sims["h1"].Reboot()
		r.network.Add("h1:22", r.sims["h1"])
		result := r.result()
		got := r.outputs["h1"].String()
		first, second, _ := strings.Cut(got, "life 2")
		if n := strings.Count(first, "\n"); result.Outcome != messages.OutcomeSucceeded || n < 11 || first != linesOf(n) || "life 2"+second != linesOf(0, 3) {
			r.Errorf("result %+v, output %q\n%s", result, got, r.story())
		}
		r.nothingLeft()
	})
}

// A session that is gone although nothing was rebooted may still have a payload: it is never started again.
func TestAMissingSessionIsNoReboot(t *testing.T) {
	inBubble(t, one(talks), func(r *rig) {
		r.host.OnReboot = lifecycle.RebootReruns
		r.start()
		r.awaitState("h1", "Running")
		r.sims["h1"].KillShim()
		for _, f := range r.sims["h1"].Files() {
			if strings.Contains(f.Path, runID) {
				r.sims["h1"].RemoveAll(f.Path)
			}
		}
		result := r.result()
		if result.Outcome != messages.OutcomeFailed || !strings.Contains(result.Reason, "gone") || result.Remedy == "" {
			r.Errorf("result %+v\n%s", result, r.story())
		}
		r.startedOnce()
	})
}

// Whenever the initiator dies on the way to the second start, the next one starts the payload once more, and counts once.
func TestAnInitiatorThatDiesInARerun(t *testing.T) {
	const boot = "00000000-0000-4000-8000-000000000000" // not the present one
	before := store.SessionRecord{
		Nonce: "n", Token: "t", Base: "/var/tmp/mgmt-remote-1000", Dir: "/var/tmp/mgmt-remote-1000/" + runID + "/h1", Fence: 1, BootID: boot, Reruns: 1,
	}
	for name, change := range map[string]func(*store.SessionRecord){
		"before it heard of the end": func(s *store.SessionRecord) { s.Phase = store.PhaseStarted },
		"before the removal": func(s *store.SessionRecord) {
			s.Phase, s.Exit = store.PhaseFinished, &store.ExitRecord{Code: -1, Error: "rebooted", Cause: string(messages.CauseReboot)}
		},
		"after the removal": func(s *store.SessionRecord) {
			s.Phase, s.Exit = store.PhaseCleaned, &store.ExitRecord{Code: -1, Error: "rebooted", Cause: string(messages.CauseReboot)}
		},
		"while the host went down": func(s *store.SessionRecord) {
			s.Phase, s.Exit = store.PhaseFinished, &store.ExitRecord{Code: -1, Signal: 15, Error: "shut down", Cause: string(messages.CauseShutdown)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, one(lives(1)), func(r *rig) {
				r.host.OnReboot = lifecycle.RebootReruns
				was := before
				change(&was)
				r.ledger.records["h1"] = was
				r.outputs["h1"].text = []byte("earlier\n")
				r.start()
				result := r.result()
				if result.Outcome != messages.OutcomeSucceeded || result.Reruns != 2 {
					r.Errorf("result %+v\n%s", result, r.story())
				}
				if got := r.outputs["h1"].String(); got != "earlier\n"+linesOf(3) {
					r.Errorf("output %q", got)
				}
				record, _ := r.ledger.Session("h1")
				if record.OutputStart != uint64(len("earlier\n")) || record.Nonce == "n" || record.BootID == boot {
					r.Errorf("record %+v", record)
				}
				r.startedOnce()
			})
		})
	}
}
