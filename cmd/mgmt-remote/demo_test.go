package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

// demoWorld is two machines, as they are when a demo went well.
func demoWorld(t *testing.T) (*demoWatch, *sshfleet.Host) {
	t.Helper()
	dir, err := os.MkdirTemp("", "mr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	machines, err := sshfleet.New(sshfleet.Options{Dir: filepath.Join(dir, "m"), Hosts: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := machines.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, m := range machines.Hosts() {
		greeting := "hello from " + m.Name() + "\n"
		writeDemoFile(t, m, "greeting", greeting)
		writeDemoFile(t, m, "notes", "applied after the greeting\n")
		writeDemoFile(t, m, "count", fmt.Sprintf("%d\n", len(greeting)))
		writeDemoFile(t, m, "everybody", "demo1 says hello\ndemo2 says hello\n")
	}
	return &demoWatch{machines: machines, patience: 100 * time.Millisecond, steps: map[string]map[messages.Step]bool{}}, machines.Hosts()[1]
}

func writeDemoFile(t *testing.T, m *sshfleet.Host, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.Home(), name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// demoEvents tells the watch what happened in a good run.
func demoEvents(w *demoWatch) {
	for _, m := range w.machines.Hosts() {
		for step := messages.StepConnect; step <= messages.StepDisconnect; step++ {
			w.event(messages.StepDone{Host: m.Name(), Step: step})
		}
	}
	w.event(messages.Converged{Members: 2})
}

// TestDemoVerdict plants one problem at a time: each makes the demo fail, and is named.
func TestDemoVerdict(t *testing.T) {
	nothing := func(*testing.T, *demoWatch, *sshfleet.Host) {}
	file := func(name, text string) func(*testing.T, *demoWatch, *sshfleet.Host) {
		return func(t *testing.T, _ *demoWatch, m *sshfleet.Host) { writeDemoFile(t, m, name, text) }
	}
	for name, c := range map[string]struct {
		before, after func(*testing.T, *demoWatch, *sshfleet.Host) // the convergence
		want          string                                       // "" = all is well
	}{
		"nothing":             {before: nothing, after: nothing},
		"wrong content":       {before: file("notes", "other\n"), after: nothing, want: `demo2: notes: contains "other\n" instead of "applied`},
		"somebody is missing": {before: file("everybody", "demo2 says hello\n"), after: nothing, want: `demo2: everybody: contains "demo2 says hello\n" instead of "demo1 says hello`},
		"wrong count":         {before: file("count", "1\n"), after: nothing, want: "demo2: count: contains"},
		"missing file": {
			before: func(t *testing.T, _ *demoWatch, m *sshfleet.Host) {
				if err := os.Remove(filepath.Join(m.Home(), "greeting")); err != nil {
					t.Fatal(err)
				}
			},
			after: nothing, want: "demo2: greeting: open",
		},
		"missing step": {
			before: nothing, after: func(_ *testing.T, w *demoWatch, m *sshfleet.Host) { delete(w.steps[m.Name()], messages.StepCleanUp) },
			want: "demo2: step 8 clean up was not done",
		},
		"not converged": {
			before: nothing, after: func(_ *testing.T, w *demoWatch, _ *sshfleet.Host) { w.converged = false },
			want: "did not converge",
		},
		"leftover file": {
			before: nothing, after: func(t *testing.T, _ *demoWatch, m *sshfleet.Host) {
				if err := os.MkdirAll(filepath.Join(m.Prefix(), "mgmt-remote-0", "cache"), 0o700); err != nil {
					t.Fatal(err)
				}
			},
			want: "demo2: left behind: ",
		},
		"leftover socket":  {before: nothing, after: leaveSocket, want: "etcd.100.sock"},
		"leftover process": {before: nothing, after: leaveProcess, want: "demo2: left behind: process"},
	} {
		t.Run(name, func(t *testing.T) {
			w, m := demoWorld(t)
			c.before(t, w, m)
			demoEvents(w)
			c.after(t, w, m)
			said := ""
			err := w.verdict(func(format string, args ...any) { said += fmt.Sprintf(format, args...) })
			switch {
			case c.want == "" && (err != nil || !strings.Contains(said, "nine steps done on 2 hosts")):
				t.Errorf("error %v, said %q", err, said)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one with %q", err, c.want)
			case c.want != "" && said != "":
				t.Errorf("said %q nevertheless", said)
			}
		})
	}
}

func leaveSocket(t *testing.T, _ *demoWatch, m *sshfleet.Host) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(m.Prefix(), "etcd.100.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	})
}

// leaveProcess leaves a process that works in the machine's sandbox, as a shim that did not end would.
func leaveProcess(t *testing.T, _ *demoWatch, m *sshfleet.Host) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "sleep", "1000")
	cmd.Dir = m.Prefix()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
}
