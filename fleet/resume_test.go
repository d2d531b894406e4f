package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// TestContinue has a second fleet go on where a first one lost a host: who is done is not run again, who is not keeps
// its session.
func TestContinue(t *testing.T) {
	r := newRig(t, says("first\n"), simhost.Payload{})
	r.opts.Patience.Finish, r.opts.Patience.Now, r.opts.Patience.Leave = time.Second, time.Second, 5*time.Second // h1 leaves in that time
	r.opts.SSH.Jump = "none"
	first := r.fleet()
	var thaw func()
	go func() {
		<-r.done["h1"]
		<-r.at["h2"]
		thaw = r.sims["h2"].Freeze()
		first.Stop(messages.StopLeave)
	}()
	report, err := first.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.sims["h2"].Drop() // and with it what it would still hear of the stop
	thaw()
	if report.Results[1].LeftBehind == "" {
		t.Fatalf("nothing is left to go on with: %+v", report.Results)
	}
	runs, err := Runs(r.opts.StateDir)
	if err != nil || len(runs) != 1 || runs[0].State != RunInterrupted || len(runs[0].Hosts) != 2 {
		t.Fatalf("%+v, %v", runs, err)
	}

	opts, err := Saved(r.opts.StateDir, report.Run)
	if err != nil {
		t.Fatal(err)
	}
	if opts.SSH.Jump != "none" || opts.Hosts[0].Jump != "none" {
		t.Errorf("the way to the hosts was forgotten: %q, %q", opts.SSH.Jump, opts.Hosts[0].Jump)
	}
	opts.SSH.NetDial, opts.Observe = r.opts.SSH.NetDial, r.observe
	opts.Patience = Options{}.Patience // as long as it takes
	before := len(r.events)
	r.opts = opts
	second := r.fleet()
	second.Stop(messages.StopFinish)
	again, err := second.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again.Run != report.Run || len(again.Results) != 2 || again.Results[0].Outcome != report.Results[0].Outcome {
		t.Errorf("first %+v, then %+v", report, again)
	}
	if got := again.Results[1]; got.LeftBehind != "" || r.sims["h2"].PayloadStarts() != 1 || len(r.sims["h2"].Sessions()) != 0 {
		t.Errorf("%+v after %d starts, sessions %+v", got, r.sims["h2"].PayloadStarts(), r.sims["h2"].Sessions())
	}
	for _, e := range r.events[before:] {
		if s, ok := e.(messages.StepStarted); ok && s.Epoch <= epochsPerInitiator {
			t.Errorf("an epoch of the first initiator: %+v", s)
		}
	}
	if left := r.states(); len(left) != 0 {
		t.Errorf("kept %q after %+v", left, again)
	}
}

func TestSavedIsWhatWasGiven(t *testing.T) {
	r := newRig(t, says("x"))
	r.opts.KeepState = true
	r.opts.Hosts[0].Password = "swordfish"
	r.opts.RetryFor, r.opts.OrphanTimeout, r.opts.MaxRuntime, r.opts.OnReboot = -1, time.Hour, time.Minute, RebootRerun
	r.opts.SSH.Identities = []string{r.opts.SSH.Identities[0]}
	r.opts.SSH.Config = filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(r.opts.SSH.Config, []byte("Host alias\n  HostName h1\n  User sim\n  ConnectTimeout 77\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.opts.Hosts[0].Addr, r.opts.Hosts[0].User = "alias", ""
	report, err := r.fleet().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	peek, err := store.PeekRun(r.opts.StateDir, report.Run)
	if err != nil || strings.Contains(string(peek.Spec), "swordfish") {
		t.Errorf("%v: %s", err, peek.Spec)
	}
	got, err := Saved(r.opts.StateDir, report.Run)
	if err != nil {
		t.Fatal(err)
	}
	if got.Run != report.Run || got.RetryFor != -1 || got.OrphanTimeout != time.Hour || got.MaxRuntime != time.Minute || got.OnReboot != RebootRerun || !got.SSH.Interactive ||
		len(got.Hosts) != 1 || got.Hosts[0].Name != "h1" || got.Hosts[0].Password != "" || !filepath.IsAbs(got.SSH.Identities[0]) {
		t.Errorf("%+v", got)
	}
	// Whoever continues it reaches the host as before, also where the configuration is another one now.
	if err := os.WriteFile(r.opts.SSH.Config, []byte("Nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if reached := got.Hosts[0].reached; reached == nil || reached.Addr != "h1" || reached.User != "sim" || reached.SSH.ConnectTimeout != 77*time.Second {
		t.Errorf("%+v", reached)
	}
	again := got
	again.SSH.NetDial, again.SSH.Interactive = r.opts.SSH.NetDial, false
	if f, err := New(again); err != nil || f.Close() != nil {
		t.Error(err)
	}
	runs, err := Runs(r.opts.StateDir)
	if err != nil || len(runs) != 1 || runs[0].State != RunFinished || runs[0].Results[0].Outcome != messages.OutcomeSucceeded {
		t.Errorf("%+v, %v", runs, err)
	}
	if _, err := Saved(r.opts.StateDir, "aaaaaaaa"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a run that there is not: %v", err)
	}
}

// TestOthersAskAndStop has somebody else look at a run and stop it.
func TestOthersAskAndStop(t *testing.T) {
	r := newRig(t, simhost.Payload{})
	f := r.fleet()
	if _, err := f.Status(); err == nil {
		t.Error("there is a status before the run")
	}
	asked := make(chan error, 1)
	go func() {
		<-r.at["h1"]
		asked <- askAndStop(r.opts.StateDir)
	}()
	report, err := f.Run(t.Context())
	if err := errors.Join(err, <-asked); err != nil {
		t.Fatal(err)
	}
	if got := report.Results[0]; got.Outcome != messages.OutcomeCanceled || got.LeftBehind != "" {
		t.Errorf("%+v", got)
	}
}

func askAndStop(stateDir string) error {
	ctx := context.Background()
	runs, err := Runs(stateDir)
	if err != nil {
		return err
	}
	s, err := StatusOf(ctx, stateDir, runs[0].ID)
	if err == nil && (s.Run != runs[0].ID || s.State != RunLive || len(s.Hosts) != 1 || s.Hosts[0].State != "Running" || s.Stop != "none") {
		err = fmt.Errorf("status %+v", s)
	}
	if bad := StopOf(ctx, stateDir, runs[0].ID, messages.StopLeave+1); bad == nil {
		err = errors.Join(err, errors.New("there is a stop harder than leaving"))
	}
	return errors.Join(err, StopOf(ctx, stateDir, runs[0].ID, messages.StopFinish))
}

// TestResultsComeBack holds that a result is the same after it was kept.
func TestResultsComeBack(t *testing.T) {
	for o := messages.OutcomeSucceeded; o <= messages.OutcomeTakenOver; o++ {
		want := messages.Result{Host: "h1", Outcome: o, Reason: "r", Remedy: "m", Converged: true, Took: time.Second, BytesSent: 1, Attempts: 2}
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeResults(map[string]json.RawMessage{"h1": data})
		if err != nil || got["h1"] != want {
			t.Errorf("%+v became %+v, %v", want, got, err)
		}
	}
	if _, err := decodeResults(map[string]json.RawMessage{"h1": []byte(`{"outcome":"splendid"}`)}); err == nil {
		t.Error("an outcome that there is not was taken")
	}
}
