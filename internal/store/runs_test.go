package store

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func result(t *testing.T, r *Run, host, text string) {
	t.Helper()
	if err := r.RecordResult(t.Context(), host, json.RawMessage(text)); err != nil {
		t.Fatal(err)
	}
}

func TestRunsAreListed(t *testing.T) {
	root := t.TempDir()
	old := openRun(t, root, "")
	record(t, old, "a", SessionRecord{Phase: PhaseCleaned})
	record(t, old, "b", SessionRecord{Phase: PhaseStarted})
	result(t, old, "a", `{"outcome":"ok"}`)
	if err := old.SaveSpec(json.RawMessage(`{"hosts":["a","b"]}`)); err != nil {
		t.Fatal(err)
	}
	closeRun(t, old)
	held := openRun(t, root, "")
	defer closeRun(t, held)
	for _, name := range []string{"README", trashPrefix + "abcdefgh"} { // what is no run is none
		if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}

	runs, err := ListRuns(root)
	if err != nil || len(runs) != 2 {
		t.Fatalf("%+v, %v", runs, err)
	}
	if p := runs[0]; p.ID != held.ID() || !p.Held || p.Owner.PID != os.Getpid() || p.Owner.Machine == "" || p.Spec != nil || p.Ended() || p.Finished() {
		t.Errorf("%+v", p)
	}
	p := runs[1]
	if p.ID != old.ID() || p.Held || p.Began.IsZero() || string(p.Spec) != `{"hosts":["a","b"]}` {
		t.Errorf("%+v", p)
	}
	if p.Sessions["b"].Phase != PhaseStarted || string(p.Results["a"]) != `{"outcome":"ok"}` || p.Ended() || p.Finished() {
		t.Errorf("%+v", p)
	}
}

func TestEndedAndFinished(t *testing.T) {
	for name, c := range map[string]struct {
		phase           SessionPhase
		result          bool
		ended, finished bool
	}{
		"runs":          {PhaseStarted, false, false, false},
		"left behind":   {PhaseStarted, true, true, false},
		"cleaned alone": {PhaseCleaned, false, false, false},
		"all done":      {PhaseCleaned, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			r := openRun(t, root, "")
			record(t, r, "a", SessionRecord{Phase: c.phase})
			if c.result {
				result(t, r, "a", "{}")
			}
			closeRun(t, r)
			p, err := PeekRun(root, r.ID())
			if err != nil || p.Ended() != c.ended || p.Finished() != c.finished {
				t.Errorf("ended %v, finished %v, %v", p.Ended(), p.Finished(), err)
			}
		})
	}
}

func TestPeekAtWhatIsNotThere(t *testing.T) {
	root := t.TempDir()
	if _, err := PeekRun(root, "abcdefgh"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := PeekRun(root, "../x"); err == nil || !strings.Contains(err.Error(), "is no run ID") {
		t.Errorf("got %v", err)
	}
}

// What a crash leaves must not hide the other runs, nor a damaged run itself.
func TestDamagedRunsAreTold(t *testing.T) {
	root := t.TempDir()
	good, bad := openRun(t, root, ""), openRun(t, root, "")
	closeRun(t, good)
	closeRun(t, bad)
	if err := os.WriteFile(filepath.Join(bad.Dir(), tenureFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	runs, err := ListRuns(root)
	if len(runs) != 1 || runs[0].ID != good.ID() || err == nil || !strings.Contains(err.Error(), bad.ID()) {
		t.Errorf("%+v, %v", runs, err)
	}
}

func TestGenerationsAreCounted(t *testing.T) {
	root := t.TempDir()
	r := openRun(t, root, "")
	first, err := PeekRun(root, r.ID())
	if err != nil || r.Generation() != 1 {
		t.Fatalf("%d, %v", r.Generation(), err)
	}
	closeRun(t, r)
	again := openRun(t, root, r.ID())
	defer closeRun(t, again)
	second, err := PeekRun(root, r.ID())
	if err != nil || again.Generation() != 2 || !second.Began.Equal(first.Began) || second.Owner.Since.Before(first.Owner.Since) {
		t.Errorf("%+v, then %+v, %v", first, second, err)
	}
	if spec, err := again.Spec(); spec != nil || err != nil {
		t.Errorf("%s, %v", spec, err)
	}
}

// Who finds a run locked hears who has it.
func TestTheHolderIsNamed(t *testing.T) {
	root := t.TempDir()
	r := openRun(t, root, "")
	defer closeRun(t, r)
	_, err := OpenRun(RunOptions{Root: root, ID: r.ID()})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("got %v", err)
	}
	if r.Generation() != 1 {
		t.Error("who did not get the lock counted as an initiator")
	}
}

func TestForget(t *testing.T) {
	root := t.TempDir()
	r := openRun(t, root, "")
	record(t, r, "a", SessionRecord{Phase: PhaseStarted})
	if err := r.Remove(); !errors.Is(err, ErrUnfinished) {
		t.Fatalf("got %v", err)
	}
	if err := r.Forget(); err != nil {
		t.Fatal(err)
	}
	if _, err := PeekRun(root, r.ID()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
