package supervisor_test

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// talks prints a line every second, ten in all, and ends well.
var talks = simhost.Payload{Run: 11 * time.Second, Output: func() (all []simhost.Chunk) {
	for _, line := range []string{"1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7\n", "8\n", "9\n", "10\n"} {
		all = append(all, simhost.Chunk{After: time.Second, Data: line})
	}
	return all
}()}

const allLines = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n"

func TestNineStepsInOrder(t *testing.T) {
	p := simhost.Payload{Body: func(ctx context.Context, p *simhost.Process) int {
		c, err := p.Dial(ctx)
		if err != nil {
			p.Print(true, err.Error())
			return 1
		}
		defer c.Close()
		answer := make([]byte, 4)
		if _, err := io.WriteString(c, "etcd"); err != nil {
			return 2
		}
		if _, err := io.ReadFull(c, answer); err != nil {
			return 3
		}
		p.Print(false, string(answer))
		return 0
	}}
	inBubble(t, one(p), func(r *rig) {
		r.start()
		result := r.succeeded()
		var steps []messages.Step
		for _, e := range r.seen() {
			if s, ok := e.(messages.StepDone); ok {
				steps = append(steps, s.Step)
			}
		}
		want := []messages.Step{
			messages.StepConnect, messages.StepMakeDirectory, messages.StepCopy, messages.StepTunnel, messages.StepRun, messages.StepFinish,
			messages.StepCloseTunnel, messages.StepCleanUp, messages.StepDisconnect,
		}
		if !slices.Equal(steps, want) {
			r.Errorf("steps %v", steps)
		}
		if out := r.outputs["h1"].String(); out != "etcd" {
			r.Errorf("output %q", out)
		}
		if r.gateway.served != 1 {
			r.Errorf("%d connections at the gateway", r.gateway.served)
		}
		if result.Attempts != 1 || result.BytesSent == 0 || result.Exit == nil || result.Exit.Code != 0 || result.LeftBehind != "" {
			r.Errorf("result %+v", result)
		}
		if count[messages.PayloadStarted](r) != 1 || count[messages.PayloadEnded](r) != 1 {
			r.Error("the payload's events")
		}
	})
}

func TestNothingIsCopiedTwiceAndNoCacheLeavesNothing(t *testing.T) {
	inBubble(t, one(talks), func(r *rig) {
		h := r.sims["h1"]
		h.Mkdir("/var/tmp/mgmt-remote-1000", 0o700, 1000)
		h.Mkdir("/var/tmp/mgmt-remote-1000/cache", 0o700, 1000)
		h.Mkdir("/var/tmp/mgmt-remote-1000/cache/"+r.blob.SHA256, 0o700, 1000)
		h.PutFile("/var/tmp/mgmt-remote-1000/cache/"+r.blob.Key(), make([]byte, r.blob.Size), 0o700)
		r.start()
		if result := r.succeeded(); result.BytesSent != 0 || result.BytesSkipped != r.blob.Size {
			r.Errorf("result %+v", result)
		}
	})
	inBubble(t, one(talks), func(r *rig) {
		r.noCache = true
		r.start()
		r.succeeded()
	})
}

func TestAPayloadThatFailsIsAResult(t *testing.T) {
	inBubble(t, one(simhost.Payload{Run: time.Second, ExitCode: 3}), func(r *rig) {
		r.start()
		result := r.result()
		if result.Outcome != messages.OutcomePayloadFailed || result.Exit == nil || result.Exit.Code != 3 || result.LeftBehind != "" {
			r.Errorf("result %+v", result)
		}
		r.nothingLeft()
	})
}

func TestStdioTunnelWhereForwardingIsRefused(t *testing.T) {
	inBubble(t, one(talks), func(r *rig) {
		r.sims["h1"].RefuseForward(true)
		r.start()
		r.succeeded()
	})
}

// dropStages are the points at which a connection can be lost, in the order of a run.
var dropStages = []simhost.Stage{
	simhost.StageAccept, simhost.StageKeyExchange, simhost.StageAuth, simhost.StageChannelOpen, simhost.StageProbe, simhost.StageSFTP,
	simhost.StageInstall, simhost.StageForward, simhost.StageTunnel, simhost.StageStart, simhost.StageAckExit,
}

func TestLostAtEveryStage(t *testing.T) {
	for _, stage := range dropStages {
		t.Run(stage.String(), func(t *testing.T) {
			inBubble(t, one(talks), func(r *rig) {
				r.sims["h1"].RefuseForward(stage == simhost.StageTunnel)
				r.sims["h1"].DropWhen(stage)
				r.start()
				result := r.succeeded()
				if out := r.outputs["h1"].String(); out != allLines {
					r.Errorf("output %q", out)
				}
				if result.Attempts != 2 {
					r.Errorf("%d attempts\n%s", result.Attempts, r.story())
				}
				if count[messages.PayloadEnded](r) != 1 {
					r.Errorf("%d ends of the payload", count[messages.PayloadEnded](r))
				}
			})
		})
	}
}

// connectedStates are the states of an undisturbed run in which there is a connection to be lost.
var connectedStates = []string{
	"Connecting", "Probing", "MakingDirectory", "AwaitingUpload", "Copying", "OpeningTunnel", "Starting", "Running", "Finishing",
	"ClosingTunnel", "CleaningUp", "Disconnecting",
}

func TestLostInEveryState(t *testing.T) {
	for _, state := range connectedStates {
		t.Run(state, func(t *testing.T) {
			inBubble(t, one(talks), func(r *rig) {
				// The drop comes in the very turn in which the supervisor hears of the state.
				r.cfg.Observe = r.onState(state, func() { r.sims["h1"].Drop() })
				r.start()
				r.succeeded()
				if out := r.outputs["h1"].String(); out != allLines {
					r.Errorf("output %q", out)
				}
			})
		})
	}
}

// onState observes and acts when h1 enters the state for the first time.
func (r *rig) onState(state string, act func()) func(messages.Event) {
	acted := false
	return func(e messages.Event) {
		r.observe(e)
		if s, ok := e.(messages.StateChanged); ok && s.State == state && !acted {
			acted = true
			act()
		}
	}
}

func TestFrozenLinkIsNoticedAndTheSessionFoundAgain(t *testing.T) {
	long := talks
	long.Run = 10 * time.Minute
	inBubble(t, one(long), func(r *rig) {
		r.cfg.Policy.Budget = time.Hour
		r.start()
		r.awaitState("h1", "Running")
		time.Sleep(3500 * time.Millisecond)
		thaw := r.sims["h1"].Freeze()
		time.Sleep(2 * time.Minute)
		thaw()
		r.succeeded()
		if out := r.outputs["h1"].String(); out != allLines {
			r.Errorf("output %q", out)
		}
	})
}

func TestDroppedAgainAndAgain(t *testing.T) {
	inBubble(t, one(simhost.Payload{Run: 5 * time.Minute, Output: talks.Output}), func(r *rig) {
		r.cfg.Policy.Budget = time.Hour
		r.start()
		for range 20 {
			time.Sleep(7 * time.Second)
			r.sims["h1"].Drop()
		}
		result := r.succeeded()
		if out := r.outputs["h1"].String(); out != allLines {
			r.Errorf("output %q", out)
		}
		if result.Attempts < 10 {
			r.Errorf("%d attempts", result.Attempts)
		}
	})
}
