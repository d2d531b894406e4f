package console

import (
	"maps"
	"math"
	"slices"
	"time"
)

// timingPrecision is how far apart two durations are that timing keeps apart: one hundredth.
const timingPrecision = 1.01

// timing keeps how long something took, as often as it is done, in bounded memory: durations that differ by less than
// a hundredth are counted together. The extremes are exact. The zero value is empty.
type timing struct {
	count    int
	least    time.Duration
	most     time.Duration
	slowest  string      // whose that was
	counters map[int]int // by logarithm
}

func (t *timing) add(host string, took time.Duration) {
	took = max(took, 0)
	if t.count == 0 || took < t.least {
		t.least = took
	}
	if t.count == 0 || took > t.most {
		t.most, t.slowest = took, host
	}
	t.count++
	if t.counters == nil {
		t.counters = map[int]int{}
	}
	t.counters[int(math.Log(float64(took)+1)/math.Log(timingPrecision))]++
}

// quantile returns the duration that the fraction q of all did not exceed.
func (t *timing) quantile(q float64) time.Duration {
	wanted := int(math.Ceil(q * float64(t.count)))
	seen := 0
	for _, bucket := range slices.Sorted(maps.Keys(t.counters)) {
		if seen += t.counters[bucket]; seen >= wanted {
			middle := time.Duration(math.Pow(timingPrecision, float64(bucket)+0.5)) - 1
			return min(max(middle, t.least), t.most)
		}
	}
	return t.most
}
