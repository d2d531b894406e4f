package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/svcmgr"
)

// script is an init system that says what a function of the time since its beginning says. It can do nothing.
type script struct {
	svcmgr.Manager
	begin time.Time
	phase func(time.Duration) svcmgr.Phase
}

func (s script) State(ctx context.Context, _ string) (svcmgr.State, error) {
	phase := s.phase(time.Since(s.begin))
	return svcmgr.State{Phase: phase, Detail: []string{"stopped", "running", "changing"}[phase]}, context.Cause(ctx)
}

// phases is one phase and then another.
func phases(d time.Duration, before, after svcmgr.Phase) func(time.Duration) svcmgr.Phase {
	return func(now time.Duration) svcmgr.Phase {
		if now < d {
			return before
		}
		return after
	}
}

// flapping is running and on the way in turn, a bit too short for each to count.
func flapping(now time.Duration) svcmgr.Phase {
	if now%svcStay < svcStay/2 {
		return svcmgr.OnTheWay
	}
	return svcmgr.Running
}

func TestSvcSettles(t *testing.T) {
	for what, c := range map[string]struct {
		phase func(time.Duration) svcmgr.Phase
		want  svcmgr.Phase
		after time.Duration // and svcLook at most
	}{
		"running":       {phases(0, 0, svcmgr.Running), svcmgr.Running, 0},
		"stopped":       {phases(0, 0, svcmgr.Stopped), svcmgr.Stopped, 0},
		"starts":        {phases(10*time.Second, svcmgr.OnTheWay, svcmgr.Running), svcmgr.Running, 10*time.Second + svcStay},
		"stops":         {phases(10*time.Second, svcmgr.OnTheWay, svcmgr.Stopped), svcmgr.Stopped, 10 * time.Second},
		"never settles": {phases(time.Hour, svcmgr.OnTheWay, svcmgr.Running), svcmgr.OnTheWay, svcSettle},
		"flaps":         {flapping, svcmgr.OnTheWay, svcSettle},
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			state, err := (&svcResource{}).settled(t.Context(), script{begin: begin, phase: c.phase})
			if d := time.Since(begin) - c.after; state.Phase != c.want || err != nil || d < 0 || d > svcLook {
				t.Errorf("%s: %v, %v, %v later than it should", what, state, err, d)
			}
		})
	}
}

func TestSvcStays(t *testing.T) {
	for what, c := range map[string]struct {
		phase func(time.Duration) svcmgr.Phase
		want  string
	}{
		"runs":              {phases(0, 0, svcmgr.Running), ""},
		"appears":           {phases(svcAppear/2, svcmgr.Stopped, svcmgr.Running), ""},
		"comes up slowly":   {phases(svcAppear/2, svcmgr.OnTheWay, svcmgr.Running), ""},
		"dies":              {phases(svcStay/2, svcmgr.Running, svcmgr.Stopped), "did not go on running: it is stopped"},
		"dies and restarts": {phases(svcStay/2, svcmgr.Running, svcmgr.OnTheWay), "did not go on running: it is changing"},
		"never runs":        {phases(time.Hour, svcmgr.Stopped, svcmgr.Running), "does not run: it is stopped"},
	} {
		synctest.Test(t, func(t *testing.T) {
			err := (&svcResource{}).stays(t.Context(), script{begin: time.Now(), phase: c.phase})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", what, err, c.want)
			}
		})
	}
}

func TestSvcWaitEndsWithCtx(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		begin := time.Now()
		time.AfterFunc(svcSettle/2, func() { cancel(why) })
		_, err := (&svcResource{}).settled(ctx, script{begin: begin, phase: phases(time.Hour, svcmgr.OnTheWay, svcmgr.Running)})
		if !errors.Is(err, why) || time.Since(begin) != svcSettle/2 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}
