package supervisor

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/internal/rollout"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// enqueue has a new host wait. What an earlier initiator began is in work already: neither a pause nor its wave holds it back.
func (s *supervisor) enqueue(h *host) {
	switch {
	case h.stop != messages.StopNone:
		s.queue.ending = append(s.queue.ending, h)
	case h.carry.Trace == messages.TraceSession:
		s.queue.urgent = append(s.queue.urgent, h)
	default:
		s.queue.add(h, s.rollout.WaveOf(h.name))
	}
}

// admit concludes hosts that are to end before they began, and starts others as far as that is allowed.
func (s *supervisor) admit(ctx actor.Context) {
	if s.exceeded != "" {
		for _, h := range s.queue.takeWaves() {
			if h.waits() && h.stop == messages.StopNone {
				h.stop, h.skipped = messages.StopFinish, true
				s.queue.ending = append(s.queue.ending, h)
			}
		}
	}
	for _, h := range s.queue.takeEnding() {
		switch {
		case !h.waits():
		case h.stop == messages.StopLeave || h.carry.Trace == messages.TraceNone:
			s.conclude(h, messages.Result{Outcome: messages.OutcomeCanceled, Reason: "stopped before it began", LeftBehind: h.carry.Trace.LeftBehind()})
		default: // what may be left there is looked for
			s.queue.urgent = append(s.queue.urgent, h)
		}
	}
	for s.limit <= 0 || s.active < s.limit {
		h := s.queue.next(s.openWaves())
		if h == nil {
			return
		}
		s.spawn(ctx, h)
	}
}

// openWaves is how many waves may begin.
func (s *supervisor) openWaves() int {
	if s.paused {
		return 0
	}
	return s.rollout.Open()
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
