package fleet

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// TestOthersSteer has another process hold a run back, change its pace and drop a host.
func TestOthersSteer(t *testing.T) {
	r := newRig(t, simhost.Payload{}, says("two\n"), says("three\n"))
	r.opts.MaxConnections = 1
	f := r.fleet()
	asked := make(chan error, 1)
	go func() {
		<-r.at["h1"]
		asked <- steerFrom(r.opts.StateDir)
	}()
	report, err := f.Run(t.Context())
	if err := errors.Join(err, <-asked); err != nil {
		t.Fatal(err)
	}
	for i, want := range []messages.Outcome{messages.OutcomeCanceled, messages.OutcomeCanceled, messages.OutcomeSucceeded} {
		if report.Results[i].Outcome != want {
			t.Errorf("%+v", report.Results[i])
		}
	}
	if n := r.sims["h2"].PayloadStarts(); n != 0 {
		t.Errorf("a host that was dropped before it began was begun %d times", n)
	}
}

func steerFrom(stateDir string) error {
	ctx := context.Background()
	runs, err := Runs(stateDir)
	if err != nil {
		return err
	}
	run := runs[0].ID
	err = errors.Join(PauseOf(ctx, stateDir, run), RemoveOf(ctx, stateDir, run, "h2"), SetMaxConnectionsOf(ctx, stateDir, run, 2))
	s, bad := StatusOf(ctx, stateDir, run)
	if err = errors.Join(err, bad); err == nil && (!s.Paused || s.MaxConnections != 2 || s.Hosts[1].Result == nil || s.Hosts[2].State != "") {
		err = errors.Join(err, errors.New("the status does not tell"))
	}
	if bad := RemoveOf(ctx, stateDir, run, "nobody"); bad == nil || !strings.Contains(bad.Error(), "no host nobody") {
		err = errors.Join(err, errors.New("a host that there is not was dropped"), bad)
	}
	if bad := SetMaxConnectionsOf(ctx, stateDir, run, -1); bad == nil {
		err = errors.Join(err, errors.New("a negative number was taken"))
	}
	return errors.Join(err, RemoveOf(ctx, stateDir, run, "h1"), ContinueOf(ctx, stateDir, run))
}

func TestPauseBeforeRun(t *testing.T) {
	r := newRig(t, says("one\n"))
	f := r.fleet()
	f.Pause()
	observe := r.opts.Observe
	f.opts.Observe = func(e messages.Event) {
		observe(e)
		if _, paused := e.(messages.RunPaused); paused {
			f.Continue()
		}
	}
	report, err := f.Run(t.Context())
	if err != nil || report.Results[0].Outcome != messages.OutcomeSucceeded {
		t.Errorf("%+v, %v", report, err)
	}
}

// A group converges only while all of it is in work.
func TestAGroupIsNotHeldBack(t *testing.T) {
	r := newRig(t, says("one\n"), says("two\n"))
	r.opts.Converge = ConvergeGroup
	f := r.fleet()
	if err := f.SetMaxConnections(1); err == nil || !strings.Contains(err.Error(), "converge together") {
		t.Errorf("%v", err)
	}
	if err := f.SetMaxConnections(2); err != nil {
		t.Error(err)
	}
}
