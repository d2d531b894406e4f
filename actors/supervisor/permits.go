package supervisor

import (
	"slices"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// pool is a bounded number of permits and the hosts that wait for one, first come, first served. Hosts behind one jump host have a bound
// of their own beside: it must not be stormed, and where it is slow, they must not take the permits of all others.
type pool struct {
	limit   int               // of all
	jumping int               // of those behind one jump host
	holders map[string]string // host → what it goes through
	through map[string]int    // holders behind a jump host
	waiting []messages.AskPermit
}

func newPool(limit, jumping int) *pool {
	return &pool{limit: limit, jumping: jumping, holders: map[string]string{}, through: map[string]int{}}
}

// ask reports whether the permit is given at once; otherwise the host waits.
func (p *pool) ask(m messages.AskPermit) bool {
	if _, has := p.holders[m.Host]; has {
		return true // an earlier answer crossed with a restart
	}
	if !p.fits(m) {
		p.waiting = append(p.waiting, m)
		return false
	}
	p.take(m)
	return true
}

func (p *pool) fits(m messages.AskPermit) bool {
	return len(p.holders) < p.limit && (m.Through == "" || p.through[m.Through] < p.jumping)
}

func (p *pool) take(m messages.AskPermit) {
	p.holders[m.Host] = m.Through
	p.through[m.Through]++
}

// giveBack takes the host's permit and place in the queue, and returns whose turn it is then.
func (p *pool) giveBack(host string) []messages.AskPermit {
	if through, has := p.holders[host]; has {
		delete(p.holders, host)
		if p.through[through]--; p.through[through] == 0 {
			delete(p.through, through)
		}
	}
	var next []messages.AskPermit
	p.waiting = slices.DeleteFunc(p.waiting, func(m messages.AskPermit) bool {
		if m.Host == host {
			return true
		}
		if !p.fits(m) {
			return false
		}
		p.take(m)
		next = append(next, m)
		return true
	})
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
