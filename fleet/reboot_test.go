package fleet

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// TestARerunContinuesTheLog holds that the log on the disk, and the offsets that observers see, go on over a reboot.
func TestARerunContinuesTheLog(t *testing.T) {
	var life atomic.Int32
	r := newRig(t, simhost.Payload{Body: func(ctx context.Context, p *simhost.Process) int {
		if life.Add(1) == 1 {
			p.Print(false, "one\n")
			<-ctx.Done()
			return 1
		}
		p.Print(false, "two\n")
		return 0
	}})
	r.opts.OnReboot, r.opts.KeepState = RebootRerun, true
	said := make(chan struct{}, 2)
	var next uint64
	r.opts.Observe = func(e messages.Event) {
		if out, ok := e.(messages.OutputReceived); ok {
			if out.Offset != next {
				t.Errorf("output %q at %d, not %d", out.Data, out.Offset, next)
			}
			next = out.Offset + uint64(len(out.Data))
			said <- struct{}{}
		}
	}
	go func() {
		<-said
		r.sims["h1"].Reboot()
	}()
	report, err := r.fleet().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := report.Results[0]; got.Outcome != messages.OutcomeSucceeded || got.Reruns != 1 {
		t.Errorf("%+v", got)
	}
	log, err := os.ReadFile(filepath.Join(r.opts.StateDir, report.Run, "logs", "h1.log"))
	if err != nil || string(log) != "one\ntwo\n" {
		t.Errorf("log %q, %v", log, err)
	}
}
