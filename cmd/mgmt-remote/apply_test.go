package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/world"
)

// runApply executes the command as the shell would, with a definition in which DIR stands for a fresh directory.
func runApply(ctx context.Context, t *testing.T, dir, yaml string, flags ...string) (out, errOut string, err error) {
	t.Helper()
	// The tests may themselves run below a shim; they must not speak for it.
	for _, name := range []string{world.EnvRun, world.EnvHost, world.EnvEndpoints} {
		t.Setenv(name, "")
	}
	file := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(yaml, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := newApplyCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true // as below the root command
	var stdout, stderr bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(append(flags, file))
	err = cmd.ExecuteContext(ctx)
	return strings.ReplaceAll(stdout.String(), dir, "DIR"), stderr.String(), err
}

const twoFiles = `resources:
  file:
  - {name: a, path: DIR/a, content: "abc"}
  - {name: b, path: DIR/b, content: "b", mode: 0600}
edges:
- {from: {kind: file, name: a}, to: {kind: file, name: b}}
`

func TestApply(t *testing.T) {
	dir := t.TempDir()
	out, _, err := runApply(t.Context(), t, dir, twoFiles, "--noop", "--converged-timeout", "0")
	diff := func(name, content string) string {
		return "  | --- /dev/null\n  | +++ DIR/" + name + "\n  | @@ -0,0 +1,1 @@\n  | +" + content + "\n  | \\ No newline at end of file\n"
	}
	want := "file[a]: would apply: create with 3 bytes\n" + diff("a", "abc") +
		"file[b]: would apply: create with 1 bytes\n" + diff("b", "b") + "2 resources checked, nothing was changed\n"
	if err != nil || out != want {
		t.Errorf("noop: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("noop made a file: %v", err)
	}
	out, _, err = runApply(t.Context(), t, dir, twoFiles, "--converged-timeout=0")
	want = "file[a]: applied: create with 3 bytes\nfile[b]: applied: create with 1 bytes\n2 resources are as declared\n"
	if err != nil || out != want {
		t.Errorf("apply: %v\n%s", err, out)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(data) != "abc" {
		t.Errorf("file a: %q, %v", data, err)
	}
	out, _, err = runApply(t.Context(), t, dir, twoFiles, "--converged-timeout=10ms")
	if err != nil || out != "2 resources are as declared\n" {
		t.Errorf("second time: %v\n%s", err, out)
	}
}

func TestApplyFailure(t *testing.T) {
	out, errOut, err := runApply(t.Context(), t, t.TempDir(), `resources:
  exec:
  - {name: bad, shell: sh, cmd: "printf 'why\\033[2J\\n'; exit 7", meta: {retry: 1, delay: 1}}
`, "--converged-timeout", "0")
	if !errors.Is(err, exitError(exitFailed)) || errOut != "mgmt-remote: failed: exec[bad]\n" {
		t.Errorf("error %v, stderr %q", err, errOut)
	}
	want := "exec[bad]: retrying, next attempt in 100ms: exit status 7\n  | why?[2J\nexec[bad]: failed: exit status 7\n  | why?[2J\nnothing left to do, but failed: exec[bad]\n"
	if out != want {
		t.Errorf("printed\n%s", out)
	}
}

func TestApplyWrongDefinition(t *testing.T) {
	dir := t.TempDir()
	out, _, err := runApply(t.Context(), t, dir, "resources:\n  file:\n  - {name: a, path: DIR/a, content: x}\n  - {name: b, pth: DIR/b}\n")
	var e *graph.Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), `site.yaml:4:15: file resource: unknown key "pth"; did you mean "path"?`) || out != "" {
		t.Errorf("error %v, printed %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("applied part of a wrong definition: %v", err)
	}
	if _, _, err := runApply(t.Context(), t, dir, "graph: x", "--converged-timeout", "-1"); err == nil || !strings.Contains(err.Error(), "negative") {
		t.Errorf("negative timeout: %v", err)
	}
	if _, _, err := runApply(t.Context(), t, dir, "graph: x", "--converged-timeout", "soon"); err == nil || !strings.Contains(err.Error(), "neither a duration") {
		t.Errorf("no timeout: %v", err)
	}
	if _, _, err := runApply(t.Context(), t, dir, "graph: x", "second-file"); err == nil {
		t.Error("accepted two files")
	}
}

// TestApplyInterrupt: both signals end it well, while a command still runs.
func TestApplyInterrupt(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		dir := t.TempDir()
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		fifo := filepath.Join(dir, "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { // the command below opens the other end, so apply runs when this one is open
			f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
			if err == nil {
				err = errors.Join(self.Signal(sig), f.Close())
			}
			sent <- err
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, _, err = runApply(ctx, t, dir, "resources: {exec: [{name: e, shell: sh, cmd: 'cat DIR/fifo; exec sleep 1000'}]}")
		if err != nil || ctx.Err() != nil {
			t.Errorf("%v: %v, %v", sig, err, ctx.Err())
		}
		cancel()
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
}

func TestApplyBelowAShimThatSaysTooLittle(t *testing.T) {
	file := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(file, []byte("graph: x"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(world.EnvRun, "run1")
	t.Setenv(world.EnvHost, "")
	t.Setenv(world.EnvEndpoints, "")
	cmd := newApplyCommand()
	cmd.SetArgs([]string{file})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), world.EnvHost) {
		t.Errorf("error %v", err)
	}
}

// What is failed for good must not keep a run waiting; what is as declared may stay for ever.
func TestApplyEndsWhenOnlyFailuresAreLeft(t *testing.T) {
	dir := t.TempDir()
	_, errOut, err := runApply(t.Context(), t, dir, `resources:
  exec:
  - {name: no, cmd: "false", state: present}
  file:
  - {name: a, path: DIR/a, content: "abc"}
`, "--failed-timeout", "50ms")
	var exit exitError
	if !errors.As(err, &exit) || exit != exitFailed || !strings.Contains(errOut, "exec[no]") {
		t.Errorf("%v, %q", err, errOut)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(got) != "abc" {
		t.Errorf("what did not depend on the failure: %q, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := runApply(ctx, t, dir, twoFiles, "--failed-timeout", "50ms"); err != nil || ctx.Err() == nil {
		t.Errorf("without a failure it ended by itself: %v", err)
	}
}
