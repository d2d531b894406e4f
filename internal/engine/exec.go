package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

const (
	// killDelay is how long a command has between SIGTERM and SIGKILL. It is also how long the end of a command waits for
	// its output when something it left in the background still holds the pipe.
	killDelay = 2 * time.Second
	// maxOutput is how much of a command's output is kept, from its end, in bytes.
	maxOutput = 16 << 10
)

// execResource runs a command. The engine asks only when there is a reason (the start, a refresh, an event, a poll), so
// without a condition the answer of check is always that it has to run. That is also why a refresh needs nothing more.
type execResource struct {
	spec *graph.Exec
}

func (x *execResource) pollInterval() time.Duration { return x.spec.PollInt }

// watchingExec is an execResource with a watch command: each line of that is a reason to look.
type watchingExec struct {
	execResource
}

// watch runs the watch command once. It counts as watching as soon as it runs: what it sees is its own business.
func (x *watchingExec) watch(ctx context.Context, ready, changed func()) error {
	cmd, err := x.command(ctx, commandLine{line: x.spec.WatchCmd, shell: x.spec.WatchShell})
	if err != nil {
		return fmt.Errorf("watchcmd: %w", err)
	}
	cmd.Stdout = lineCounter(changed)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("watchcmd: %w", err)
	}
	ready()
	err = cmd.Wait()
	killGroup(cmd.Process.Pid)
	if err == nil {
		return errors.New("watchcmd ended: exit status 0")
	}
	return fmt.Errorf("watchcmd ended: %w", err)
}

// lineCounter calls a function for each write that ends a line; several lines at once are one reason to look.
type lineCounter func()

// Write implements io.Writer; it never fails.
func (f lineCounter) Write(p []byte) (int, error) {
	if slices.Contains(p, '\n') {
		f()
	}
	return len(p), nil
}

func (x *execResource) check(ctx context.Context) (string, error) {
	if x.spec.IfCmd != "" {
		_, err := x.run(ctx, commandLine{line: x.spec.IfCmd, shell: x.spec.IfShell})
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit) && exit.Exited():
			return "", nil // the condition says no
		case err != nil:
			return "", fmt.Errorf("ifcmd: %w", err)
		}
	}
	return "run " + shorten(x.spec.Cmd), nil
}

func (x *execResource) apply(ctx context.Context) (string, error) {
	return x.run(ctx, commandLine{line: x.spec.Cmd, args: x.spec.Args, shell: x.spec.Shell})
}

// shorten makes one readable line of a command line.
func shorten(line string) string {
	words := []rune(strings.Join(strings.Fields(line), " "))
	if len(words) > 60 {
		return string(words[:59]) + "…"
	}
	return string(words)
}

type commandLine struct {
	line  string
	args  []string
	shell string
}

// command makes a command in its own process group, which is terminated as a whole when ctx ends.
func (x *execResource) command(ctx context.Context, c commandLine) (*exec.Cmd, error) {
	words := strings.Fields(c.line)
	if c.shell != "" {
		words = []string{c.shell, "-c", c.line}
	}
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], c.args...)...)
	cmd.Dir = x.spec.Cwd
	if len(x.spec.Env) > 0 {
		cmd.Env = os.Environ()
		for name, value := range x.spec.Env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.SysProcAttr = processAttributes()
	cmd.SysProcAttr.Setpgid = true
	if x.spec.User != "" || x.spec.Group != "" {
		uid, gid := os.Geteuid(), os.Getegid()
		var err error
		if x.spec.User != "" {
			var primary int
			if uid, primary, err = lookupUser(x.spec.User); err != nil {
				return nil, err
			}
			if primary >= 0 {
				gid = primary
			}
		}
		if x.spec.Group != "" {
			if gid, err = lookupGroup(x.spec.Group); err != nil {
				return nil, err
			}
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killDelay // then os/exec kills the leader, and run the rest of the group
	return cmd, nil
}

// run runs a command to its end and returns the tail of its output. What a command leaves in the background lives on,
// except when ctx or the timeout ended it.
func (x *execResource) run(ctx context.Context, c commandLine) (string, error) {
	timedOut := errors.New("timeout")
	runCtx := ctx
	if x.spec.Timeout > 0 {
		var cancel context.CancelFunc
		runCtx, cancel = context.WithTimeoutCause(ctx, x.spec.Timeout, timedOut)
		defer cancel()
	}
	cmd, err := x.command(runCtx, c)
	if err != nil {
		return "", err
	}
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	err = cmd.Wait()
	switch {
	case runCtx.Err() != nil && err != nil:
		killGroup(cmd.Process.Pid)
		if errors.Is(context.Cause(runCtx), timedOut) {
			return out.String(), fmt.Errorf("not done after %v", x.spec.Timeout)
		}
		return out.String(), context.Cause(runCtx)
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // exit status 0, and something in the background keeps the output open
	}
	return out.String(), err
}

// killGroup ends what is left of a process group after its leader was waited for. That number can't belong to
// somebody else: it is in use while a member lives, and new process IDs are not given out that fast.
func killGroup(pgid int) {
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
	if len(t.buf) > 2*maxOutput {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-maxOutput:]...)
	}
	return len(p), nil
}

// String returns at most the last maxOutput bytes.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf[max(0, len(t.buf)-maxOutput):])
}
