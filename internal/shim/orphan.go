package shim

import "time"

const (
	// attachedFor is how long after its last frame an initiator counts as attached. Initiators ping more often.
	attachedFor = 30 * time.Second
	// orphanTick is how often it is looked whether somebody is attached, less for short timeouts.
	orphanTick = 15 * time.Second
	// lateTick is how late a look is where this process, or the machine, was stopped meanwhile.
	lateTick = time.Second
	// orphanGrace is what initiators get after that to come back, but never more than the timeout itself.
	orphanGrace = attachedFor + time.Minute
)

// reading is what two clocks say that no one sets. Only boot goes on while the machine is suspended.
type reading struct{ awake, boot time.Duration }

// orphanClock counts the time in which nobody was attached although somebody could have been: what passes while this
// process is stopped, or the machine suspended, doesn't count. The wall clock has no part in it.
type orphanClock struct {
	timeout time.Duration
	last    reading
	alone   time.Duration // so far
}

// tick is how long to wait until the next look.
func (c *orphanClock) tick() time.Duration {
	return min(orphanTick, max(c.timeout/4, 20*time.Millisecond))
}

// look is told that nobody has been attached for idle, 0 where somebody is, and returns whether the session is an orphan.
func (c *orphanClock) look(now reading, idle time.Duration) bool {
	passed, suspended := now.awake-c.last.awake, (now.boot-now.awake)-(c.last.boot-c.last.awake)
	c.last = now
	c.alone = min(c.alone+min(passed, c.tick()+lateTick), max(idle, 0))
	if passed > c.tick()+lateTick || suspended > lateTick {
		c.alone = max(0, min(c.alone, c.timeout-orphanGrace))
	}
	return c.alone >= c.timeout
}

// idle returns for how long nobody has been attached; less than 0 while somebody is.
func (s *server) idle() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		return time.Since(s.lastSeen.Add(attachedFor))
	}
	return time.Since(s.detached)
}

// watchOrphan ends and removes the session when no initiator has been attached for the orphan timeout.
func (s *server) watchOrphan(clock func() reading) {
	if s.spec.OrphanTimeout <= 0 {
		return
	}
	c := orphanClock{timeout: s.spec.OrphanTimeout, last: clock()}
	tick := time.NewTicker(c.tick())
	defer tick.Stop()
	for !c.look(clock(), s.idle()) {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
	}
	s.log.printf("no initiator was attached for %v: the session ends", s.spec.OrphanTimeout)
	s.mu.Lock()
	s.stopFinishing()
	s.mu.Unlock()
	s.endPayload(noDeadline, orphanStages)
	s.cleanUp()
}
