package supervisor

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/rollout"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// stopRun asks every host to stop, and those that were never admitted not to begin.
func (s *supervisor) stopRun(ctx actor.Context, level messages.StopLevel) {
	if level <= s.stop {
		return
	}
	s.stop = level
	s.roll(rollout.Stop{})
	for _, h := range s.inOrder() {
		s.ask(h.name, level)
	}
	s.admit(ctx) // which concludes those that wait
	s.complete = true
	s.maybeFinish()
}

// ask asks one host for a stop of at least the level and begins to be impatient.
func (s *supervisor) ask(name string, level messages.StopLevel) {
	h := s.hosts[name]
	if h == nil || h.done || level <= h.stop {
		return
	}
	h.stop = level
	if h.pid == nil {
		s.queue.ending = append(s.queue.ending, h)
		return
	}
	s.root.Send(h.pid, messages.StopHost{Level: level})
	s.waitFor(h)
}

// handOver ends every host's actor as it is. That is as if the initiator had died, which sessions survive.
func (s *supervisor) handOver(ctx actor.Context) {
	s.stop, s.complete, s.queue = messages.StopLeave, true, queue{} // nobody begins any more
	s.roll(rollout.Stop{})
	for _, h := range s.inOrder() {
		if h.done {
			continue
		}
		if h.pid != nil {
			ctx.Stop(h.pid)
		}
		s.conclude(h, messages.Result{
			Outcome: messages.OutcomeTakenOver, Fault: fault.Wrap(fault.Canceled, "run", fault.ErrTakenOver).WithHost(h.name),
			LeftBehind: h.carry.Trace.LeftBehind(),
		})
	}
	s.maybeFinish()
}

func (s *supervisor) finishRun(ctx actor.Context, reason messages.FinishReason) {
	if s.finish != messages.FinishNone || s.stop != messages.StopNone {
		return
	}
	s.finish, s.complete = reason, true
	s.roll(rollout.Stop{})
	for _, h := range s.inOrder() {
		s.finishHost(h.name, reason)
	}
	s.admit(ctx)
	s.maybeFinish()
}

// finishHost has a host's payload ended because the goal is reached or the time is over.
func (s *supervisor) finishHost(name string, reason messages.FinishReason) {
	h := s.hosts[name]
	if h == nil || h.done || h.finish != messages.FinishNone || h.stop != messages.StopNone {
		return
	}
	h.finish, h.stop = reason, messages.StopFinish
	if h.pid == nil {
		s.queue.ending = append(s.queue.ending, h)
		return
	}
	s.root.Send(h.pid, messages.FinishHost{Reason: reason})
	s.waitFor(h)
}

func (s *supervisor) waitFor(h *host) {
	limit := s.cfg.Patience.Finish
	switch h.stop {
	case messages.StopNow:
		limit = s.cfg.Patience.Now
	case messages.StopLeave:
		limit = s.cfg.Patience.Leave
	}
	s.work.After(limit, impatient{h.name, h.stop})
}

// impatient asks harder when a stop takes longer than it may; past the last level the actor is ended as it is.
func (s *supervisor) impatient(ctx actor.Context, m impatient) {
	h := s.hosts[m.host]
	if h == nil || h.done || h.pid == nil || h.stop != m.level {
		return
	}
	if h.stop < messages.StopLeave {
		s.ask(m.host, h.stop+1)
		return
	}
	ctx.Stop(h.pid)
	s.conclude(h, messages.Result{
		Outcome: messages.OutcomeCanceled, Reason: "the host did not answer in time while it was stopped", LeftBehind: h.carry.Trace.LeftBehind(),
	})
}

// done takes a host actor's last word.
func (s *supervisor) done(ctx actor.Context, r messages.Result) {
	if h := s.hosts[r.Host]; h != nil && !h.done {
		ctx.Stop(h.pid)
		s.conclude(h, r)
	}
}

// terminated notices a host actor that ended without a last word.
func (s *supervisor) terminated(ctx actor.Context, who *actor.PID) {
	h := s.byPID[who.Id]
	if h == nil {
		return
	}
	delete(s.byPID, who.Id)
	h.pid = nil // which would keep all that the actor had, its connection too
	if !h.done {
		s.conclude(h, failed(fault.New(fault.Bug, "run", "the host's actor ended without a result").WithHost(h.name)))
	}
	s.active--
	s.admit(ctx)
	s.maybeFinish()
}

// givenUp is the result of a host whose failures the policy does not forgive any more.
func (s *supervisor) givenUp(h *host, f *fault.Fault, why string) messages.Result {
	r := failed(f)
	switch f.Kind {
	case fault.Lost, fault.Unreachable, fault.Busy:
		r.Outcome = messages.OutcomeUnreachable
		r.Reason += "; given up after " + why
	}
	r.LeftBehind = h.carry.Trace.LeftBehind()
	return r
}

func failed(f *fault.Fault) messages.Result {
	return messages.Result{Outcome: messages.OutcomeFailed, Fault: f}
}

// conclude completes a host's result with what only the supervisor knows and publishes it. Places and permits are
// free again; a place only once the actor is gone, see terminated.
func (s *supervisor) conclude(h *host, r messages.Result) {
	h.done = true
	if s.blind != nil && r.Outcome == messages.OutcomeCanceled {
		r.Outcome, r.Fault = messages.OutcomeFailed, s.blind
	}
	if h.failed != nil && (r.Outcome == messages.OutcomeSucceeded || r.Outcome == messages.OutcomeCanceled) {
		// What the others reached, or what was asked for, later than that doesn't change it.
		r.Outcome, r.Exit, r.Converged = messages.OutcomePayloadFailed, h.failed, false
	}
	if h.skipped && r.Outcome == messages.OutcomeCanceled {
		r.Outcome, r.Reason = messages.OutcomeSkipped, s.exceeded
	}
	r.Host, r.Attempts = h.name, h.attempt
	if !h.began.IsZero() {
		r.Took = time.Since(h.began)
	}
	r.BytesSent, r.BytesSkipped, r.Reruns = h.carry.BytesSent, h.carry.BytesSkipped, h.carry.Reruns
	if r.Fault != nil {
		r.Reason, r.Remedy = joinReasons(bare(r.Fault).Error(), r.Reason), r.Fault.Remedy
	}
	s.results = append(s.results, r)
	s.dropPermits(h.name)
	s.leave(h)
	s.tellConverge(messages.ReportState{Host: h.name, State: r.Outcome.String()})
	if s.mustForget(r.Outcome) {
		s.forget(h)
	}
	s.cfg.Observe(messages.HostFinished{At: time.Now(), Result: r})
	s.roll(rollout.Ended{Host: h.name, Outcome: RolledOut(r.Outcome)})
}

// mustForget says whether what a host exported is to go at its end. What one left that ended well stays for the
// others; a host that was taken over is not ours any more; and at the end of the run nobody is left to be misled.
func (s *supervisor) mustForget(o messages.Outcome) bool {
	return o != messages.OutcomeSucceeded && o != messages.OutcomeTakenOver && s.stop == messages.StopNone && s.finish == messages.FinishNone
}

// forget takes a host whose payload is dead, or given up, out of the group, with what it exported. A host that is only
// out of reach keeps that: its lease decides.
func (s *supervisor) forget(h *host) {
	if h.forgotten {
		return
	}
	h.forgotten = true
	s.leave(h)
	s.tellConverge(messages.ForgetHost{Host: h.name})
}

// bare is a fault without what stands beside it wherever it is shown: its host and its remedy.
func bare(f *fault.Fault) *fault.Fault {
	c := *f
	c.Host, c.Remedy = "", ""
	return &c
}

func joinReasons(a, b string) string {
	if b == "" {
		return a
	}
	return strings.TrimSuffix(a, ";") + "; " + strings.TrimPrefix(b, "; ")
}

// maybeFinish publishes the end of the run once every host is done and its actor gone.
func (s *supervisor) maybeFinish() {
	if s.finished || !s.complete || s.active > 0 || len(s.results) < len(s.hosts) {
		return
	}
	s.finished = true
	results := slices.SortedFunc(slices.Values(s.results), func(a, b messages.Result) int { return strings.Compare(a.Host, b.Host) })
	s.cfg.Observe(messages.RunFinished{
		At: time.Now(), Run: s.cfg.Run, Took: time.Since(s.began), Converged: s.converged,
		TimedOut: s.finish == messages.FinishMaxRuntime, Exceeded: s.exceeded, Results: results,
	})
}

func (s *supervisor) status() messages.Status {
	st := messages.Status{Hosts: map[string]string{}, Results: slices.Clone(s.results), Stop: s.stop, Paused: s.paused, Limit: s.limit, Exceeded: s.exceeded, Finished: s.finished}
	if wave, waves := s.rollout.Wave(); waves > 1 {
		st.Wave, st.Waves = wave+1, waves
	}
	for name, h := range s.hosts {
		st.Hosts[name] = h.state
	}
	return st
}

// inOrder returns the hosts by name, so that what is done to all of them is done in the same order every time.
func (s *supervisor) inOrder() []*host {
	return slices.SortedFunc(maps.Values(s.hosts), func(a, b *host) int { return strings.Compare(a.name, b.name) })
}
