package supervisor

import (
	"fmt"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/rollout"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

type (
	// waveRested: the time between two waves is over.
	waveRested struct{ wave int }
	// moved: the rollout is where it was not before, and others may begin.
	moved struct{}
)

// roll tells the rollout what happened and does what it wants. Hosts that may begin thereby do in a turn of their own.
func (s *supervisor) roll(event rollout.Event) {
	effects := s.rollout.Step(event)
	_, waves := s.rollout.Wave()
	for i, effect := range effects {
		switch e := effect.(type) {
		case rollout.WaveStarts:
			s.waveAt = time.Now()
			if waves > 1 {
				s.cfg.Observe(messages.WaveStarted{At: s.waveAt, Wave: e.Wave + 1, Waves: waves, Hosts: s.rollout.Hosts(e.Wave)})
			}
		case rollout.WaveEnds:
			if waves > 1 {
				s.waveEnded(e, waves, restAfter(effects[i:]))
			}
		case rollout.Rest:
			s.work.After(e.For, waveRested{e.Wave})
		case rollout.Ask:
			s.pause(fmt.Sprintf("wave %d of %d is over, and the next one is to be asked for", e.Wave+1, waves))
		case rollout.Exceed:
			s.exceed(e.Reason)
		}
	}
	if len(effects) > 0 {
		s.root.Send(s.self, moved{})
	}
}

func (s *supervisor) waveEnded(e rollout.WaveEnds, waves int, rest time.Duration) {
	now := time.Now()
	s.cfg.Observe(messages.WaveFinished{
		At: now, Wave: e.Wave + 1, Waves: waves, Hosts: e.Tally.Hosts, Succeeded: e.Tally.Succeeded, Failed: e.Tally.Failed,
		Unreachable: e.Tally.Unreachable, Canceled: e.Tally.Left, Took: now.Sub(s.waveAt), NextIn: rest,
	})
}

// restAfter is the time that is to be waited for, where that is among the effects.
func restAfter(effects []rollout.Effect) time.Duration {
	for _, effect := range effects {
		if e, ok := effect.(rollout.Rest); ok {
			return e.For
		}
	}
	return 0
}

// exceed has nobody begin any more, and those in work end where that is wanted.
func (s *supervisor) exceed(reason string) {
	s.exceeded = reason
	s.cfg.Observe(messages.RunExceeded{At: time.Now(), Reason: reason})
	if !s.cfg.StopOnExceeded {
		return
	}
	for _, h := range s.inOrder() {
		if h.pid != nil {
			s.ask(h.name, messages.StopFinish)
		}
	}
}

// RolledOut is what an outcome means to a rollout.
func RolledOut(o messages.Outcome) rollout.Outcome {
	switch o {
	case messages.OutcomeSucceeded:
		return rollout.Succeeded
	case messages.OutcomePayloadFailed, messages.OutcomeFailed:
		return rollout.Failed
	case messages.OutcomeUnreachable:
		return rollout.Unreachable
	}
	return rollout.Left
}
