package engine

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
)

func TestAsk(t *testing.T) {
	out, err := ask(t.Context(), "sh", "-c", "echo answer; echo first >&2; echo 'sh: reason' >&2; exit 3")
	var exit *exec.ExitError
	if out != "answer\n" || !errors.As(err, &exit) || exit.ExitCode() != 3 || err.Error() != "sh: reason (exit status 3)" {
		t.Errorf("got %q, %v", out, err)
	}
	if out, err := ask(t.Context(), "head", "-c", "2000000", "/dev/zero"); err == nil || len(out) != maxAnswer {
		t.Errorf("a long answer: %d bytes, %v", len(out), err)
	}
	if _, err := ask(t.Context(), "no-such-program"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("no such program: %v", err)
	}
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	path, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if out, err := ask(t.Context(), path, "-c", "echo $LC_ALL $PATH"); err != nil || !strings.HasPrefix(out, "C ") || !strings.HasSuffix(out, ":"+command.AdminPath+"\n") {
		t.Errorf("the environment is %q, %v", out, err)
	}
}

func TestLockObeysContext(t *testing.T) {
	l := newLock()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := l.hold(t.Context(), func() (string, error) {
		cancel()
		return l.hold(ctx, func() (string, error) { return "", errors.New("two hold it") })
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if out, err := l.hold(t.Context(), func() (string, error) { return "free", nil }); out != "free" || err != nil {
		t.Errorf("afterwards: %q, %v", out, err)
	}
}

// hesitant is a resource that finds out only in apply that there is nothing to do.
type hesitant struct{ applied atomic.Int32 }

func (*hesitant) check(context.Context) (string, error) { return "look more closely", nil }

func (h *hesitant) apply(context.Context) (string, error) {
	h.applied.Add(1)
	return "", errUnchanged
}

func TestUnchangedCountsAsChecked(t *testing.T) {
	def := parse(t, "resources: {noop: [{name: a}]}")
	events := make(chan Event, 10)
	e, err := New(def, Options{Observer: ObserverFunc(func(ev Event) { events <- ev })})
	if err != nil {
		t.Fatal(err)
	}
	var h hesitant
	e.initial.vertices[0].impl = &h
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	if ev := <-events; ev.Kind != Checked || ev.Err != nil || h.applied.Load() != 1 {
		t.Errorf("event %+v after %d times apply", ev, h.applied.Load())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
