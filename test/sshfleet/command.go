package sshfleet

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
)

// EnvMarker is the environment variable that marks every process started by a host; its value is the sandbox.
const EnvMarker = "SSHFLEET_SANDBOX"

// commandPath is PATH of commands: what sshd gives, with the directories of root for everybody.
const commandPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// commands are the processes a host started.
type commands struct {
	sandbox string
	wg      sync.WaitGroup // one goroutine waits for each command

	mu      sync.Mutex
	running map[*command]struct{}
	started map[int]bool // sessions made for commands; a process of such a session isn't detached
	closed  bool
}

func newCommands(sandbox string) *commands {
	return &commands{sandbox: sandbox, running: map[*command]struct{}{}, started: map[int]bool{}}
}

// command is one running or ended command. stdin, stdout and stderr are our ends of its pipes.
type command struct {
	cmd            *exec.Cmd
	stdin          *os.File
	stdout, stderr *os.File
	exited         chan struct{} // closed when the direct child exited; state is valid then
	state          *os.ProcessState

	mu   sync.Mutex // holds back a signal while the child is being reaped
	gone bool
}

// start runs the login shell with args, in its own session as sshd does it, so that the session's ID is the child's PID.
func (cs *commands) start(h *Host, args, env []string) (*command, error) {
	c := &command{exited: make(chan struct{})}
	c.cmd = &exec.Cmd{
		Path: h.shell, Args: append([]string{filepath.Base(h.shell)}, args...), Dir: h.Home(),
		Env: append(env, "HOME="+h.Home(), "PATH="+commandPath, "USER="+h.user, "LOGNAME="+h.user, "SHELL="+h.shell,
			"TMPDIR="+h.tmp(), EnvMarker+"="+cs.sandbox),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if len(args) == 0 {
		c.cmd.Args[0] = "-" + c.cmd.Args[0] // a login shell
	}
	theirs, err := c.pipes()
	defer func() {
		for _, f := range theirs {
			closeQuietly(f, h.log)
		}
	}()
	if err == nil {
		err = cs.run(c)
	}
	if err != nil {
		c.closePipes(h.log)
		return nil, err
	}
	return c, nil
}

// pipes connects the command and returns the ends that belong to the child. (exec.Cmd's own pipes won't do: its Wait
// also waits for everyone who inherited them.)
func (c *command) pipes() (theirs []*os.File, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return theirs, err
	}
	c.cmd.Stdin, c.stdin, theirs = r, w, append(theirs, r)
	if r, w, err = os.Pipe(); err != nil {
		return theirs, err
	}
	c.stdout, c.cmd.Stdout, theirs = r, w, append(theirs, w)
	if r, w, err = os.Pipe(); err != nil {
		return theirs, err
	}
	c.stderr, c.cmd.Stderr, theirs = r, w, append(theirs, w)
	return theirs, nil
}

func (cs *commands) run(c *command) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return errors.New("host is closing")
	}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	cs.running[c] = struct{}{}
	cs.started[c.cmd.Process.Pid] = true
	cs.wg.Go(func() {
		// Wait's error only repeats the state, which is told to the client.
		_ = c.cmd.Wait()
		c.mu.Lock()
		c.gone, c.state = true, c.cmd.ProcessState
		c.mu.Unlock()
		cs.mu.Lock()
		delete(cs.running, c)
		cs.mu.Unlock()
		close(c.exited)
	})
	return nil
}

func (c *command) closePipes(log *slog.Logger) {
	for _, f := range []*os.File{c.stdin, c.stdout, c.stderr} {
		if f == nil {
			continue
		}
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			log.Debug("close pipe", "err", err)
		}
	}
}

// signals of RFC 4254 section 6.10.
var signals = map[string]syscall.Signal{
	"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP, "ILL": syscall.SIGILL,
	"INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE, "QUIT": syscall.SIGQUIT,
	"SEGV": syscall.SIGSEGV, "TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
}

// signal sends a signal to the command's process group, as sshd does; false for unknown ones and dead commands.
func (c *command) signal(name string) bool {
	sig, known := signals[name]
	c.mu.Lock()
	defer c.mu.Unlock()
	return known && !c.gone && syscall.Kill(-c.cmd.Process.Pid, sig) == nil
}

// exitMessage is the request that tells the client how the command ended (RFC 4254 section 6.10). Only after exited.
func (c *command) exitMessage() (name string, payload []byte) {
	status, ok := c.state.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return exitStatus(uint32(c.state.ExitCode()))
	}
	signal := "SIG@openssh.com" // sshd's word for signals that the RFC doesn't name
	for n, s := range signals {
		if s == status.Signal() {
			signal = n
		}
	}
	return "exit-signal", ssh.Marshal(struct {
		Signal     string
		CoreDumped bool
		Message    string
		Language   string
	}{signal, status.CoreDump(), "", ""})
}

func exitStatus(code uint32) (name string, payload []byte) {
	return "exit-status", ssh.Marshal(struct{ Status uint32 }{code})
}

// Processes lists what runs on this machine and was started by this host, directly or not, detached or not. It needs
// /proc and sees only processes whose environment this user may read.
func (h *Host) Processes() ([]leftovers.Process, error) {
	return leftovers.WithEnv(EnvMarker, h.dir)
}

// killFor bounds how long close looks for processes that fork faster than they are killed.
const killFor = 30 * time.Second

// close kills the commands and everything in their sessions, and waits for them.
func (cs *commands) close() error {
	cs.mu.Lock()
	cs.closed = true
	any := len(cs.started) > 0
	var errs []error
	for c := range cs.running {
		if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
	}
	cs.mu.Unlock()
	cs.wg.Wait()
	if any {
		errs = append(errs, cs.sweep())
	}
	return errors.Join(errs...)
}

// sweep kills what is left in the commands' sessions. It goes by the environment marker and the session, so that neither a
// detached process nor a stranger with a reused PID is hit.
func (cs *commands) sweep() error {
	deadline := time.Now().Add(killFor)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := leftovers.WithEnv(EnvMarker, cs.sandbox)
		if err != nil {
			return err
		}
		left := 0
		for _, p := range found {
			if !cs.started[p.SID] {
				continue
			}
			left++
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("processes of " + cs.sandbox + " can't be killed")
		}
		<-tick.C
	}
}
