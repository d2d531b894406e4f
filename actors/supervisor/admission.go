package supervisor

import (
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/internal/rollout"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// admit concludes hosts that are to end before they began, and starts others as far as that is allowed.
func (s *supervisor) admit(ctx actor.Context) {
	s.queue = slices.DeleteFunc(s.queue, func(h *host) bool {
		if s.exceeded != "" && h.stop == messages.StopNone && h.carry.Trace != messages.TraceSession {
			h.stop, h.skipped = messages.StopFinish, true // what may be left there is looked for
		}
		switch {
		case h.stop != messages.StopNone && (h.stop == messages.StopLeave || h.carry.Trace == messages.TraceNone):
			s.conclude(h, messages.Result{Outcome: messages.OutcomeCanceled, Reason: "stopped before it began", LeftBehind: h.carry.Trace.LeftBehind()})
		case s.mayBegin(h):
			s.spawn(ctx, h)
		default:
			return false
		}
		return true
	})
}

// mayBegin reports whether a host may be started now. What an earlier initiator began is in work already: only the bound of
// connections holds it back, and neither does a pause keep a host from being cleaned up.
func (s *supervisor) mayBegin(h *host) bool {
	switch {
	case s.limit > 0 && s.active >= s.limit:
		return false
	case h.stop != messages.StopNone || h.carry.Trace == messages.TraceSession:
		return true
	}
	return !s.paused && s.rollout.May(h.name)
}

// pause lets nobody begin until goOn.
func (s *supervisor) pause(reason string) {
	if s.paused || s.finished {
		return
	}
	s.paused = true
	s.cfg.Observe(messages.RunPaused{At: time.Now(), Reason: reason})
}

// goOn has hosts begin again, and the next wave, if it waits.
func (s *supervisor) goOn(ctx actor.Context) {
	if s.finished {
		return
	}
	if s.paused {
		s.paused = false
		s.cfg.Observe(messages.RunContinued{At: time.Now()})
	}
	s.roll(rollout.WentOn{})
	s.admit(ctx)
	s.maybeFinish()
}

func (s *supervisor) limitTo(ctx actor.Context, limit int) {
	if limit == s.limit || s.finished {
		return
	}
	s.limit = limit
	s.cfg.Observe(messages.ConnectionsLimited{At: time.Now(), Limit: limit})
	s.admit(ctx)
	s.maybeFinish()
}
