package shim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// policy says what a pipe process does where nothing was started yet.
type policy uint8

const (
	neverStart policy = iota
	mayStart
)

const (
	// attachWait is how long the daemon gets to answer, or another process to start it. A post-mortem may first have to
	// end what is left of the payload.
	attachWait  = 20 * time.Second
	attachPause = 5 * time.Millisecond
)

// stdio is the SSH channel.
type stdio struct{}

func (stdio) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (stdio) Close() error                { return errors.Join(os.Stdin.Close(), os.Stdout.Close()) }

// pipeMain is start and attach.
func pipeMain(dir, marker string, p policy) int {
	// A broken channel shows as the end of stdin or an error on stdout, and the process ends by that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGPIPE)
	if _, err := fmt.Printf("\n%s\n", marker); err != nil {
		return complain(err)
	}
	conn, err := attach(dir, p)
	if err != nil {
		return refuseAttach(err)
	}
	done := make(chan error, 2)
	go func() {
		_, err := io.Copy(conn, os.Stdin)
		done <- err
	}()
	go func() {
		_, err := io.Copy(os.Stdout, conn)
		done <- err
	}()
	// The first end ends both: without its initiator nobody needs this process, and without the daemon neither. What was written to the
	// socket is there for the daemon to read.
	if err := <-done; err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		return complain(err)
	}
	return 0
}

// refuseAttach tells the initiator in the daemon's place why there is none.
func refuseAttach(err error) int {
	r := &wire.Refused{Reason: wire.Refused_START_FAILED, Text: err.Error()}
	if errors.Is(err, errNoSession) {
		r.Reason = wire.Refused_NO_SESSION
	}
	if serr := wire.NewConn(stdio{}).Send(&wire.Frame{Kind: &wire.Frame_Refused{Refused: r}}); serr != nil {
		err = errors.Join(err, serr)
	}
	return complain(err)
}

// attach connects to the session's daemon, and starts the daemon where there is none. The process changes to the session directory, so
// that the length of its path doesn't matter to sockets.
func attach(dir string, p policy) (*net.UnixConn, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	if err := os.Chdir(dir); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(attachWait); time.Now().Before(deadline); {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: controlSocket, Net: "unix"})
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		lock, ok, err := tryLock()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s was removed", errNoSession, dir)
		}
		if err != nil {
			return nil, err
		}
		if !ok { // somebody has it: the daemon is about to answer, or to end
			time.Sleep(attachPause)
			continue
		}
		err = startDaemon(dir, p, lock)
		if cerr := lock.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the shim that holds %s does not answer", dir)
}

// startDaemon starts the daemon of dir, which takes over the lock, and returns when it answers.
func startDaemon(dir string, p policy, lock *os.File) error {
	_, err := readSpec(dir)
	_, started, rerr := loadRecord(dir)
	switch err := errors.Join(err, rerr); {
	case !inPlace(dir): // asked last: its record went with it, that is not one that was never begun
		return fmt.Errorf("%w: %s was removed", errNoSession, dir)
	case err != nil:
		return err
	}
	if !started && p == neverStart {
		return fmt.Errorf("%w: nothing was started in %s", errNoSession, dir)
	}
	log, err := os.OpenFile(logPath(dir), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the session writes to a copy of its own
	l := thisLogin()
	before, warning := l.outlive()
	said, err := spawn(dir, lock, log, before, warning)
	if err == nil && said == "" && before != nil {
		said, err = spawn(dir, lock, log, nil, l.warning(before[0]+" failed"))
	}
	switch {
	case err != nil:
		return err
	case said == "":
		return errors.New("the daemon ended before it served; its log may say why")
	case said != served:
		return errors.New(said)
	}
	return nil
}

// inPlace reports whether the working directory is what dir names: a session is renamed before anything in it is removed.
func inPlace(dir string) bool {
	here, err := os.Stat(".")
	if err != nil {
		return false
	}
	there, err := os.Lstat(dir)
	return err == nil && os.SameFile(here, there)
}

// scopeWait is how long the daemon gets to be reached behind the words before it.
const scopeWait = 5 * time.Second

// endUnless ends a process that has not become a certain program by now.
func endUnless(p *os.Process, program string) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.Pid))
	if err == nil && strings.TrimSuffix(exe, " (deleted)") != program {
		_ = p.Kill() // it may have ended by itself
	}
}

// spawn starts the daemon behind the words of before, and returns what it says when it is up: served, an error's text, or nothing
// where it never came so far.
func spawn(dir string, lock, log *os.File, before []string, warning string) (said string, err error) {
	program, err := selfProgram()
	if err != nil {
		return "", err
	}
	argv := append(selfArgs(), serveCommand, dir)
	if warning != "" {
		argv = append(argv, warning)
	}
	if before != nil { // /proc/self/exe would be another program's
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		argv[0] = self
		argv = append(before, argv...)
		if program, err = exec.LookPath(before[0]); err != nil {
			return "", nil // it never came so far
		}
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer ready.Close()          //nolint:errcheck // only read
	cmd := exec.Command(program) // without a context, because it outlives us
	cmd.Args = argv
	cmd.Dir = "/"
	cmd.Stderr = log // stdin and stdout are /dev/null
	cmd.ExtraFiles = []*os.File{lock, tell}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	if cerr := tell.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", fmt.Errorf("start the daemon: %w", err)
	}
	if before != nil {
		hung := time.AfterFunc(scopeWait, func() { endUnless(cmd.Process, argv[len(before)]) })
		defer hung.Stop()
	}
	go func() { _ = cmd.Wait() }() // only where it ends before us
	text, err := io.ReadAll(ready)
	return string(text), err
}

// selfArgs is how this program was called up to the shim's own command: with one word, or as a command of mgmt-remote.
func selfArgs() []string {
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		return []string{os.Args[0], "shim"}
	}
	return []string{os.Args[0]}
}
