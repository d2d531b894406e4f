package become

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed" // the script
	"errors"
	"fmt"
	"strings"

	"al.essio.dev/pkg/shellescape"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// LookCommand is what the login shell of a host is asked to run first.
const LookCommand = "/bin/sh -s mgmt-remote-become"

//go:embed look.sh
var lookScript string

// maxLook bounds what a host can make us keep, noise of its login shell and all.
const maxLook = 1 << 20

// found is what a host has.
type found struct {
	uid, user  string // who logged in
	targetUID  string // of whom to become; "" = there is no such user
	sudo, doas string // paths; "" = not there
	sftp       string // path of the SFTP server's program
}

// look asks the host as the login user.
func look(ctx context.Context, conn Connection, target Target) (found, error) {
	marker := newMarker()
	script := fmt.Sprintf("marker=%s\ntarget=%s\n%s", marker, shellescape.Quote(target.User), lookScript)
	out := &head{left: maxLook}
	err := conn.Exec(ctx, sshconn.Exec{Command: LookCommand, Stdin: strings.NewReader(script), Stdout: out})
	var exit *sshconn.ExitError
	if err != nil && !errors.As(err, &exit) {
		return found{}, err
	}
	return parseLook(marker, out.buf.String())
}

func parseLook(marker, out string) (found, error) {
	_, text, begun := strings.Cut("\n"+strings.ReplaceAll(out, "\r\n", "\n"), "\n"+marker+" BEGIN\n")
	text, _, ended := strings.Cut(text, "\n"+marker+" END\n")
	if !begun || !ended {
		return found{}, fault.New(fault.Environment, op, "the login shell printed %.200q instead of an answer", strings.Join(strings.Fields(out), " ")).
			WithRemedy("check that the user can run /bin/sh on the host (ForceCommand, nologin)")
	}
	var f found
	into := map[string]*string{"uid": &f.uid, "user": &f.user, "target": &f.targetUID, Sudo: &f.sudo, Doas: &f.doas, "sftp": &f.sftp}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		if to := into[key]; to != nil {
			*to = value
		}
	}
	for _, path := range []string{f.sudo, f.doas, f.sftp} {
		if path == "" {
			continue
		}
		if err := probe.ValidPath(path); err != nil { // it stands in commands
			return found{}, fault.Wrap(fault.Environment, op, err)
		}
	}
	if f.uid == "" {
		return found{}, fault.New(fault.Environment, op, "the host does not say who logged in (is id there?)")
	}
	return f, nil
}

// choose returns the method and its program.
func (f found) choose(method string) (name, path string, err error) {
	for _, m := range []struct{ name, path string }{{Sudo, f.sudo}, {Doas, f.doas}} {
		if m.path != "" && (method == "" || method == m.name) {
			return m.name, m.path, nil
		}
	}
	if method == "" {
		return "", "", fault.New(fault.Environment, op, "the host has neither sudo nor doas in a directory of the system").
			WithRemedy("install sudo, or log in as the user that is to be become")
	}
	return "", "", fault.New(fault.Environment, op, "the host has no %s in a directory of the system", method).
		WithRemedy("install it, or leave out --become-method")
}

// newMarker is random so that nothing else in an output can be it; letters and digits only, so that it is safe everywhere.
func newMarker() string { return "mr" + strings.ToLower(rand.Text()) }

// head keeps the first bytes and swallows the rest, so that the command is not blocked.
type head struct {
	buf  bytes.Buffer
	left int
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.left)
	h.buf.Write(p[:n])
	h.left -= n
	return len(p), nil
}
