package rollout

import "slices"

// Waves divides hosts: those of canary first, if there are any, and the others in waves of the sizes in serial, of which the last is
// repeated; percentages are of all hosts. The order of the hosts stays within and between the waves of the others. Without serial the
// others are one wave. Names in canary that are no hosts are left out.
func Waves(hosts []string, serial []Amount, canary []string) [][]string {
	first := make(map[string]bool, len(canary))
	for _, name := range canary {
		first[name] = true
	}
	var waves [][]string
	var wave, rest []string
	for _, name := range hosts {
		if first[name] {
			wave = append(wave, name)
		} else {
			rest = append(rest, name)
		}
	}
	if len(wave) > 0 {
		waves = append(waves, wave)
	}
	for i := 0; len(rest) > 0; i++ {
		n := len(rest)
		if len(serial) > 0 {
			n = min(n, serial[min(i, len(serial)-1)].of(len(hosts)))
		}
		waves = append(waves, slices.Clip(rest[:n]))
		rest = rest[n:]
	}
	return waves
}
