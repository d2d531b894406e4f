package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/mgmt-remote/mgmt-remote/internal/control"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Pause has no more hosts begun until Continue; those in work go on. It may be called before Run. It does not wait.
func (f *Fleet) Pause() { f.setPaused(true, messages.PauseRun{}) }

// Continue ends what Pause began. It does not wait.
func (f *Fleet) Continue() { f.setPaused(false, messages.ContinueRun{}) }

func (f *Fleet) setPaused(paused bool, message any) {
	f.mu.Lock()
	f.paused = paused
	f.mu.Unlock()
	f.tell(message)
}

// SetMaxConnections changes how many hosts are in work at the same time, 0 = all. Where more are in work they go on, and none begins
// until there are fewer. It may be called before Run, and does not wait. The error tells why the run can't have that number.
func (f *Fleet) SetMaxConnections(n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch hosts := len(f.hosts); {
	case n < 0:
		return fmt.Errorf("%d connections at the same time: use 0 (all hosts) or more", n)
	case n > 0 && n < hosts && f.converges():
		return fmt.Errorf("the %d hosts of this run converge together, which they can only while all of them are in work: %d connections are too few", hosts, n)
	}
	f.limit = n
	f.changed()
	if f.supervisor != nil {
		f.root.Send(f.supervisor, messages.LimitConnections{Limit: n})
	}
	return nil
}

// converges reports whether the run ends when the group of all hosts has converged. It is called with the lock held.
func (f *Fleet) converges() bool {
	switch {
	case f.opts.Converge == ConvergeGroup:
		return true
	case f.opts.ConvergedTimeout == 0:
		return false
	}
	return f.running != nil && !f.running.alone
}

// has returns an error where the run has no such host.
func (f *Fleet) has(host string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.hosts[host]; !there {
		return fmt.Errorf("the run has no host %s", host)
	}
	return nil
}

// Pause implements control.Handler.
func (c controlled) Pause() error {
	c.Fleet.Pause()
	return nil
}

// Continue implements control.Handler.
func (c controlled) Continue() error {
	c.Fleet.Continue()
	return nil
}

// Limit implements control.Handler.
func (c controlled) Limit(n int) error { return c.SetMaxConnections(n) }

// Drop implements control.Handler.
func (c controlled) Drop(host string) error {
	if err := c.has(host); err != nil {
		return err
	}
	c.Remove(host)
	return nil
}

// PauseOf asks the initiator of a run of this machine to begin no more hosts, as Fleet.Pause does. Where nobody drives the run,
// errors.Is(err, ErrNoInitiator).
func PauseOf(ctx context.Context, stateDir, run string) error {
	return ask(ctx, stateDir, run, control.Request{Op: control.OpPause})
}

// ContinueOf ends what PauseOf began, with the same errors.
func ContinueOf(ctx context.Context, stateDir, run string) error {
	return ask(ctx, stateDir, run, control.Request{Op: control.OpContinue})
}

// SetMaxConnectionsOf is Fleet.SetMaxConnections for a run of this machine, with the errors of PauseOf.
func SetMaxConnectionsOf(ctx context.Context, stateDir, run string, n int) error {
	return ask(ctx, stateDir, run, control.Request{Op: control.OpLimit, Limit: n})
}

// RemoveOf is Fleet.Remove for a run of this machine, with the errors of PauseOf, and one where the run has no such host.
func RemoveOf(ctx context.Context, stateDir, run, host string) error {
	if host == "" {
		return errors.New("no host is named")
	}
	return ask(ctx, stateDir, run, control.Request{Op: control.OpDrop, Host: host})
}

func ask(ctx context.Context, stateDir, run string, r control.Request) error {
	peek, err := store.PeekRun(stateDir, run)
	if err != nil {
		return err
	}
	_, err = control.Ask(ctx, peek.Dir, r)
	return err
}
