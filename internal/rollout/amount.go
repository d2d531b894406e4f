// Package rollout decides in which order the hosts of a run may begin: in waves, the next one when the last one is over and
// went well enough. It has neither a clock nor actors; who carries out what it decides is the supervisor.
package rollout

import (
	"fmt"
	"strconv"
	"strings"
)

// Amount is a number of hosts, or a percentage of some.
type Amount struct {
	N       int
	Percent bool
}

// ParseAmount reads "20" or "10%".
func ParseAmount(text string) (Amount, error) {
	digits, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	switch {
	case err != nil || n < 0 || digits[0] == '+' || digits[0] == '-':
		return Amount{}, fmt.Errorf("%q is neither a number of hosts (20) nor a percentage (10%%)", text)
	case percent && n > 100:
		return Amount{}, fmt.Errorf("%q is more than all hosts", text)
	}
	return Amount{n, percent}, nil
}

// ParseAmounts reads amounts with commas between them. Each is of at least one host.
func ParseAmounts(text string) ([]Amount, error) {
	var all []Amount
	for part := range strings.SplitSeq(text, ",") {
		a, err := ParseAmount(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if a.N == 0 {
			return nil, fmt.Errorf("%q: there are no waves of 0 hosts", text)
		}
		all = append(all, a)
	}
	return all, nil
}

// String is what ParseAmount reads.
func (a Amount) String() string {
	if a.Percent {
		return strconv.Itoa(a.N) + "%"
	}
	return strconv.Itoa(a.N)
}

// MarshalText makes amounts readable in what is kept of a run.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (a *Amount) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAmount(string(text))
	return err
}

// of is how many of so many hosts it is: percentages are rounded down, but one host there always is.
func (a Amount) of(total int) int {
	n := a.N
	if a.Percent {
		n = total * a.N / 100
	}
	return max(n, 1)
}

// exceeded reports whether so many of the hosts are more than the amount. What just reaches it is not.
func (a Amount) exceeded(count, total int) bool {
	if a.Percent {
		return count*100 > a.N*total
	}
	return count > a.N
}
