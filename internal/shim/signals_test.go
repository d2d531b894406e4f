package shim

import (
	"syscall"
	"testing"
)

// TestPayloadsCanBeInterrupted: a server that was started in the background, by a shell without job control, ignores SIGINT, and so does
// all that it starts. A payload would not end by it.
func TestPayloadsCanBeInterrupted(t *testing.T) {
	s := newSession(t, "sleep", "1000")
	s.via = []string{"/bin/sh", "-c", `trap '' INT QUIT; exec "$0" "$@"`, program}
	s.write()
	c, _ := s.welcome("start", nil)
	c.finish(60_000, 60_000, true)
	if e := c.recv().GetExit(); e.GetSignal() != int32(syscall.SIGINT) {
		t.Errorf("the payload ended by %v", e)
	}
}
