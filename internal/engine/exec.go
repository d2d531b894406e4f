package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
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
	command.KillGroup(cmd.Process.Pid)
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

// command makes a command with the working directory, environment and user of the resource.
func (x *execResource) command(ctx context.Context, c commandLine) (*exec.Cmd, error) {
	words := strings.Fields(c.line)
	if c.shell != "" {
		words = []string{c.shell, "-c", c.line}
	}
	cmd := command.New(ctx, words[0], append(words[1:], c.args...)...)
	cmd.Dir = x.spec.Cwd
	if len(x.spec.Env) > 0 {
		cmd.Env = os.Environ()
		for name, value := range x.spec.Env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
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
	return cmd, nil
}

// run runs a command to its end and returns the tail of its output.
func (x *execResource) run(ctx context.Context, c commandLine) (string, error) {
	ctx, cancel := command.WithTimeout(ctx, x.spec.Timeout)
	defer cancel()
	cmd, err := x.command(ctx, c)
	if err != nil {
		return "", err
	}
	return command.Run(ctx, cmd)
}
