package live

import "time"

// speedOver is the time that rates are means of.
const speedOver = 10 * time.Second

// sample is how much was done at a time.
type sample struct {
	at    time.Time
	hosts int
	bytes int64
}

// speed is how fast things get done. The zero value knows nothing yet.
type speed struct{ samples []sample }

// note takes a sample, at most a few in a second.
func (s *speed) note(now sample) {
	if n := len(s.samples); n > 0 && now.at.Sub(s.samples[n-1].at) < time.Second/4 {
		return
	}
	s.samples = append(s.samples, now)
	for len(s.samples) > 2 && now.at.Sub(s.samples[1].at) >= speedOver {
		s.samples = s.samples[1:]
	}
}

// perSecond returns hosts and bytes in a second.
func (s *speed) perSecond() (hosts, bytes float64) {
	if len(s.samples) < 2 {
		return 0, 0
	}
	first, last := s.samples[0], s.samples[len(s.samples)-1]
	seconds := last.at.Sub(first.at).Seconds()
	return float64(last.hosts-first.hosts) / seconds, float64(last.bytes-first.bytes) / seconds
}

// eta is how long the rest takes at a rate; ok is false where nobody can tell.
func eta(rest, rate float64) (d time.Duration, ok bool) {
	if rest <= 0 || rate <= 0 || rest/rate > 100*3600 {
		return 0, false
	}
	return time.Duration(rest / rate * float64(time.Second)), true
}
