package shim

import (
	"math"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// machine is the two clocks of a simulated machine, and a session on it that nobody has been attached to since detached.
type machine struct {
	clock    orphanClock
	now      reading
	detached time.Duration // by the waking clock
	attached bool
}

func newMachine(timeout time.Duration) *machine {
	return &machine{clock: orphanClock{timeout: timeout}}
}

func (m *machine) look() bool {
	idle := m.now.awake - m.detached
	if m.attached {
		idle = -attachedFor
	}
	return m.clock.look(m.now, idle)
}

// run lets time pass with a look at every tick, and returns after how long the session was an orphan; ok is false where it
// is none after d.
func (m *machine) run(d time.Duration) (took time.Duration, ok bool) {
	for took = 0; took < d; {
		step := min(m.clock.tick(), d-took)
		m.now.awake += step
		m.now.boot += step
		took += step
		if m.look() {
			return took, true
		}
	}
	return took, false
}

// stop is SIGSTOP and SIGCONT, or a freezer: the clocks go on.
func (m *machine) stop(d time.Duration) {
	m.now.awake += d
	m.now.boot += d
}

// suspend is the machine's own sleep.
func (m *machine) suspend(d time.Duration) { m.now.boot += d }

func (m *machine) attach(yes bool) {
	m.attached = yes
	m.detached = m.now.awake
}

func TestOrphanClock(t *testing.T) {
	const timeout = 30 * time.Minute
	for name, tc := range map[string]struct {
		before     func(*machine)
		least, max time.Duration // how long it takes from there
	}{
		"nobody came back":       {func(*machine) {}, timeout, timeout + orphanTick},
		"half of it has gone by": {func(m *machine) { m.run(timeout / 2) }, timeout / 2, timeout/2 + orphanTick},
		"somebody was there":     {func(m *machine) { m.run(timeout / 2); m.attach(true); m.run(10 * timeout); m.attach(false) }, timeout, timeout + orphanTick},
		"between two looks":      {func(m *machine) { m.run(timeout - time.Minute); m.attach(true); m.attach(false) }, timeout, timeout + orphanTick},
		"stopped for a day":      {func(m *machine) { m.stop(24 * time.Hour) }, timeout - orphanTick - lateTick, timeout + orphanTick},
		"suspended for a day":    {func(m *machine) { m.suspend(24 * time.Hour) }, timeout, timeout + orphanTick},
		"stopped near the end":   {func(m *machine) { m.run(timeout - 10*time.Second); m.stop(time.Hour) }, orphanGrace, orphanGrace + orphanTick},
		"suspended near the end": {func(m *machine) { m.run(timeout - 10*time.Second); m.suspend(time.Hour) }, orphanGrace, orphanGrace + orphanTick},
		"suspended near, and then": {func(m *machine) {
			m.run(timeout - 10*time.Second)
			m.suspend(time.Hour)
			m.attach(true)
			m.run(time.Hour)
			m.attach(false)
		}, timeout, timeout + orphanTick},
		"a slow machine": {func(m *machine) { m.run(timeout - time.Minute); m.stop(lateTick / 2) }, 59 * time.Second, time.Minute},
	} {
		m := newMachine(timeout)
		tc.before(m)
		if took, ok := m.run(2 * timeout); !ok || took < tc.least || took > tc.max {
			t.Errorf("%s: an orphan %v after %v, want %v to %v", name, ok, took, tc.least, tc.max)
		}
	}
}

// Whatever happens, a session is never an orphan before nobody was attached for the whole timeout, nor right after a stop;
// and it is one in the end.
func TestOrphanClockGivesInitiatorsTheirTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(time.Duration(rapid.Int64Range(int64(100*time.Millisecond), int64(3*time.Hour)).Draw(t, "timeout")))
		woke := time.Duration(math.MinInt64 / 2)
		duration := rapid.Int64Range(0, int64(2*m.clock.timeout))
		t.Repeat(map[string]func(*rapid.T){
			"run": func(t *rapid.T) {
				if m.attached {
					m.run(time.Duration(duration.Draw(t, "d")))
					return
				}
				_, orphan := m.run(time.Duration(duration.Draw(t, "d")))
				if !orphan {
					return
				}
				if alone := m.now.awake - m.detached; alone < m.clock.timeout {
					t.Fatalf("an orphan after %v of %v", alone, m.clock.timeout)
				}
				if since := m.now.awake - woke; since < min(m.clock.timeout, orphanGrace)-m.clock.tick()-lateTick {
					t.Fatalf("an orphan %v after it woke up", since)
				}
				m.attach(true) // begin anew
			},
			"attach": func(*rapid.T) { m.attach(true) },
			"detach": func(*rapid.T) { m.attach(false) },
			"stop": func(t *rapid.T) {
				d := time.Duration(duration.Draw(t, "d"))
				m.stop(d)
				if d > m.clock.tick()+lateTick {
					woke = m.now.awake
				}
			},
			"suspend": func(t *rapid.T) {
				d := time.Duration(duration.Draw(t, "d"))
				m.suspend(d)
				if d > lateTick {
					woke = m.now.awake
				}
			},
		})
		m.attach(false)
		m.look()
		if took, ok := m.run(2*m.clock.timeout + time.Minute); !ok {
			t.Fatalf("no orphan after %v", took)
		}
	})
}

// TestOrphanTimeout: never, for a timeout that is not positive and while somebody is attached.
func TestOrphanTimeout(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout  time.Duration
		attached bool
		want     time.Duration // -1: never
	}{
		"30 minutes":       {30 * time.Minute, false, 30 * time.Minute},
		"a week":           {7 * 24 * time.Hour, false, 7 * 24 * time.Hour},
		"never":            {-1, false, -1},
		"nothing said":     {0, false, -1},
		"somebody's there": {30 * time.Minute, true, -1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{
					dir: t.TempDir(), spec: wire.Spec{OrphanTimeout: tc.timeout}, log: &logger{w: t.Output()},
					quit: make(chan struct{}), exited: make(chan struct{}), detached: time.Now(), lastSeen: time.Now(),
				}
				if tc.attached {
					s.current = &attachment{}
				}
				s.cleanUpOnce.Do(func() {}) // there is nothing to clean up
				began := time.Now()
				go s.watchOrphan(func() reading { return reading{time.Since(began), time.Since(began)} })
				tick := time.NewTicker(10 * time.Second) // pings
				defer tick.Stop()
				for {
					select {
					case <-s.quit:
						if took := time.Since(began); tc.want < 0 || took < tc.want || took > tc.want+orphanTick {
							t.Errorf("an orphan after %v", took)
						}
						return
					case <-tick.C:
						s.mu.Lock()
						s.lastSeen = time.Now()
						s.mu.Unlock()
					}
					if time.Since(began) > 8*24*time.Hour {
						if tc.want >= 0 {
							t.Error("no orphan after 8 days")
						}
						close(s.quit)
						return
					}
				}
			})
		})
	}
}

// orphanTimeout is that of real sessions: so long may a busy machine take to come to the first attach, and to the next one.
const orphanTimeout = 10 * time.Second

// TestStoppedShimIsNoOrphanAtOnce stops the real process for longer than its timeout: whoever comes back then finds it.
func TestStoppedShimIsNoOrphanAtOnce(t *testing.T) {
	t.Parallel() // it takes its time
	s := newSession(t, "sleep", "1000")
	s.spec.OrphanTimeout = orphanTimeout
	s.write()
	c, w := s.welcome("start", nil)
	c.kill()
	shim, err := os.FindProcess(int(w.ShimPid))
	if err != nil {
		t.Fatal(err)
	}
	if err := shim.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	eventually(t, "a stop of more than the timeout", func() bool { return time.Since(stopped) > orphanTimeout*5/4 })
	if err := shim.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	woke := time.Now()
	c, again := s.welcome("attach", nil)
	if again.PayloadPid != w.PayloadPid || again.Exit != nil {
		t.Errorf("welcome %v", again)
	}
	c.kill()
	s.gone(int(w.ShimPid))
	if took := time.Since(woke); took < s.spec.OrphanTimeout {
		t.Errorf("it was an orphan %v after it woke up", took)
	}
}
