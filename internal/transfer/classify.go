package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/pkg/sftp"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// environment makes a fault whose operation is filled in by classify.
func environment(format string, args ...any) *fault.Fault {
	return fault.New(fault.Environment, "", format, args...)
}

// at names the path that a raw SFTP error is about. Its text stays, for errors.Is too.
func at(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}

// orCause prefers the caller's own reason over what an interrupted call says.
func orCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// localError is one of this machine: of a source file or its compressed form.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// classify is where raw errors of an SFTP session get their kind. SFTP version 3 has one code for nearly everything, SSH_FX_FAILURE
// (draft-ietf-secsh-filexfer-02, section 7), and OpenSSH's server says no more; what is likely is in the remedy then.
func classify(op string, err error) *fault.Fault {
	var (
		local  *localError
		status *sftp.StatusError
	)
	switch {
	case fault.KindOf(err) != fault.Unknown:
		return fault.Wrap(fault.Bug, op, err) // keeps its kind
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.Lost, op, err)
	case errors.As(err, &local):
		return fault.New(fault.Environment, op, "on this machine: %w", local.err)
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Environment, op, err).WithRemedy("check the owner and mode of the directory, or use --prefix DIR")
	case errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(fault.Environment, op, err).WithRemedy("see whether something on the host removes files there")
	case errors.As(err, &status):
		if code := status.FxCode(); code == sftp.ErrSSHFxConnectionLost || code == sftp.ErrSSHFxNoConnection {
			return fault.Wrap(fault.Lost, op, err)
		}
		return fault.Wrap(fault.Environment, op, err).WithRemedy("the disk or the quota may be full on the host, or the file system read-only")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, os.ErrClosed),
		errors.Is(err, sftp.ErrSSHFxConnectionLost), errors.Is(err, sftp.ErrSSHFxNoConnection):
		return fault.Wrap(fault.Lost, op, err)
	}
	return fault.Wrap(fault.Lost, op, err)
}

// ownerOf returns the uid that the server sent with a file's attributes.
func ownerOf(info fs.FileInfo) (uid uint32, ok bool) {
	stat, ok := info.Sys().(*sftp.FileStat)
	if !ok {
		return 0, false
	}
	return stat.UID, true
}

// uidOf reads the user from a base directory's name, "mgmt-remote-<uid>" or that with a random end. Nobody's is returned for other names.
func uidOf(base string) uint32 {
	name := strings.TrimPrefix(path.Base(base), "mgmt-remote-")
	name, _, _ = strings.Cut(name, ".")
	uid, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return ^uint32(0)
	}
	return uint32(uid)
}
