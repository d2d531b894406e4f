package tunnel

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// TestNotStarted holds that a connection that breaks before the tunnel stands is lost, which is no reason to give a host up.
func TestNotStarted(t *testing.T) {
	broken := fault.New(fault.Lost, "keep the connection", "reset by peer")
	for _, tc := range []struct {
		err  error
		want fault.Kind
	}{
		{wire.ErrNoMarker, fault.Environment},
		{errors.New("noise"), fault.Environment},
		{fmt.Errorf("%w: %w", wire.ErrNoMarker, broken), fault.Lost},
	} {
		if got := fault.KindOf(notStarted(tc.err, "said")); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.err, got, tc.want)
		}
	}
}
