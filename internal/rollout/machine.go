package rollout

import (
	"fmt"
	"time"
)

// Options are what a rollout is to be like. Nil bounds bound nothing.
type Options struct {
	Waves  [][]string // see Waves; each host once
	Canary bool       // the first wave tolerates nothing where its bounds are nil
	Rest   time.Duration
	Ask    bool // whether each next wave has to be asked for

	Failures, Unreachable           *Amount // of the hosts of each wave
	TotalFailures, TotalUnreachable *Amount // of all hosts

	// What an earlier initiator saw: how hosts ended, and which others it began.
	Ended map[string]Outcome
	Begun []string
}

// Outcome is how a host ended, as far as it matters here.
type Outcome uint8

const (
	// Succeeded: it went well.
	Succeeded Outcome = iota + 1
	// Failed: it did not, and was reached.
	Failed
	// Unreachable: it could not be reached.
	Unreachable
	// Left: it was left out or stopped, which says nothing about what is rolled out.
	Left
)

// Tally counts how hosts ended.
type Tally struct{ Hosts, Succeeded, Failed, Unreachable, Left int }

func (t *Tally) count(o Outcome) {
	switch o {
	case Succeeded:
		t.Succeeded++
	case Failed:
		t.Failed++
	case Unreachable:
		t.Unreachable++
	default:
		t.Left++
	}
}

func (t Tally) ended() int { return t.Succeeded + t.Failed + t.Unreachable + t.Left }

// State is where a rollout is.
type State uint8

const (
	// New: it has not started.
	New State = iota
	// Going: hosts of the current wave, and of those before, may begin.
	Going
	// Resting: the wave is over, and the next one waits for a time.
	Resting
	// Asking: the next wave waits for somebody who says that it may begin.
	Asking
	// Over: the last wave is.
	Over
	// Exceeded: too many failed. Nobody begins any more.
	Exceeded
	// Stopped: the run ends, and with it everything that was planned.
	Stopped
)

var stateNames = [...]string{"New", "Going", "Resting", "Asking", "Over", "Exceeded", "Stopped"}

// String names the state.
func (s State) String() string { return stateNames[s] }

// Event is something that a rollout is told.
type Event interface{ event() }

type (
	// Start is the first event.
	Start struct{}
	// Ended tells that a host did.
	Ended struct {
		Host    string
		Outcome Outcome
	}
	// Added brings a host into the last wave.
	Added struct{ Host string }
	// Rested tells that the time after a wave is over.
	Rested struct{ Wave int }
	// WentOn tells that somebody wants the next wave to begin, if one waits.
	WentOn struct{}
	// Stop tells that the run ends.
	Stop struct{}
)

func (Start) event()  {}
func (Ended) event()  {}
func (Added) event()  {}
func (Rested) event() {}
func (WentOn) event() {}
func (Stop) event()   {}

// Effect is something that a rollout wants done. Waves count from 0.
type Effect interface{ effect() }

type (
	// WaveStarts: its hosts may begin.
	WaveStarts struct{ Wave int }
	// WaveEnds: all its hosts are done.
	WaveEnds struct {
		Wave  int
		Tally Tally
	}
	// Rest wants Rested after a time.
	Rest struct {
		Wave int
		For  time.Duration
	}
	// Ask wants WentOn when somebody has looked at the wave that is over.
	Ask struct{ Wave int }
	// Exceed ends it all.
	Exceed struct{ Reason string }
)

func (WaveStarts) effect() {}
func (WaveEnds) effect()   {}
func (Rest) effect()       {}
func (Ask) effect()        {}
func (Exceed) effect()     {}

// Machine is a rollout: state × event → state, effects.
type Machine struct {
	options Options
	state   State
	wave    int            // the current one
	waveOf  map[string]int // of each host
	ended   map[string]bool
	tallies []Tally // of the waves
	total   Tally
}

// NewMachine plans a rollout. An empty one is over when it starts.
func NewMachine(o Options) *Machine {
	m := &Machine{options: o, waveOf: map[string]int{}, ended: map[string]bool{}, tallies: make([]Tally, len(o.Waves))}
	for i, wave := range o.Waves {
		for _, host := range wave {
			m.waveOf[host] = i
		}
		m.tallies[i].Hosts = len(wave)
		m.total.Hosts += len(wave)
	}
	for host, outcome := range o.Ended {
		if wave, planned := m.waveOf[host]; planned {
			m.count(host, outcome)
			if outcome != Left { // else it may never have begun
				m.wave = max(m.wave, wave)
			}
		}
	}
	for _, host := range o.Begun {
		m.wave = max(m.wave, m.waveOf[host])
	}
	return m
}

// State returns where the rollout is.
func (m *Machine) State() State { return m.state }

// Wave returns the current wave, from 0, and how many there are.
func (m *Machine) Wave() (current, waves int) { return m.wave, len(m.tallies) }

// Hosts returns the hosts that were planned for a wave.
func (m *Machine) Hosts(wave int) []string { return m.options.Waves[wave] }

// WaveOf returns the wave of a host, from 0.
func (m *Machine) WaveOf(host string) int { return m.waveOf[host] }

// Open returns how many waves, from the first on, have hosts that may begin.
func (m *Machine) Open() int {
	switch m.state {
	case New, Exceeded:
		return 0
	case Over, Stopped: // there is nothing to wait for
		return max(len(m.tallies), 1)
	}
	return m.wave + 1
}

// Step goes on with what happened.
func (m *Machine) Step(event Event) []Effect {
	switch e := event.(type) {
	case Start:
		return m.start()
	case Ended:
		return m.end(e)
	case Added:
		m.add(e.Host)
	case Rested:
		if m.state == Resting && e.Wave == m.wave {
			return m.afterRest()
		}
	case WentOn:
		if m.state == Resting || m.state == Asking {
			return m.next()
		}
	case Stop:
		m.state = Stopped
	}
	return nil
}

func (m *Machine) start() []Effect {
	if m.state != New {
		return nil
	}
	if len(m.tallies) == 0 {
		m.state = Over
		return nil
	}
	m.state = Going
	for wave := range m.tallies {
		if why := m.exceeded(wave); why != "" {
			return m.exceed(why)
		}
	}
	if m.left() == 0 { // the earlier initiator died between two waves
		return m.afterWave()
	}
	return []Effect{WaveStarts{m.wave}}
}

func (m *Machine) add(host string) {
	if len(m.tallies) == 0 || m.state == Exceeded {
		return
	}
	if _, planned := m.waveOf[host]; planned {
		return
	}
	last := len(m.tallies) - 1
	m.waveOf[host] = last
	m.tallies[last].Hosts++
	m.total.Hosts++
}

func (m *Machine) count(host string, o Outcome) {
	m.ended[host] = true
	m.tallies[m.waveOf[host]].count(o)
	m.total.count(o)
}

// left is how many hosts that may begin are not done.
func (m *Machine) left() (n int) {
	for _, t := range m.tallies[:m.wave+1] {
		n += t.Hosts - t.ended()
	}
	return n
}

func (m *Machine) end(e Ended) []Effect {
	wave, planned := m.waveOf[e.Host]
	if !planned || m.ended[e.Host] {
		return nil
	}
	m.count(e.Host, e.Outcome)
	switch m.state {
	case New, Over, Stopped:
		return nil
	case Exceeded:
		return m.lastWave(wave)
	case Going, Resting, Asking:
	}
	if why := m.exceeded(wave); why != "" {
		return append(m.exceed(why), m.lastWave(wave)...)
	}
	if m.state != Going || m.left() > 0 {
		return nil
	}
	return append([]Effect{m.waveEnds()}, m.afterWave()...)
}

func (m *Machine) waveEnds() WaveEnds { return WaveEnds{m.wave, m.tallies[m.wave]} }

// lastWave ends the wave in which too many failed, when the last of its hosts is done.
func (m *Machine) lastWave(ofHost int) []Effect {
	if t := m.tallies[m.wave]; ofHost != m.wave || t.ended() < t.Hosts {
		return nil
	}
	return []Effect{m.waveEnds()}
}

// afterWave decides what follows a wave that is over.
func (m *Machine) afterWave() []Effect {
	t := m.tallies[m.wave]
	switch {
	case m.wave == len(m.tallies)-1, m.total.ended() == m.total.Hosts: // those of later waves were left out
		m.state = Over
		return nil
	case t.Succeeded == 0 && t.Failed+t.Unreachable > 0:
		return m.exceed(fmt.Sprintf("no host of wave %d succeeded", m.wave+1))
	case m.options.Rest > 0:
		m.state = Resting
		return []Effect{Rest{m.wave, m.options.Rest}}
	}
	return m.afterRest()
}

func (m *Machine) afterRest() []Effect {
	if m.options.Ask {
		m.state = Asking
		return []Effect{Ask{m.wave}}
	}
	return m.next()
}

func (m *Machine) next() []Effect {
	m.state = Going
	m.wave++
	effects := []Effect{WaveStarts{m.wave}}
	if t := m.tallies[m.wave]; t.ended() == t.Hosts { // all were left out before
		effects = append(effects, WaveEnds{m.wave, t})
		effects = append(effects, m.afterWave()...)
	}
	return effects
}

func (m *Machine) exceed(why string) []Effect {
	m.state = Exceeded
	return []Effect{Exceed{why}}
}

// none is the bound of a first wave that is there to be careful.
var none = Amount{}

// exceeded says which bound is exceeded by what is known of a wave, and of all; "" for none.
func (m *Machine) exceeded(wave int) string {
	o := m.options
	failures, unreachable := o.Failures, o.Unreachable
	if wave == 0 && o.Canary {
		if failures == nil {
			failures = &none
		}
		if unreachable == nil {
			unreachable = &none
		}
	}
	t := m.tallies[wave]
	of := fmt.Sprintf("%d hosts", t.Hosts)
	if len(m.tallies) > 1 {
		of += fmt.Sprintf(" of wave %d", wave+1)
	}
	for _, b := range []struct {
		bound *Amount
		count int
		total int
		what  string
		of    string
	}{
		{failures, t.Failed, t.Hosts, "failed", of},
		{unreachable, t.Unreachable, t.Hosts, "were unreachable", of},
		{o.TotalFailures, m.total.Failed, m.total.Hosts, "failed", fmt.Sprintf("all %d hosts", m.total.Hosts)},
		{o.TotalUnreachable, m.total.Unreachable, m.total.Hosts, "were unreachable", fmt.Sprintf("all %d hosts", m.total.Hosts)},
	} {
		if b.bound != nil && b.bound.exceeded(b.count, b.total) {
			return fmt.Sprintf("%d of %s %s, more than %s", b.count, b.of, b.what, b.bound)
		}
	}
	return ""
}
