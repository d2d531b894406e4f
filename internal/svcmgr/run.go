package svcmgr

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
)

// ask runs a command whose exit status is an answer.
func ask(ctx context.Context, name string, args ...string) (output string, status int, err error) {
	ctx, cancel := command.WithTimeout(ctx, askTime)
	defer cancel()
	output, err = run(ctx, name, args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return output, exit.ExitCode(), nil
	}
	return output, 0, err
}

// act runs a command that fails with any exit status but 0.
func act(ctx context.Context, name string, args ...string) (output string, err error) {
	ctx, cancel := command.WithTimeout(ctx, actTime)
	defer cancel()
	output, err = run(ctx, name, args...)
	if line := lastLine(output); err != nil && line != "" {
		err = fmt.Errorf("%w: %s", err, line)
	}
	return output, err
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	path := command.Find(name)
	if path == "" {
		return "", fmt.Errorf("there is no program %s", name)
	}
	output, err := command.Run(ctx, command.New(ctx, path, args...))
	if err != nil {
		err = fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return output, err
}

// lastLine is where commands say why they failed.
func lastLine(output string) string {
	output = strings.TrimSpace(output)
	return strings.TrimSpace(output[strings.LastIndexByte(output, '\n')+1:])
}

// exitStatus is that of a command that failed; -1 where it did not, or did not even exit.
func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}
