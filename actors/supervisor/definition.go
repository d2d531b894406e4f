package supervisor

import (
	"time"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// noticing is how long a payload may take to notice that its definition was replaced. Until then it speaks of the old one.
const noticing = time.Second

// noticed: a payload had time to see the definition of this version.
type noticed struct {
	host    string
	version uint64
}

// update gives a host a newer definition. What the host says of itself from here on is about an old one, so it does not
// count as attached until the new one is there and was noticed; then the clocks begin anew.
func (s *supervisor) update(m messages.UpdateDefinition) {
	h := s.hosts[m.Host]
	if h == nil || h.done || m.Definition.Version <= h.definition.Version {
		return
	}
	h.definition, h.outdated = m.Definition, true
	s.tellConverge(messages.HostOutdated{Host: h.name})
	if h.pid != nil {
		s.root.Send(h.pid, m)
	}
}

// carried keeps what the next instance has to know.
func (s *supervisor) carried(m messages.Carried) {
	h := s.hosts[m.Host]
	if h == nil {
		return
	}
	news := m.Carry.Definition != h.carry.Definition
	h.carry = m.Carry
	switch {
	case !news:
	case h.held == 0:
		s.noticed(noticed{h.name, m.Carry.Definition}) // no payload has to notice anything yet
	default:
		s.work.After(noticing, noticed{h.name, m.Carry.Definition})
	}
}

func (s *supervisor) noticed(m noticed) {
	if h := s.hosts[m.host]; h != nil && m.version == h.definition.Version {
		h.outdated = false
		s.attach(h)
	}
}

// attach tells the converge actor that what a host says of itself counts, where it does.
func (s *supervisor) attach(h *host) {
	if !h.done && h.held != 0 && !h.outdated {
		s.tellConverge(messages.HostAttached{Host: h.name, Epoch: h.held})
	}
}

// outdated reports whether a member of the group was given a definition that it does not follow yet: convergence that
// was said before that does not count.
func (s *supervisor) outdated() bool {
	for _, h := range s.hosts {
		if h.member && h.outdated {
			return true
		}
	}
	return false
}

func (s *supervisor) join(h *host) {
	h.member = true
	s.tellConverge(messages.JoinGroup{Host: h.name})
}

func (s *supervisor) leave(h *host) {
	h.member = false
	s.tellConverge(messages.LeaveGroup{Host: h.name})
}
