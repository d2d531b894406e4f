package fleet

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

func TestRetryFailed(t *testing.T) {
	r := newRig(t, says("1"), simhost.Payload{Run: time.Millisecond, ExitCode: 1}, says("3"), says("4"))
	r.opts.Rollout = Rollout{Canary: []string{"h2", "h1"}, Serial: []Amount{{N: 1}}}
	r.opts.MaxRuntime = time.Hour
	first, err := r.fleet().Run(t.Context())
	if err != nil || first.Exceeded == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	peek, err := store.PeekRun(r.opts.StateDir, first.Run)
	if err != nil || !peek.Shrunk() || peek.Spec == nil || peek.End == nil {
		t.Errorf("kept is %+v, %v", peek, err)
	}
	for _, large := range []string{"etcd", "logs"} {
		if _, err := os.Stat(filepath.Join(peek.Dir, large)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", large, err)
		}
	}
	opts, err := RetryFailed(r.opts.StateDir, first.Run)
	if err != nil || opts.Run != "" || len(opts.Hosts) != 3 || opts.Hosts[0].Name != "h2" || opts.Hosts[2].Name != "h4" ||
		len(opts.Rollout.Canary) != 1 || opts.MaxRuntime != time.Hour {
		t.Fatalf("%+v, %v", opts, err)
	}
	opts.SSH.NetDial, opts.Observe = r.opts.SSH.NetDial, func(messages.Event) {}
	opts.Rollout = Rollout{}
	opts.KeepState = true
	r.opts = opts
	second, err := r.fleet().Run(t.Context())
	if err != nil || second.Run == first.Run || len(second.Results) != 3 || second.Results[1].Outcome != messages.OutcomeSucceeded {
		t.Errorf("%+v, %v", second, err)
	}
	if n := r.sims["h1"].PayloadStarts(); n > 1 {
		t.Errorf("a host that had succeeded was begun %d times", n)
	}
}

func TestRetryFailedWhereNothingDid(t *testing.T) {
	r := newRig(t, says("1"))
	r.opts.KeepState = true
	report, err := r.fleet().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RetryFailed(r.opts.StateDir, report.Run); !errors.Is(err, ErrNothingFailed) {
		t.Errorf("%v", err)
	}
	if _, err := RetryFailed(r.opts.StateDir, "aaaaaaaa"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A run that was stopped when it had got to some hosts can be gone on with. One that had got to none, or ran everywhere, is done.
func TestRetryFailedAfterAStop(t *testing.T) {
	for name, c := range map[string]struct {
		first simhost.Payload
		most  int      // connections
		until []string // hosts whose payloads run when it is stopped
		done  bool     // h1 has its result then
		kept  int      // hosts that can be tried again
	}{
		"it ran everywhere":     {simhost.Payload{}, 3, []string{"h1", "h2", "h3"}, false, 0},
		"it had got to none":    {simhost.Payload{}, 1, []string{"h1"}, false, 0},
		"one done, one begun":   {says("1"), 1, []string{"h2"}, true, 2},
		"one done, all in work": {says("1"), 3, []string{"h2", "h3"}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.first, simhost.Payload{}, simhost.Payload{})
			r.opts.MaxConnections = c.most
			f := r.fleet()
			go func() {
				for _, host := range c.until {
					<-r.at[host]
				}
				if c.done {
					<-r.done["h1"]
				}
				f.Stop(messages.StopFinish)
			}()
			report, err := f.Run(t.Context())
			if err != nil || (report.Kept == KeptForRetry) != (c.kept > 0) {
				t.Fatalf("%+v, %v", report, err)
			}
			opts, err := RetryFailed(r.opts.StateDir, report.Run)
			if len(opts.Hosts) != c.kept || (err != nil) != (c.kept == 0) {
				t.Errorf("again on %+v, %v after %+v", opts.Hosts, err, report.Results)
			}
		})
	}
}

// A group that did not converge in time is what one wants to try again.
func TestRetryFailedAfterTheMaximumRunTime(t *testing.T) {
	r := newRig(t, simhost.Payload{})
	r.opts.MaxRuntime = 100 * time.Millisecond
	report, err := r.fleet().Run(t.Context())
	if err != nil || !report.TimedOut {
		t.Fatalf("%+v, %v", report, err)
	}
	if opts, err := RetryFailed(r.opts.StateDir, report.Run); err != nil || len(opts.Hosts) != 1 {
		t.Errorf("%+v, %v", opts.Hosts, err)
	}
}

// What may have a session left is for resume: a second start of the payload beside the first one is what must never be.
func TestRetryFailedLeavesSessionsAlone(t *testing.T) {
	r := newRig(t, simhost.Payload{})
	f := r.fleet()
	go func() {
		<-r.at["h1"]
		if _, err := RetryFailed(r.opts.StateDir, r.states()[0]); !errors.Is(err, ErrUnfinished) {
			t.Errorf("while the run goes on: %v", err)
		}
		f.HandOver()
	}()
	report, err := f.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RetryFailed(r.opts.StateDir, report.Run); !errors.Is(err, ErrUnfinished) {
		t.Errorf("%v", err)
	}
}

// Runs that were kept only because hosts failed don't pile up; those that were to be kept stay.
func TestTheOldestFailedRunsGo(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, simhost.Payload{Run: time.Millisecond, ExitCode: 1})
	r.opts.StateDir, r.opts.Observe = dir, func(messages.Event) {}
	for i := range keptForRetry + 3 {
		r.opts.KeepState = i == 0
		if _, err := r.fleet().Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.states()); n != keptForRetry+1 {
		t.Errorf("%d are kept", n)
	}
}
