package fleet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// mgmtRig is a rig whose payload is mgmt; on this machine a shell script stands in for it.
func mgmtRig(t *testing.T, script string) *rig {
	t.Helper()
	r := newRig(t, simhost.Payload{Run: time.Millisecond})
	dir := t.TempDir()
	m := &Mgmt{Binary: filepath.Join(dir, "mgmt"), Code: filepath.Join(dir, "site.mcl")}
	for file, text := range map[string]string{m.Binary: "#!/bin/sh\n" + script, m.Code: ""} {
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.opts.Payload = Payload{Mgmt: m}
	state, err := os.MkdirTemp("", "fleet") // short: the path of a socket is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(state); err != nil {
			t.Error(err)
		}
	})
	r.opts.StateDir = state
	return r
}

func TestMgmtIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(p *Payload)
		says  string
	}{
		"a command, too": {func(p *Payload) { p.Command = []string{"x"} }, "mgmt or a command, not both"},
		"a binary, too":  {func(p *Payload) { p.Binary = "x" }, "mgmt or a command, not both"},
		"no code":        {func(p *Payload) { p.Mgmt.Code = "none.mcl" }, "none.mcl"},
		"other code":     {func(p *Payload) { p.Mgmt.Code = p.Mgmt.Binary }, "mgmt code is a .mcl file"},
		"no mgmt":        {func(p *Payload) { p.Mgmt.Binary = "/nonexistent/mgmt" }, "/nonexistent/mgmt"},
		"not executable": {func(p *Payload) { p.Mgmt.Binary = p.Mgmt.Code + ".sh" }, "can't be executed"},
		"another platform": {func(p *Payload) {
			elf := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\x08\x00\x01" + strings.Repeat("\x00", 43) // MIPS
			if err := os.WriteFile(p.Mgmt.Binary, []byte(elf), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "built for linux/mips, and this machine, which deploys the code with it, is " + runtime.GOOS + "/" + runtime.GOARCH},
	} {
		t.Run(name, func(t *testing.T) {
			r := mgmtRig(t, "")
			if err := os.WriteFile(r.opts.Payload.Mgmt.Code+".sh", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			c.spoil(&r.opts.Payload)
			if f, err := New(r.opts); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v", f, err)
			}
		})
	}
}

// The code is deployed once, before any host is begun, over a socket that nobody else can reach and that goes.
func TestMgmtDeploysFirst(t *testing.T) {
	r := mgmtRig(t, `test -S "${3#--seeds=unix://}" || exit 9; echo "$@" >> "$0.args"`)
	args := r.opts.Payload.Mgmt.Binary + ".args"
	r.opts.KeepState = true
	r.opts.Payload.Noop = true
	deployed := 0
	seen := r.opts.Observe
	r.opts.Observe = func(e messages.Event) {
		if _, ok := e.(messages.RunStarted); ok {
			data, err := os.ReadFile(args)
			if err != nil {
				t.Error(err)
			}
			deployed = strings.Count(string(data), "\n")
		}
		seen(e)
	}
	report, err := r.fleet().Run(t.Context())
	if err != nil || report.Results[0].Outcome != messages.OutcomeSucceeded {
		t.Fatalf("%+v, %v", report, err)
	}
	socket := filepath.Join(r.opts.StateDir, report.Run, "deploy.sock")
	data, err := os.ReadFile(args)
	want := "deploy --no-git --seeds=unix://" + socket + " --noop lang " + r.opts.Payload.Mgmt.Code + "\n"
	if err != nil || string(data) != want || deployed != 1 {
		t.Errorf("%d deploys before the run: %q, %v; want %q", deployed, data, err, want)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestMgmtDeployFails(t *testing.T) {
	r := mgmtRig(t, "echo no such module; exit 1")
	report, err := r.fleet().Run(t.Context())
	var f *fault.Fault
	if !errors.As(err, &f) || f.Kind != fault.Environment || !strings.Contains(f.Error(), "no such module") {
		t.Errorf("%v", err)
	}
	if len(report.Results) != 0 || len(r.events) != 0 {
		t.Errorf("%+v %+v", report, r.events)
	}
	if left, err := os.ReadDir(r.opts.StateDir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A path that fits into no socket is told before it is tried.
func TestMgmtNeedsAShortStateDirectory(t *testing.T) {
	r := mgmtRig(t, "")
	r.opts.StateDir = filepath.Join(r.opts.StateDir, strings.Repeat("x", 80))
	_, err := r.fleet().Run(t.Context())
	var f *fault.Fault
	if !errors.As(err, &f) || f.Kind != fault.Environment || !strings.Contains(f.Remedy, "XDG_STATE_HOME") {
		t.Errorf("%v", err)
	}
}

// Whoever ends the run while the code is deployed gets the usual report of a run that was stopped before it began.
func TestMgmtDeployIsStopped(t *testing.T) {
	for name, stop := range map[string]func(f *Fleet, cancel func()){
		"Stop": func(f *Fleet, _ func()) { f.Stop(messages.StopFinish) }, "context": func(_ *Fleet, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			r := mgmtRig(t, `trap 'exit 1' INT; touch "$0.begun"; while :; do sleep 0.05; done`)
			f := r.fleet()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for {
					if _, err := os.Stat(r.opts.Payload.Mgmt.Binary + ".begun"); err == nil {
						stop(f, cancel)
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
			report, err := f.Run(ctx)
			if err != nil || len(report.Results) != 1 || report.Results[0].Outcome != messages.OutcomeCanceled || r.sims["h1"].PayloadStarts() != 0 {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}
