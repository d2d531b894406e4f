package shim

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// noDeadline is for work that has to be done whoever is there; its stages bound it.
var noDeadline = context.Background()

// What a payload gets when nobody asked for anything else.
var (
	orphanStages    = []stage{{syscall.SIGINT, 10 * time.Second}, {syscall.SIGTERM, 5 * time.Second}, {syscall.SIGKILL, killWait}}
	terminateStages = []stage{{syscall.SIGTERM, 10 * time.Second}, {syscall.SIGKILL, killWait}}
)

// server is the daemon of one session.
type server struct {
	dir        string
	spec       wire.Spec
	log        *logger
	out        *outputLog
	store      *recordStore
	control    *net.UnixListener
	ep         *endpoint // nil where nothing was started by this process
	keeper     *keeper   // nil where nothing was started by this process
	reaper     reaper
	recordLate atomic.Bool // somebody tries to write the record again
	warnings   []string    // what initiators are to know
	exited     chan struct{}
	ending     chan struct{} // closed with terminated
	status     status        // of a payload with a status file

	mu           sync.Mutex
	exit         *wire.Exit      // set once, then never changed
	restart      *wire.Restarted // the last one; replaced, never changed
	terminated   bool            // something ends the daemon that is no initiator
	current      *attachment     // the one attached initiator
	lastSeen     time.Time       // its last frame
	detached     time.Time       // when the last one went
	firstWelcome bool            // nobody was told yet that the payload was started
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
	// Whoever was started in the background by a shell without job control ignores these, a server with all its logins perhaps.
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(drop, s)
		}
	}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	return terminate
}

// run serves until the session is cleaned up or the daemon is terminated.
func (s *server) run(terminate <-chan os.Signal) {
	go s.accept()
	go s.watchOrphan(clocks)
	select {
	case <-s.quit:
		return
	case <-terminate:
	}
	// The session stays, for whoever attaches next.
	s.mu.Lock()
	s.terminated = true
	close(s.ending)
	s.stopFinishing()
	a := s.current
	s.mu.Unlock()
	s.endPayload(noDeadline, terminateStages)
	if a != nil {
		a.waitTold()
	}
	_ = s.control.Close() // its name is removed next
	for _, name := range []string{controlSocket, endpointSocket} {
		if err := remove(filepath.Join(s.dir, name)); err != nil {
			s.log.printf("%v", err)
		}
	}
}

// errorTerminated is the exit record's error where the end of the host, or of the login, ended the session.
const errorTerminated = "the host was shut down, or its login sessions were ended: the shim got SIGTERM and ended the payload"

// alsoToUs is how long our own SIGTERM may come after the payload's, where both are part of a shutdown.
const alsoToUs = 500 * time.Millisecond

// awaitOurs waits for our own SIGTERM where the payload ended by one that no initiator asked for: a shutdown signals all processes, one
// after the other.
func (s *server) awaitOurs(e *wire.Exit) {
	s.mu.Lock()
	asked := !s.terminateBy.IsZero()
	s.mu.Unlock()
	if asked || e.Signal != int32(syscall.SIGTERM) {
		return
	}
	t := time.NewTimer(alsoToUs)
	defer t.Stop()
	select {
	case <-s.ending:
	case <-t.C:
	}
}

// setExit records how the payload ended: on disk first, then for everybody.
func (s *server) setExit(e *wire.Exit) {
	s.awaitOurs(e)
	s.mu.Lock()
	if s.terminated && e.Error == "" {
		e.Error, e.ShutDown = errorTerminated, true
	}
	s.mu.Unlock()
	if err := saveExit(s.dir, e); err != nil {
		s.log.printf("write %s: %v", exitFile, err) // this process knows it all the same
		go s.saveLater(func() error { return saveExit(s.dir, e) })
	}
	s.mu.Lock()
	s.exit = e
	s.mu.Unlock()
	close(s.exited)
	s.out.wake()
}

// restarted records that the payload was started again, for everybody.
func (s *server) restarted(pid int, last *wire.Exit) {
	s.status.say(nil) // what the run before said of itself is about that one
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restart = &wire.Restarted{Count: s.store.get().restarts(), PayloadPid: int32(pid), Exit: last}
	s.out.wake()
}

func (s *server) lastRestart() *wire.Restarted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restart
}

// keep changes the session's record, on disk as soon as that can be written to.
func (s *server) keep(change func(*record)) {
	err := s.store.keep(change)
	if err == nil || !s.recordLate.CompareAndSwap(false, true) {
		return
	}
	s.log.printf("write %s: %v", recordFile, err)
	go func() {
		s.saveLater(s.store.save)
		s.recordLate.Store(false)
	}()
}

// saveAgain is how often a full disk is tried again.
const saveAgain = time.Second

// saveLater returns when save worked: a full disk keeps nothing from anybody, and passes.
func (s *server) saveLater(save func() error) {
	for {
		select {
		case <-s.quit:
			return
		case <-time.After(saveAgain):
		}
		if save() == nil {
			return
		}
	}
}

func (s *server) exitRecord() *wire.Exit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exit
}

// endPayload returns when the payload's group has gone through the stages and its exit is recorded, or ctx has ended.
func (s *server) endPayload(ctx context.Context, stages []stage) {
	if s.keeper == nil {
		return
	}
	if err := s.keeper.end(ctx, stages...); err != nil && ctx.Err() == nil {
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
		if s.keeper != nil {
			errs = append(errs, s.keeper.endRest(noDeadline, stage{syscall.SIGKILL, killWait}))
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
