package shim

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// noDeadline is for work that has to be done whoever is there; its stages bound it.
var noDeadline = context.Background()

// attachedFor is how long after its last frame an initiator counts as attached. Initiators ping more often.
const attachedFor = 30 * time.Second

// What a payload gets when nobody asked for anything else.
var (
	orphanStages    = []stage{{syscall.SIGINT, 10 * time.Second}, {syscall.SIGTERM, 5 * time.Second}, {syscall.SIGKILL, killWait}}
	terminateStages = []stage{{syscall.SIGTERM, 10 * time.Second}, {syscall.SIGKILL, killWait}}
)

// server is the daemon of one session.
type server struct {
	dir     string
	spec    wire.Spec
	log     *logger
	out     *outputLog
	store   *recordStore
	control *net.UnixListener
	ep      *endpoint // nil where nothing was started by this process
	payload *payload  // nil where nothing runs
	exited  chan struct{}
	status  status // of a payload with a status file

	mu           sync.Mutex
	exit         *wire.Exit  // set once, then never changed
	current      *attachment // the one attached initiator
	lastSeen     time.Time   // its last frame
	detached     time.Time   // when the last one went
	firstWelcome bool        // nobody was told yet that the payload was started
	stopFinish   context.CancelFunc
	terminateBy  time.Time // when a payload that is to finish gets SIGTERM; zero: nobody asked
	killBy       time.Time // and when SIGKILL
	leaving      bool      // clean up once the payload has ended

	cleanUpOnce sync.Once
	quitOnce    sync.Once
	quit        chan struct{}
}

// watchSignals catches what would end the daemon. They are caught, not ignored: a payload would inherit that.
func watchSignals() <-chan os.Signal {
	drop := make(chan os.Signal, 1)
	signal.Notify(drop, syscall.SIGHUP, syscall.SIGPIPE)
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	return terminate
}

// run serves until the session is cleaned up or the daemon is terminated.
func (s *server) run(terminate <-chan os.Signal) {
	go s.accept()
	go s.watchOrphan()
	select {
	case <-s.quit:
		return
	case <-terminate:
	}
	// The session stays, for a post-mortem.
	s.mu.Lock()
	s.stopFinishing()
	s.mu.Unlock()
	s.endPayload(noDeadline, terminateStages)
	_ = s.control.Close() // its name is removed next
	for _, name := range []string{controlSocket, endpointSocket} {
		if err := remove(filepath.Join(s.dir, name)); err != nil {
			s.log.printf("%v", err)
		}
	}
}

// setExit records how the payload ended: on disk first, then for everybody.
func (s *server) setExit(e *wire.Exit) {
	if err := saveExit(s.dir, e); err != nil {
		s.log.printf("write %s: %v", exitFile, err) // this process still knows it
	}
	s.mu.Lock()
	s.exit = e
	s.mu.Unlock()
	close(s.exited)
	s.out.wake()
}

func (s *server) exitRecord() *wire.Exit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exit
}

// endPayload returns when the payload's group has gone through the stages and its exit is recorded, or ctx has ended.
func (s *server) endPayload(ctx context.Context, stages []stage) {
	if s.payload == nil {
		return
	}
	if err := s.payload.end(ctx, stages...); err != nil && ctx.Err() == nil {
		s.log.printf("end the payload: %v", err)
		return // a process that SIGKILL doesn't end would keep us for ever
	}
	select {
	case <-s.exited:
	case <-ctx.Done():
	}
}

// finish ends the payload in the background. A later Finish replaces an earlier one, except that it never gives the
// payload more time, and that cleaning up stays asked for.
func (s *server) finish(f *wire.Finish) {
	ctx, cancel := context.WithCancel(noDeadline)
	now := time.Now()
	s.mu.Lock()
	s.stopFinishing()
	s.stopFinish = cancel
	s.leaving = s.leaving || f.CleanUp
	interrupt := time.Duration(f.IntMs) * time.Millisecond
	s.terminateBy = earlier(s.terminateBy, now.Add(interrupt))
	s.killBy = earlier(s.killBy, now.Add(interrupt+time.Duration(f.TermMs)*time.Millisecond))
	interrupt = max(s.terminateBy.Sub(now), 0)
	terminate := max(s.killBy.Sub(now), 0) - interrupt
	s.mu.Unlock()
	go func() {
		s.endPayload(ctx, []stage{{syscall.SIGINT, interrupt}, {syscall.SIGTERM, terminate}, {syscall.SIGKILL, killWait}})
		s.mu.Lock()
		leaving := s.leaving && ctx.Err() == nil
		a := s.current
		s.mu.Unlock()
		if !leaving {
			return
		}
		if a != nil {
			a.waitTold()
		}
		s.cleanUp()
	}()
}

// earlier returns the first of two times, the zero time being none.
func earlier(a, b time.Time) time.Time {
	if !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

func (s *server) stopFinishing() {
	if s.stopFinish != nil {
		s.stopFinish()
		s.stopFinish = nil
	}
}

// cleanUp removes the session and whatever is left of the payload's group, tells the attached initiator, and ends
// the daemon.
func (s *server) cleanUp() {
	s.cleanUpOnce.Do(func() {
		var errs []error
		if s.payload != nil {
			errs = append(errs, s.payload.endRest(noDeadline))
		}
		_ = s.control.Close() // no more attaches; the name goes with the directory
		if s.ep != nil {
			s.ep.close()
		}
		s.out.close()
		errs = append(errs, removeSession(s.dir, s.spec))
		answer := &wire.CleanedUp{}
		if err := errors.Join(errs...); err != nil {
			s.log.printf("clean up: %v", err)
			answer.Error = err.Error()
		}
		s.mu.Lock()
		a := s.current
		s.mu.Unlock()
		if a != nil {
			a.farewell(&wire.Frame{Kind: &wire.Frame_CleanedUp{CleanedUp: answer}})
		}
	})
	s.quitOnce.Do(func() { close(s.quit) })
}

// attachedUntil returns when somebody was attached the last time; a time in the future while somebody is.
func (s *server) attachedUntil() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		return s.lastSeen.Add(attachedFor)
	}
	return s.detached
}

// watchOrphan ends and removes the session when no initiator has been attached for the orphan timeout.
func (s *server) watchOrphan() {
	if s.spec.OrphanTimeout <= 0 {
		return
	}
	for {
		left := time.Until(s.attachedUntil().Add(s.spec.OrphanTimeout))
		if left <= 0 {
			break
		}
		select {
		case <-s.quit:
			return
		case <-time.After(left):
		}
	}
	s.log.printf("no initiator was attached for %v: the session ends", s.spec.OrphanTimeout)
	s.mu.Lock()
	s.stopFinishing()
	s.mu.Unlock()
	s.endPayload(noDeadline, orphanStages)
	s.cleanUp()
}
