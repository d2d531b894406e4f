package leaks

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { VerifyTestMain(m) }

// What ends later than goleak looks is no leak, and what does not end is one.
func TestFind(t *testing.T) {
	late := time.After(2 * time.Second)
	go func() { <-late }()
	current := goleak.IgnoreTopFunction("testing.(*T).Run")
	if err := find(time.Minute, []goleak.Option{current}); err != nil {
		t.Error(err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() { <-stop }()
	if err := find(time.Millisecond, []goleak.Option{current}); err == nil {
		t.Error("a goroutine that goes on is not seen")
	}
}
