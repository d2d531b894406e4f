package shim

import (
	"syscall"
	"testing"
)

// TestShutDownSignalsThePayloadFirst: a shutdown signals all processes, in any order. The payload's end is the shutdown's also where it
// came before the shim's own signal; where there is none, somebody wanted just the payload to end.
func TestShutDownSignalsThePayloadFirst(t *testing.T) {
	for name, down := range map[string]bool{"a shutdown": true, "the payload alone": false} {
		t.Run(name, func(t *testing.T) {
			s := script(t, `echo ready; exec sleep 1000`)
			s.write()
			c, w := s.welcome("start", nil)
			c.outputUntil("ready\n")
			shim, payload := int(w.ShimPid), int(w.PayloadPid)
			signals := []struct {
				to  int
				sig syscall.Signal
			}{{shim, syscall.SIGSTOP}, {payload, syscall.SIGTERM}, {shim, syscall.SIGTERM}, {shim, syscall.SIGCONT}}
			if !down {
				signals = signals[1:2]
			}
			for _, k := range signals {
				if err := syscall.Kill(k.to, k.sig); err != nil {
					t.Fatal(err)
				}
			}
			_, _, exit := c.collect(6)
			if exit.Signal != int32(syscall.SIGTERM) || exit.ShutDown != down || (exit.Error != "") != down {
				t.Errorf("got %v", exit)
			}
			if down {
				s.gone(shim)
				c, _ = s.welcome("start", nil)
				if _, _, exit := c.collect(0); !exit.ShutDown {
					t.Errorf("on record is %v", exit)
				}
			}
			c.cleanUp()
		})
	}
}
