package shim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// serveCommand is the daemon. It is started by start and attach only, which give it the lock and a pipe to tell
// through whether the session is served: nothing for yes, the error otherwise.
const (
	serveCommand = "serve"
	lockFD       = 3
	readyFD      = 4
)

func serveMain(dir string) int {
	syscall.CloseOnExec(lockFD) // neither is for the payload
	syscall.CloseOnExec(readyFD)
	lock, ready := os.NewFile(lockFD, "lock"), os.NewFile(readyFD, "ready")
	if err := checkLock(dir, lock); err != nil {
		return complain(err)
	}
	signals := watchSignals()
	log := &logger{w: os.Stderr}
	s, err := newServer(dir, log)
	if err != nil {
		_, werr := io.WriteString(ready, err.Error())
		return complain(errors.Join(err, werr, ready.Close()))
	}
	if err := ready.Close(); err != nil {
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
	keepFromCleaners(log)
	spec, err := readSpec(dir)
	if err != nil {
		return nil, err
	}
	rec, started, err := loadRecord(dir)
	if err != nil {
		return nil, err
	}
	out, err := openLog(dir, spec.OutputCap)
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, spec: spec, log: log, out: out, store: &recordStore{dir: dir, rec: rec}, quit: make(chan struct{}), exited: make(chan struct{})}
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

// keepFromCleaners locks the session directory itself: systemd-tmpfiles leaves locked directories alone
// (tmpfiles.d(5)). It is for comfort only, the daemon works without.
func keepFromCleaners(log *logger) {
	fd, err := unix.Open(".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB)
	}
	if err != nil {
		log.printf("lock the session directory: %v", err)
	}
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// start starts the payload, for the first and only time. What is wrong with the payload itself becomes its exit record.
func (s *server) start() error {
	if err := adoptOrphans(); err != nil {
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
	if err := s.startPayload(address); err != nil {
		s.setExit(&wire.Exit{Code: -1, Error: err.Error()})
	}
	return nil
}

func (s *server) startPayload(address string) error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer outW.Close() //nolint:errcheck // the payload has a copy of its own
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, outR.Close())
	}
	defer errW.Close() //nolint:errcheck // the same
	cfg := payloadConfig{argv: s.spec.Argv, dir: s.spec.Dir, stdout: outW, stderr: errW}
	if cfg.dir == "" {
		cfg.dir = s.dir
	}
	own := []string{
		"ETCDCTL_ENDPOINTS=" + address, "ETCDCTL_API=3",
		"MGMT_REMOTE_RUN=" + s.spec.Run, "MGMT_REMOTE_HOST=" + s.spec.Host, "MGMT_REMOTE_DIR=" + s.dir, "PWD=" + cfg.dir,
	}
	cfg.env = mergeEnv(os.Environ(), own, s.spec.Env)
	if mark := s.spec.EndpointMark; mark != "" {
		cfg.argv, cfg.env = replaceAll(cfg.argv, mark, address), replaceAll(cfg.env, mark, address)
	}
	p, err := startPayload(cfg)
	if err != nil {
		return errors.Join(err, outR.Close(), errR.Close())
	}
	s.payload = p
	if err := s.store.update(func(r *record) { r.Payload = p.process }); err != nil {
		s.log.printf("record the payload's process: %v", err) // its session is recorded already, that is enough to find it
	}
	go s.watch(outR, errR)
	if s.spec.StatusFile != "" {
		go s.followStatus(s.spec.StatusFile)
	}
	return nil
}

func replaceAll(in []string, old, text string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = strings.ReplaceAll(s, old, text)
	}
	return out
}

// resume serves a session whose shim is dead: there is its log and perhaps its exit record, but nothing is started
// again. What it left running is ended first.
func (s *server) resume(rec record) error {
	if rec.PID == 0 { // the record can't be read: the spec knows the rest
		rec = record{Run: s.spec.Run, Host: s.spec.Host, Nonce: s.spec.Nonce, Fence: s.spec.Fence}
	}
	rebooted := rec.BootID != "" && rec.BootID != bootID()
	if g, ok := leftover(rec); ok {
		for _, g := range []group{g, g.sessionOnly()} {
			if err := g.end(noDeadline, stage{syscall.SIGTERM, 3 * time.Second}, stage{syscall.SIGKILL, killWait}); err != nil {
				s.log.printf("end what the last shim left behind: %v", err)
			}
		}
	}
	exit, err := loadExit(s.dir)
	if err != nil {
		s.log.printf("%v", err)
	}
	if exit == nil {
		_, end := s.out.bounds()
		exit = &wire.Exit{Code: -1, Error: "the shim was killed", OutputEnd: end}
		if rebooted {
			exit.Error = "the host was rebooted while the payload ran"
		}
	}
	err = s.store.update(func(r *record) {
		*r = rec
		r.process = process{PID: os.Getpid(), Start: startOf(os.Getpid())}
		r.BootID = rec.BootID
	})
	if err != nil { // a full disk must not keep an initiator from getting what is there
		s.log.printf("write %s: %v", recordFile, err)
	}
	s.setExit(exit)
	return nil
}

// watch keeps the payload's output until it ends, and then its exit.
func (s *server) watch(outR, errR *os.File) {
	pumped := make(chan struct{}, 2)
	for _, src := range []struct {
		f      *os.File
		stderr bool
	}{{outR, false}, {errR, true}} {
		go func() {
			s.pump(src.f, src.stderr)
			pumped <- struct{}{}
		}()
	}
	<-s.payload.done
	// A descendant that keeps the pipes open must not keep the exit from being told.
	deadline := time.Now().Add(pipeWait)
	for _, f := range []*os.File{outR, errR} {
		if err := f.SetReadDeadline(deadline); err != nil {
			s.log.printf("output of descendants: %v", err)
			_ = f.Close()
		}
	}
	<-pumped
	<-pumped
	_, end := s.out.bounds()
	exit := &s.payload.exit
	exit.OutputEnd = end
	s.setExit(exit)
}

// pipeWait is how long output of descendants is taken after the payload itself ended.
const pipeWait = 2 * time.Second

func (s *server) pump(f *os.File, stderr bool) {
	defer f.Close() //nolint:errcheck // only read
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := s.out.append(stderr, buf[:n]); err != nil {
				s.log.printf("%v", err)
			}
		}
		if err != nil {
			return
		}
	}
}

// logPath is where the daemon's standard error goes.
func logPath(dir string) string { return filepath.Join(dir, stderrFile) }
