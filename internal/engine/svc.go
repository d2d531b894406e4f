package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/svcmgr"
)

const (
	// svcSettle is how long a service may be on the way from one state to another before that is an error. What it
	// becomes afterwards is noticed by watching.
	svcSettle = 30 * time.Second
	// svcAppear is how long after its start a service may take to be seen running. Init systems without supervision say
	// that it has started before it has written its PID file.
	svcAppear = 3 * time.Second
	// svcStay is how long a service must then be seen running before its start counts. Most that can't run, because of
	// their configuration or a port that is taken, end at once.
	svcStay = time.Second
	// svcLook is the time between two looks.
	svcLook = 200 * time.Millisecond
)

// svcResource is a service of the machine's init system, which is looked for each time: it costs nothing.
type svcResource struct {
	name string
	spec *graph.Svc
}

func newSvc(id graph.ID, spec *graph.Svc) (resource, error) {
	if err := svcmgr.CheckName(id.Name); err != nil {
		return nil, fmt.Errorf("engine: %s: %w", id, err)
	}
	return &svcResource{name: id.Name, spec: spec}, nil
}

// svcChange is something to do about a service.
type svcChange struct {
	words string
	do    func(context.Context) (string, error)
}

func (s *svcResource) check(ctx context.Context) (string, error) {
	changes, err := s.changes(ctx)
	words := make([]string, 0, len(changes))
	for _, c := range changes {
		words = append(words, c.words)
	}
	return strings.Join(words, ", "), err
}

func (s *svcResource) apply(ctx context.Context) (string, error) {
	changes, err := s.changes(ctx)
	var all strings.Builder
	for _, c := range changes {
		if err != nil {
			break
		}
		var output string
		output, err = c.do(ctx)
		all.WriteString(output)
	}
	return all.String(), err
}

// changes are what is to be done, in order. What boots comes before what runs: if a start fails, the machine still
// tries again after the next boot.
func (s *svcResource) changes(ctx context.Context) ([]svcChange, error) {
	m, err := svcmgr.Find(s.name, s.spec.Session)
	if err != nil {
		return nil, err
	}
	state, err := s.settled(ctx, m) // even if it is not managed: a service that is not there is an error
	if err != nil {
		return nil, err
	}
	var list []svcChange
	if s.spec.Startup != graph.StartupUnmanaged {
		startup, err := m.Startup(ctx, s.name)
		want := s.spec.Startup == graph.StartupEnabled
		switch {
		case err != nil:
			return nil, err
		case want && !startup.Enabled && startup.Obstacle != "":
			return nil, errors.New("can't be enabled: " + startup.Obstacle)
		case want && !startup.Enabled:
			list = append(list, svcChange{"enable", func(ctx context.Context) (string, error) { return s.enable(ctx, m, true) }})
		case !want && startup.Enabled:
			list = append(list, svcChange{"disable", func(ctx context.Context) (string, error) { return s.enable(ctx, m, false) }})
		}
	}
	switch {
	case s.spec.State == graph.RunningYes && state.Phase == svcmgr.OnTheWay:
		return nil, unsettled(state)
	case s.spec.State == graph.RunningYes && state.Phase == svcmgr.Stopped && state.Obstacle != "":
		return nil, errors.New("can't be started: " + state.Obstacle)
	case s.spec.State == graph.RunningYes && state.Phase == svcmgr.Stopped:
		list = append(list, svcChange{fmt.Sprintf("start, it is %s", state.Detail), func(ctx context.Context) (string, error) { return s.start(ctx, m) }})
	case s.spec.State == graph.RunningNo && state.Phase != svcmgr.Stopped:
		list = append(list, svcChange{"stop", func(ctx context.Context) (string, error) { return s.stop(ctx, m) }})
	}
	return list, nil
}

// enable makes the service start at boot, or not, and looks whether it is so now.
func (s *svcResource) enable(ctx context.Context, m svcmgr.Manager, want bool) (string, error) {
	change, words := m.Enable, "enabled"
	if !want {
		change, words = m.Disable, "disabled"
	}
	output, err := change(ctx, s.name)
	if err != nil {
		return output, err
	}
	startup, err := m.Startup(ctx, s.name)
	if err == nil && startup.Enabled != want {
		err = fmt.Errorf("was %s, but the init system does not show it", words)
	}
	return output, err
}

func (s *svcResource) start(ctx context.Context, m svcmgr.Manager) (string, error) {
	output, err := m.Start(ctx, s.name)
	if err != nil {
		return output, err
	}
	return output, s.stays(ctx, m)
}

func (s *svcResource) stop(ctx context.Context, m svcmgr.Manager) (string, error) {
	output, err := m.Stop(ctx, s.name)
	if err != nil {
		return output, err
	}
	state, err := s.settled(ctx, m)
	if err == nil && state.Phase != svcmgr.Stopped {
		err = fmt.Errorf("was told to stop, and yet it is %s", state.Detail)
	}
	return output, err
}

// settled waits while the service is on the way to another state, and returns the one that it comes to. One that was seen
// on the way must then be seen running for svcStay: a service that dies and is restarted again and again never settles.
// Where it does not settle for svcSettle, it still is on the way.
func (s *svcResource) settled(ctx context.Context, m svcmgr.Manager) (svcmgr.State, error) {
	begin := time.Now()
	var moved, seen time.Time // when it was last seen on the way, and first seen running after that
	for {
		state, err := m.State(ctx, s.name)
		now := time.Now()
		switch {
		case err != nil || state.Phase == svcmgr.Stopped:
			return state, err
		case state.Phase == svcmgr.OnTheWay:
			moved, seen = now, time.Time{}
		case moved.IsZero() || !seen.IsZero() && now.Sub(seen) >= svcStay:
			return state, nil
		case seen.IsZero():
			seen = now
		}
		if now.Sub(begin) >= svcSettle {
			state.Phase = svcmgr.OnTheWay
			return state, nil
		}
		if err := pause(ctx, svcLook); err != nil {
			return state, err
		}
	}
}

// unsettled is the error of a service that settled gave up on.
func unsettled(state svcmgr.State) error {
	return fmt.Errorf("has been changing its state for %v, it is %s now", svcSettle, state.Detail)
}

// stays waits until the service is seen running, and for svcStay after that.
func (s *svcResource) stays(ctx context.Context, m svcmgr.Manager) error {
	var seen time.Time // when it was first seen running
	for begin := time.Now(); ; {
		state, err := m.State(ctx, s.name)
		if err != nil {
			return err
		}
		switch {
		case state.Phase == svcmgr.Running && seen.IsZero():
			seen = time.Now()
		case state.Phase == svcmgr.Running && time.Since(seen) >= svcStay:
			return nil
		case state.Phase != svcmgr.Running && !seen.IsZero():
			return fmt.Errorf("was started and did not go on running: it is %s", state.Detail)
		case state.Phase != svcmgr.Running && time.Since(begin) >= svcAppear:
			return fmt.Errorf("was started and does not run: it is %s", state.Detail)
		}
		if err := pause(ctx, svcLook); err != nil {
			return err
		}
	}
}

// pause waits; the error is the cause of an end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// refreshChange is nothing for a service that does not run: when it starts, it reads everything anew.
func (s *svcResource) refreshChange(ctx context.Context) (string, error) {
	m, err := svcmgr.Find(s.name, s.spec.Session)
	if err != nil {
		return "", err
	}
	state, err := s.settled(ctx, m)
	switch {
	case err != nil || state.Phase == svcmgr.Stopped:
		return "", err
	case state.Phase == svcmgr.OnTheWay:
		return "", unsettled(state)
	}
	return "reload", nil
}

func (s *svcResource) refresh(ctx context.Context) (string, error) {
	change, err := s.refreshChange(ctx)
	if err != nil || change == "" {
		return "", err
	}
	m, err := svcmgr.Find(s.name, s.spec.Session)
	if err != nil {
		return "", err
	}
	output, err := m.Reload(ctx, s.name)
	if err != nil {
		return output, err
	}
	return output, s.stays(ctx, m)
}

func (s *svcResource) watch(ctx context.Context, ready, changed func()) error {
	m, err := svcmgr.Find(s.name, s.spec.Session)
	if err != nil {
		return err
	}
	return m.Watch(ctx, s.name, ready, changed)
}
