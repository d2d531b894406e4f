package converge

import "slices"

// clock is the pure half of the actor: who is a member, who is quiet, who is attached. A member counts as settled
// when it is quiet and attached: a lease may claim "quiet" for seconds after its host died.
type clock struct {
	members map[string]*member
}

type member struct {
	quiet bool
	epoch uint64 // of the connection that holds the session; 0: none does
}

func (m *member) settled() bool { return m.quiet && m.epoch != 0 }

// at returns a host's entry and whether it is a member. What is known of a host that is no member is not kept.
func (c *clock) at(host string) (*member, bool) {
	m, ok := c.members[host]
	return m, ok
}

func (c *clock) join(host string) bool {
	if _, ok := c.members[host]; ok {
		return false
	}
	c.members[host] = &member{}
	return true
}

func (c *clock) leave(host string) bool {
	_, ok := c.members[host]
	delete(c.members, host)
	return ok
}

// settled reports whether there is a group and all of it is settled.
func (c *clock) settled() bool {
	for _, m := range c.members {
		if !m.settled() {
			return false
		}
	}
	return len(c.members) > 0
}

// hosts returns the members' names in order.
func (c *clock) hosts() []string {
	names := make([]string, 0, len(c.members))
	for name := range c.members {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
