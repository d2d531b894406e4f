package supervisor

import (
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// pool is a bounded number of permits and the hosts that wait for one, first come, first served. Hosts behind one jump host have a bound
// of their own beside: it must not be stormed, and where it is slow, they must not take the permits of all others.
type pool struct {
	limit   int               // of all
	jumping int               // of those behind one jump host
	holders map[string]string // host → what it goes through
	through map[string]int    // holders behind a jump host

	asked   uint64              // how often somebody had to wait
	waiting map[string]uint64   // host → its place
	queues  map[string][]placed // by what they go through, "" too; some have given up their place
}

// placed is a host that waits, or did.
type placed struct {
	messages.AskPermit
	place uint64
}

func newPool(limit, jumping int) *pool {
	return &pool{
		limit: limit, jumping: jumping, holders: map[string]string{}, through: map[string]int{}, waiting: map[string]uint64{}, queues: map[string][]placed{},
	}
}

// ask reports whether the permit is given at once; otherwise the host waits.
func (p *pool) ask(m messages.AskPermit) bool {
	if _, has := p.holders[m.Host]; has {
		return true // an earlier answer crossed with a restart
	}
	if len(p.holders) >= p.limit || !p.fits(m.Through) {
		p.asked++
		p.waiting[m.Host] = p.asked
		p.queues[m.Through] = append(p.queues[m.Through], placed{m, p.asked})
		return false
	}
	p.take(m)
	return true
}

func (p *pool) fits(through string) bool { return through == "" || p.through[through] < p.jumping }

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
	delete(p.waiting, host)
	var next []messages.AskPermit
	for len(p.holders) < p.limit {
		m, found := p.first()
		if !found {
			break
		}
		p.take(m)
		next = append(next, m)
	}
	return next
}

// first takes out who has waited longest of those that may have a permit.
func (p *pool) first() (m messages.AskPermit, found bool) {
	var place uint64
	for through := range p.queues {
		if !p.fits(through) {
			continue
		}
		if head, some := p.head(through); some && (!found || head.place < place) {
			m, place, found = head.AskPermit, head.place, true
		}
	}
	delete(p.waiting, m.Host)
	return m, found
}

// head is who is first in a queue, which those are taken out of that wait no more.
func (p *pool) head(through string) (placed, bool) {
	queue := p.queues[through]
	for len(queue) > 0 && p.waiting[queue[0].Host] != queue[0].place {
		queue = queue[1:]
	}
	p.queues[through] = queue
	if len(queue) == 0 {
		delete(p.queues, through)
		return placed{}, false
	}
	return queue[0], true
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
