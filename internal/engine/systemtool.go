package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
)

const (
	// maxAnswer is how much a program that is asked something may print, in bytes. More is an error: half an answer is none.
	maxAnswer = 1 << 20
	// lockWait is how long a program of the system is tried again that finds its lock held by another one, lockPause the
	// time between two attempts. Upgrades of a whole system hold the lock longer; then the resource's retry helps.
	lockWait  = 2 * time.Minute
	lockPause = 500 * time.Millisecond
)

// systemTool makes a command of a program of the system, which speaks English and finds its helpers.
func systemTool(ctx context.Context, env []string, argv []string) *exec.Cmd {
	path := command.Find(argv[0])
	if path == "" {
		path = argv[0] // its absence is then told by os/exec
	}
	cmd := command.New(ctx, path, argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "LANGUAGE=", "PATH="+os.Getenv("PATH")+":"+command.AdminPath)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// ask runs a program of the system that changes nothing, and returns what it prints to standard output, with a status
// other than 0, too.
func ask(ctx context.Context, argv ...string) (string, error) {
	answer, complaint := command.Head{Most: maxAnswer}, command.Head{Most: maxAnswer}
	cmd := systemTool(ctx, nil, argv)
	cmd.Stdout, cmd.Stderr = &answer, &complaint
	err := toolError(argv[0], command.Do(ctx, cmd), complaint.String())
	if err == nil && answer.Cut() {
		err = fmt.Errorf("%s: printed more than %d bytes", argv[0], maxAnswer)
	}
	return answer.String(), err
}

// act runs a program of the system that changes something, with more environment variables, and returns the tail of its
// output. While locked says of the output that another program holds a lock, it is run again, for up to lockWait.
func act(ctx context.Context, locked func(output string) bool, env []string, argv ...string) (string, error) {
	begin := time.Now()
	for {
		output, err := command.Run(ctx, systemTool(ctx, env, argv))
		err = toolError(argv[0], err, output)
		if err == nil || ctx.Err() != nil || !locked(output) {
			return output, err
		}
		if time.Since(begin) >= lockWait {
			return output, fmt.Errorf("another program has held the lock for %v: %w", lockWait, err)
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			return output, context.Cause(ctx)
		}
	}
}

// toolError says what a program said last when it failed.
func toolError(name string, err error, output string) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err // nil, the end of ctx, or there is no such program
	}
	output = strings.TrimSpace(output)
	last := strings.TrimSpace(output[strings.LastIndexByte(output, '\n')+1:])
	last = strings.TrimPrefix(last, name+": ")
	if last == "" {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s: %s (%w)", name, last, err)
}

// lock serialises what would otherwise fail on a lock of the system. Other than a mutex it obeys a context.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

// hold runs f while nobody else holds the lock.
func (l lock) hold(ctx context.Context, f func() (string, error)) (string, error) {
	select {
	case l <- struct{}{}:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	defer func() { <-l }()
	return f()
}
