//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// sftpServer is where Debian's openssh-sftp-server has it. A forced command can't run sshd's internal one.
const sftpServer = "/usr/lib/openssh/sftp-server"

// holder is a host that stands still at one of the commands that it is asked for, until it is released: sshd runs all of them through a
// script of ours.
type holder struct {
	*host
	held, gate *os.File
}

// holdBefore is the script for a host that does nothing about a command until it is released.
const holdBefore = `
case $SSH_ORIGINAL_COMMAND in
*"$PATTERN"*) echo held > "$HELD"; read -r _ < "$GATE" ;;
esac
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
`

// holdAfter is the script for a host that does the command but does not answer until it is released.
const holdAfter = `
case $SSH_ORIGINAL_COMMAND in
*"$PATTERN"*) answer=$(/bin/sh -c "$SSH_ORIGINAL_COMMAND"; code=$?; echo .; exit "$code"); code=$?
	echo held > "$HELD"; read -r _ < "$GATE"; printf %s "${answer%.}"; exit "$code" ;;
esac
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
`

// holdWhile is the same for a command that goes on: it runs, but nothing that it says arrives.
const holdWhile = `
case $SSH_ORIGINAL_COMMAND in
*"$PATTERN"*) /bin/sh -c "$SSH_ORIGINAL_COMMAND" | { echo held > "$HELD"; read -r _ < "$GATE"; exec cat; } ;;
*) exec /bin/sh -c "$SSH_ORIGINAL_COMMAND" ;;
esac
`

// addHolder adds a host that stands still at the first command that contains pattern. Further ones stand still as well, until release.
func (l *lab) addHolder(script, pattern string, config ...string) *holder {
	l.t.Helper()
	h := &holder{held: l.fifo("held"), gate: l.fifo("gate")}
	vars := fmt.Sprintf("#!/bin/sh\nHELD='%s' GATE='%s' PATTERN='%s'\n", h.held.Name(), h.gate.Name(), pattern)
	path := l.file("hold", vars+script, 0o700)
	config = append(config, "ForceCommand "+path, "Subsystem sftp "+sftpServer)
	h.host = l.add(sshd.Start(l.t, sshd.Options{OwnVarTmp: true, NoSFTP: true, Config: config}))
	l.t.Cleanup(h.release) // before the server stops
	return h
}

// fifo makes a named pipe and opens it in both directions: neither side has to wait for the other.
func (l *lab) fifo(name string) *os.File {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		l.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = f.Close() }) // nothing can be lost in it
	return f
}

// awaitHeld waits until the host stands still.
func (h *holder) awaitHeld(t *testing.T) {
	t.Helper()
	if err := h.held.SetReadDeadline(time.Now().Add(runFor)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(h.held).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%s does not stand still: %q, %v", h.name, line, err)
	}
}

// release lets the host go on, now and in the future.
func (h *holder) release() {
	_, _ = h.gate.WriteString(strings.Repeat("go\n", 100)) // a pipe holds 64 KiB, and both its ends are ours
}
