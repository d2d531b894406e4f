package shim

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// TestTheShutdownsSignalIsWaitedFor has the shim's own signal come later, or never, and an end that needs no waiting.
func TestTheShutdownsSignalIsWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		exit  *wire.Exit
		asked bool // by an initiator
		takes time.Duration
	}{
		"it ended by a signal of its own": {&wire.Exit{Code: -1, Signal: int32(syscall.SIGSEGV)}, false, 0},
		"an exit status":                  {&wire.Exit{}, false, 0},
		"an initiator asked for it":       {&wire.Exit{Code: -1, Signal: int32(syscall.SIGTERM)}, true, 0},
		"nobody of ours did":              {&wire.Exit{Code: -1, Signal: int32(syscall.SIGTERM)}, false, alsoToUs},
	} {
		for _, down := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				out, err := openLog(dir, 0)
				if err != nil {
					t.Fatal(err)
				}
				s := &server{dir: dir, log: &logger{w: t.Output()}, out: out, exited: make(chan struct{}), ending: make(chan struct{})}
				if c.asked {
					s.terminateBy = time.Now()
				}
				begun := time.Now()
				go s.setExit(c.exit)
				synctest.Wait()
				if down {
					s.mu.Lock()
					s.terminated = true
					close(s.ending)
					s.mu.Unlock()
				}
				<-s.exited
				took, want := time.Since(begun), c.takes
				if down {
					want = 0
				}
				if took != want || s.exitRecord().GetShutDown() != (down && c.takes > 0) {
					t.Errorf("%s, shut down %v: %v after %v", name, down, s.exitRecord(), took)
				}
				c.exit.Error, c.exit.ShutDown = "", false
			})
		}
	}
}

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
