package supervisor

import (
	"slices"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// pool is a bounded number of permits and the hosts that wait for one, first come, first served.
type pool struct {
	limit   int
	holders map[string]bool
	waiting []messages.AskPermit
}

func newPool(limit int) *pool { return &pool{limit: limit, holders: map[string]bool{}} }

// ask reports whether the permit is given at once; otherwise the host waits.
func (p *pool) ask(m messages.AskPermit) bool {
	if p.holders[m.Host] {
		return true // an earlier answer crossed with a restart
	}
	if len(p.holders) >= p.limit {
		p.waiting = append(p.waiting, m)
		return false
	}
	p.holders[m.Host] = true
	return true
}

// giveBack takes the host's permit and place in the queue, and returns whose turn it is then.
func (p *pool) giveBack(host string) []messages.AskPermit {
	delete(p.holders, host)
	p.waiting = slices.DeleteFunc(p.waiting, func(m messages.AskPermit) bool { return m.Host == host })
	var next []messages.AskPermit
	for len(p.waiting) > 0 && len(p.holders) < p.limit {
		m := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.holders[m.Host] = true
		next = append(next, m)
	}
	return next
}

func (s *supervisor) askPermit(m messages.AskPermit) {
	if h := s.hosts[m.Host]; h == nil || h.done || m.Epoch != h.epoch {
		return // an instance that is gone would never return it
	}
	if p := s.permits[m.Kind]; p != nil && p.ask(m) {
		s.grant(m)
	}
}

func (s *supervisor) grant(m messages.AskPermit) {
	s.root.Send(s.hosts[m.Host].pid, messages.PermitGranted{Epoch: m.Epoch, Kind: m.Kind})
}

func (s *supervisor) returnPermit(kind messages.PermitKind, host string) {
	if p := s.permits[kind]; p != nil {
		for _, m := range p.giveBack(host) {
			s.grant(m)
		}
	}
}

// dropPermits takes back all that a host has or waits for: it was restarted, or is done.
func (s *supervisor) dropPermits(host string) {
	for kind := range s.permits {
		s.returnPermit(kind, host)
	}
}
