package command

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func run(ctx context.Context, name string, args ...string) (string, error) {
	return Run(ctx, New(ctx, name, args...))
}

func TestRun(t *testing.T) {
	ctx := t.Context()
	if out, err := run(ctx, "echo", "a  b", "$HOME"); out != "a  b $HOME\n" || err != nil {
		t.Errorf("echo: %q, %v", out, err)
	}
	out, err := run(ctx, "sh", "-c", "echo said; echo wrong >&2; exit 7")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || out != "said\nwrong\n" {
		t.Errorf("exit status 7: %q, %v", out, err)
	}
	if _, err := run(ctx, "/no/such/program"); err == nil {
		t.Errorf("no such program: %v", err)
	}
	out, err = run(ctx, "sh", "-c", "head -c 100000 /dev/zero; echo end")
	if len(out) != MaxOutput || !strings.HasSuffix(out, "end\n") || err != nil {
		t.Errorf("long output: %d bytes, %v", len(out), err)
	}
}

// Of what something in the background may still write to, people see what there is; nobody takes it for an answer.
func TestOutputHeldOpen(t *testing.T) {
	const script = "echo half; sleep 1000 & echo $! >&2"
	var stdout, stderr tail
	held := New(t.Context(), "sh", "-c", script)
	held.Stdout, held.Stderr = &stdout, &stderr
	if err := Do(t.Context(), held); !errors.Is(err, ErrIncomplete) || stdout.String() != "half\n" {
		t.Errorf("%q, %v", stdout.String(), err)
	}
	KillGroup(held.Process.Pid)
	shown := New(t.Context(), "sh", "-c", script)
	if out, err := Run(t.Context(), shown); err != nil || !strings.HasPrefix(out, "half\n") {
		t.Errorf("%q, %v", out, err)
	}
	KillGroup(shown.Process.Pid)
}

// TestTheEndOfTime: even a command that ignores SIGTERM, and what it started.
func TestTheEndOfTime(t *testing.T) {
	ctx, cancel := WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := run(ctx, "sleep", "1000"); err == nil || err.Error() != "not done after 200ms" {
		t.Errorf("%v", err)
	}
	ctx, cancel = WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	if _, err := run(ctx, "true"); err == nil || err.Error() != "not done after 1ns" {
		t.Errorf("over before the start: %v", err)
	}
	// The time of this one is over when it has said something, however long that takes.
	said := filepath.Join(t.TempDir(), "said")
	if err := syscall.Mkfifo(said, 0o600); err != nil {
		t.Fatal(err)
	}
	over, end := context.WithCancelCause(t.Context())
	go func() {
		_, _ = os.ReadFile(said) // until the command closes it
		end(errors.New("it took too long"))
	}()
	out, err := run(over, "sh", "-c", "trap '' TERM; echo said; : >"+said+"; sleep 1000 & wait; sleep 1000")
	if err == nil || err.Error() != "it took too long" || out != "said\n" {
		t.Errorf("%q, %v", out, err)
	}
	ended, cancelFirst := context.WithCancel(t.Context())
	cancelFirst()
	ctx, cancel = WithTimeout(ended, 0)
	defer cancel()
	if _, err := run(ctx, "true"); err == nil {
		t.Error("a command ran though its time was over")
	}
}

func TestHead(t *testing.T) {
	h := Head{Most: 5}
	for i, part := range []string{"abc", "de", "f", ""} {
		if n, err := h.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("%q: %d, %v", part, n, err)
		}
		if want := i >= 2; h.Cut() != want {
			t.Errorf("after %q: cut is %v", part, h.Cut())
		}
	}
	if h.String() != "abcde" || string(h.Bytes()) != "abcde" {
		t.Errorf("kept %q", h.String())
	}
}
