package shim

import (
	"errors"
	"fmt"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

const (
	firstDelay = time.Second
	maxDelay   = time.Minute
	// stableAfter is how long a payload has to run to count as well: what went wrong before is forgotten then.
	stableAfter = time.Minute
)

// backoff decides whether and when a payload that ended is started again. The zero value never does.
type backoff struct {
	wire.Restart
	inRow int           // restarts since the payload was well
	delay time.Duration // before the next one; 0: the first
}

func newBackoff(r wire.Restart) backoff {
	if r.First == 0 {
		r.First = firstDelay
	}
	if r.Max == 0 {
		r.Max = maxDelay
	}
	r.Max = max(r.First, r.Max)
	return backoff{Restart: r}
}

// next takes the end of a run that lasted so long, and returns how long to wait before the next one, ok = false where there
// is to be none.
func (b *backoff) next(exit *wire.Exit, ran time.Duration) (delay time.Duration, ok bool) {
	switch {
	case b.Policy == wire.RestartAlways:
	case b.Policy == wire.RestartOnFailure && failed(exit):
	default:
		return 0, false
	}
	if ran >= stableAfter {
		b.inRow, b.delay = 0, 0
	}
	if b.Limit > 0 && b.inRow >= b.Limit {
		return 0, false
	}
	b.inRow++
	delay = max(b.delay, b.First)
	b.delay = min(2*delay, b.Max)
	return delay, true
}

func failed(e *wire.Exit) bool { return e.Code != 0 || e.Signal != 0 || e.Error != "" }

func checkRestart(r wire.Restart) error {
	switch r.Policy {
	case "", wire.RestartNever, wire.RestartOnFailure, wire.RestartAlways:
	default:
		return fmt.Errorf("restart policy %q is not %q, %q or %q", r.Policy, wire.RestartNever, wire.RestartOnFailure, wire.RestartAlways)
	}
	if r.First < 0 || r.Max < 0 || r.Limit < 0 {
		return errors.New("delays and limit of restarts are not negative")
	}
	return nil
}
