package converge

import "slices"

// clock is the pure half of the actor: who is a member, who is quiet, who is attached. A member counts as settled
// when it is quiet and attached: a lease may claim "quiet" for seconds after its host died.
type clock struct {
	members   map[string]uint64 // the epoch of the connection that holds the session; 0: none does
	quiet     map[string]bool   // what was last said, of hosts that are no members too: they may become ones
	revisions map[string]int64  // of the keys in which that was said
	busy      map[string]bool   // who told us directly, not in a key, that it is not quiet
}

func newClock() clock {
	return clock{members: map[string]uint64{}, quiet: map[string]bool{}, revisions: map[string]int64{}, busy: map[string]bool{}}
}

// settledAt reports whether a host is a member that is settled.
func (c *clock) settledAt(host string) bool {
	return c.members[host] != 0 && c.quiet[host] && !c.busy[host]
}

// report notes what a host told directly. That it is quiet counts once its key says so, too; that it isn't counts at
// once, since the key may be written late, or only when that has passed again.
func (c *clock) report(host string, quiet bool) {
	if quiet {
		delete(c.busy, host)
	} else {
		c.busy[host] = true
	}
}

// join makes a host a member; false means that it was one.
func (c *clock) join(host string) bool {
	if _, ok := c.members[host]; ok {
		return false
	}
	c.members[host] = 0
	return true
}

// attach notes which connection holds a member's session; 0 means none.
func (c *clock) attach(host string, epoch uint64) {
	if _, ok := c.members[host]; ok {
		c.members[host] = epoch
	}
}

// say notes what a host says, and in which revision; false means that it is no news.
func (c *clock) say(host string, quiet bool, revision int64) bool {
	was, known := c.quiet[host]
	c.quiet[host], c.revisions[host] = quiet, revision
	return !known || was != quiet
}

func (c *clock) leave(host string) bool {
	_, ok := c.members[host]
	delete(c.members, host)
	return ok
}

// settled reports whether there is a group and all of it is settled.
func (c *clock) settled() bool {
	for host := range c.members {
		if !c.settledAt(host) {
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

// current reports whether what these hosts said is what the etcd has.
func (c *clock) current(hosts []string, revisions map[string]int64) bool {
	for _, host := range hosts {
		if c.revisions[host] != revisions[host] {
			return false
		}
	}
	return true
}
