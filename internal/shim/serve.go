package shim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// serveCommand is the daemon. It is started by start and attach only, which give it the lock and a pipe to tell
// through whether the session is served: served, or the error.
const (
	serveCommand = "serve"
	lockFD       = 3
	readyFD      = 4
	served       = "served"
)

// serveMain is the daemon of dir. warning is what initiators are to know about how it was started.
func serveMain(dir, warning string) int {
	syscall.CloseOnExec(lockFD) // neither is for the payload
	syscall.CloseOnExec(readyFD)
	lock, ready := os.NewFile(lockFD, "lock"), os.NewFile(readyFD, "ready")
	if err := checkLock(dir, lock); err != nil {
		return complain(err)
	}
	signals := watchSignals()
	log := newLogger(os.Stderr)
	s, err := newServer(dir, log)
	if err != nil {
		_, werr := io.WriteString(ready, err.Error())
		return complain(errors.Join(err, werr, ready.Close()))
	}
	if warning != "" {
		log.printf("%s", warning)
		s.warnings = []string{warning}
	}
	_, err = io.WriteString(ready, served)
	if err := errors.Join(err, ready.Close()); err != nil {
		log.printf("tell that the session is served: %v", err) // whoever asked is gone: serve the next one
	}
	s.run(signals)
	// The lock goes last, with the process.
	_ = lock.Close()
	return 0
}

// checkLock makes sure that the lock handed over is the one of dir: nobody may serve without.
func checkLock(dir string, lock *os.File) error {
	mine, err1 := lock.Stat()
	there, err2 := os.Stat(filepath.Join(dir, lockFile))
	if err1 != nil || err2 != nil || !os.SameFile(mine, there) {
		return errors.New("serve is started by start and attach only")
	}
	return nil
}

// newServer brings the daemon up to where ctl.sock answers: payload started, or found to have been.
// An error means that nothing was started.
func newServer(dir string, log *logger) (_ *server, err error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if err := os.Chdir(dir); err != nil {
		return nil, err
	}
	spec, err := readSpec(dir)
	if err != nil {
		return nil, err
	}
	keepFromCleaners(dir, spec, log)
	rec, started, err := loadRecord(dir)
	if err != nil {
		return nil, err
	}
	out, err := openLog(dir, spec.OutputCap)
	if err != nil {
		return nil, err
	}
	s := &server{
		dir: dir, spec: spec, log: log, out: out, store: &recordStore{dir: dir, rec: rec},
		quit: make(chan struct{}), exited: make(chan struct{}), ending: make(chan struct{}),
	}
	if s.control, err = listenUnix(controlSocket); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.control.Close(), remove(controlSocket))
		}
	}()
	s.lastSeen, s.detached = time.Now(), time.Now()
	if started {
		err = s.resume(rec)
	} else {
		err = s.start()
	}
	if err != nil {
		return nil, err
	}
	return s, os.Chdir("/")
}

// keepFromCleaners locks what the session needs as long as it lives: its own directory and, in the cache, those of this
// program, which the next attach calls, and of the payload, which may be started again. systemd-tmpfiles leaves locked directories
// alone (tmpfiles.d(5)). It is for comfort only, the daemon works without.
func keepFromCleaners(dir string, spec wire.Spec, log *logger) {
	keep := []string{dir}
	base := filepath.Dir(filepath.Dir(dir))
	own, err := os.Executable()
	if err != nil {
		log.printf("find this program: %v", err)
	}
	for _, program := range []string{own, spec.Argv[0]} {
		if d := filepath.Dir(program); strings.HasPrefix(d, base+"/") && !slices.Contains(keep, d) {
			keep = append(keep, d)
		}
	}
	for _, d := range keep {
		fd, err := unix.Open(d, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB)
		}
		if err != nil {
			log.printf("lock %s: %v", d, err)
		}
	}
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// start starts the payload, which nobody but the keeper does again. What is wrong with the payload itself becomes its exit
// record.
func (s *server) start() error {
	if err := s.reaper.adopt(); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	ln, address, allow, err := listenEndpoint(s.dir, s.spec)
	if err != nil {
		return err
	}
	self := process{PID: os.Getpid(), Start: startOf(os.Getpid())}
	err = s.store.update(func(r *record) {
		*r = record{
			process: self, BootID: bootID(), Protocol: wire.Version, Run: s.spec.Run, Host: s.spec.Host, Nonce: s.spec.Nonce, Fence: s.spec.Fence,
			Argv0: s.spec.Argv[0], Starter: self, StartedUnixMS: time.Now().UnixMilli(), EndpointAddress: address,
		}
	})
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", recordFile, err), ln.Close(), remove(recordFile))
	}
	// From here on the session counts as started, whatever happens.
	s.firstWelcome = true
	s.ep = newEndpoint(s.dir, allow, s.log)
	s.ep.serve(ln)
	s.keeper = newKeeper(s.spec.Restart, func() (oneRun, error) { return s.startRun(address) }, s.restarted, s.log)
	if err := s.keeper.begin(); err != nil {
		s.setExit(&wire.Exit{Code: -1, Error: err.Error()})
		return nil //nolint:nilerr // it is in the exit record now
	}
	if s.spec.StatusFile != "" {
		go s.followStatus(s.spec.StatusFile)
	}
	go func() { s.setExit(s.keeper.keep()) }()
	return nil
}

// resume serves a session whose shim is dead: there is its log and perhaps its exit record, but nothing is started
// again. What it left running is ended first.
func (s *server) resume(rec record) error {
	if rec.PID == 0 { // the record can't be read: the spec knows the rest
		rec = record{Run: s.spec.Run, Host: s.spec.Host, Nonce: s.spec.Nonce, Fence: s.spec.Fence}
	}
	rebooted := rec.BootID != "" && rec.BootID != bootID()
	left := s.endLeftover(rec)
	exit, err := loadExit(s.dir)
	if err != nil {
		s.log.printf("%v", err)
	}
	if exit == nil {
		_, end := s.out.bounds()
		exit = &wire.Exit{Code: -1, Error: "the shim was killed", OutputEnd: end}
		switch {
		case rebooted:
			exit.Error = "the host was rebooted while the payload ran"
		case left > 0:
			exit.Error = fmt.Sprintf("the shim was killed; %d processes that the payload had left were ended", left)
		}
	}
	s.keep(func(r *record) {
		*r = rec
		r.process = process{PID: os.Getpid(), Start: startOf(os.Getpid())}
	})
	s.setExit(exit)
	return nil
}

// endLeftover ends what a dead shim's payload left in its terminal session and returns how many processes that were, 0 where
// that can't be told.
func (s *server) endLeftover(rec record) int {
	g, ok := leftover(rec)
	if !ok {
		return 0
	}
	left := g.sessionOnly().count()
	for _, g := range []group{g, g.sessionOnly()} {
		if err := g.end(noDeadline, restStages...); err != nil {
			s.log.printf("end what the last shim left behind: %v", err)
		}
	}
	return left
}

// logPath is where the daemon's standard error goes.
func logPath(dir string) string { return filepath.Join(dir, stderrFile) }
