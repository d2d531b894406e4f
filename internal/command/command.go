// Package command runs commands on this machine for the engine: each in its own process group, ended as a whole when its
// time is over, with the end of what it printed kept. It never uses a shell.
package command

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// KillDelay is how long a command has between SIGTERM and SIGKILL. It is also how long the end of a command waits for
	// its output when something it left in the background still holds the pipe.
	KillDelay = 2 * time.Second
	// MaxOutput is how much of a command's output is kept, from its end, in bytes.
	MaxOutput = 16 << 10
)

// New makes a command in its own process group, which is terminated as a whole when ctx ends. It is for Run and Do,
// or for Start, Wait and KillGroup.
func New(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = processAttributes()
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = KillDelay // then os/exec kills the leader, and Run the rest of the group
	return cmd
}

// WithTimeout bounds ctx; its cause says so in words when the time is over. 0 is no bound.
func WithTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not done after %v", timeout))
}

// Run runs a command that New made with ctx to its end, and returns the last MaxOutput bytes of what it printed to
// standard output and standard error. Where ctx ended it, the error is the cause of that; an *exec.ExitError is its
// own. What a command leaves in the background lives on, except when ctx ended it.
func Run(ctx context.Context, cmd *exec.Cmd) (output string, err error) {
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	if err = Do(ctx, cmd); errors.Is(err, ErrIncomplete) {
		err = nil
	}
	return out.String(), err
}

// ErrIncomplete tells that a command ended well, and that something else holds its output open: what there is may be half of it.
var ErrIncomplete = errors.New("it ended, but something in the background holds its output open, so that nobody knows whether that is all")

// Do is Run for a command whose output goes where the caller said, and is an answer: where not all of it may be there, errors.Is(err,
// ErrIncomplete).
func Do(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx) // the time was over before the command could be started
		}
		return err
	}
	err := cmd.Wait()
	switch {
	case ctx.Err() != nil && err != nil:
		KillGroup(cmd.Process.Pid)
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay):
		return ErrIncomplete
	}
	return err
}

// Find finds a program of the system; "" if there is none. Those for administrators are found, too: the PATH of a remote
// command often lacks their directories.
func Find(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range filepath.SplitList(AdminPath) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// AdminPath is where programs for administrators are.
const AdminPath = "/usr/local/sbin:/usr/sbin:/sbin"

// KillGroup ends what is left of a process group after its leader was waited for. That number can't belong to
// somebody else: it is in use while a member lives, and new process IDs are not given out that fast.
func KillGroup(pgid int) {
	// The only error that can come is that nobody is left.
	_ = syscall.Kill(-pgid, syscall.SIGKILL)
}

// tail keeps the end of what is written to it. It may be read while a process that outlived its command writes on.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer; it never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*MaxOutput {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-MaxOutput:]...)
	}
	return len(p), nil
}

// String returns at most the last MaxOutput bytes.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf[max(0, len(t.buf)-MaxOutput):])
}
