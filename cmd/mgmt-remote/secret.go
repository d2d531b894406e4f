//go:build !engine

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/command"
)

// maxSecret bounds what is read for a password.
const maxSecret = 4 << 10

// secretTimeout is how long a command for a password may take: it may ask a person.
const secretTimeout = 2 * time.Minute

// readSecret takes the first line of what can be read from a file descriptor of this process.
func readSecret(flag string, fd int) (fleet.Secret, error) {
	var file *os.File
	if standard := []*os.File{os.Stdin, os.Stdout, os.Stderr}; fd < len(standard) {
		// Another file for the same descriptor would close it when it is collected, and what is opened next would get its number.
		file = standard[fd]
	} else {
		file = os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd))
		defer file.Close() //nolint:errcheck // only read from
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return firstLine(flag+" has", data)
}

// runForSecret runs a shell command and takes the first line that it writes. It is in our process group, so that it can ask at the terminal.
func runForSecret(ctx context.Context, flag, text string) (fleet.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, "/bin/sh", "-c", text)
	stdout := command.Head{Most: maxSecret + 1}
	c.Stdout, c.Stderr, c.WaitDelay = &stdout, os.Stderr, time.Second
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return firstLine(flag+" wrote", stdout.Bytes())
}

func firstLine(who string, data []byte) (fleet.Secret, error) {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	switch {
	case len(data) > maxSecret:
		return "", fmt.Errorf("%s more than %d bytes, which is no password", who, maxSecret)
	case strings.TrimSpace(string(line)) == "":
		return "", fmt.Errorf("%s none", who)
	}
	return fleet.Secret(line), nil
}
