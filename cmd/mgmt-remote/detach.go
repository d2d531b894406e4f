//go:build !engine

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// detachedEnv tells the process that goes on in the background which descriptor its starter listens at.
const detachedEnv = "MGMT_REMOTE_DETACHED_FD"

// initiatorLog is where, in the run's directory, an initiator without a terminal writes what would be on stderr.
const initiatorLog = "initiator.log"

// background starts this program anew, with args, as a process that outlives us and our terminal, and returns the ID of its run as soon
// as that has begun. Until then the process has our terminal, to ask and to complain; where it ends instead, its exit
// code is ours.
func background(cmd *cobra.Command, args []string) (run string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close() //nolint:errcheck // it was read from
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), detachedEnv+"=3")
	c.Stdin, c.Stdout, c.Stderr, c.ExtraFiles = os.Stdin, cmd.OutOrStdout(), cmd.ErrOrStderr(), []*os.File{w}
	err = c.Start()
	if err := errors.Join(err, w.Close()); err != nil {
		return "", fmt.Errorf("go on in the background: %w", err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err == nil {
		return line[:len(line)-1], c.Process.Release()
	}
	var exit *exec.ExitError
	if err := c.Wait(); errors.As(err, &exit) && exit.ExitCode() > 0 {
		return "", exitError(exit.ExitCode())
	}
	return "", errors.New("the process in the background ended before the run began")
}

// detach has the run driven in the background. The same command line gets here twice: in the process that starts the other one, and
// in that one, which writes the files.
func detach(cmd *cobra.Command, opts fleet.Options, files shown, beside func(context.Context, *fleet.Fleet)) error {
	s, err := newStarter()
	if err != nil {
		return err
	}
	if s != nil {
		return driveDetached(cmd, opts, s, files, beside)
	}
	run, err := background(cmd, os.Args[1:])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), run)
	return err
}

// starter is the other end of background: nil in a process with a terminal of its own.
type starter struct{ pipe *os.File }

// inBackground reports whether this process is the one that goes on in the background.
func inBackground() bool { return os.Getenv(detachedEnv) != "" }

func newStarter() (*starter, error) {
	text := os.Getenv(detachedEnv)
	if text == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", detachedEnv, err)
	}
	unix.CloseOnExec(fd)
	return &starter{os.NewFile(uintptr(fd), "starter")}, os.Unsetenv(detachedEnv)
}

// leave lets go of the terminal and tells the starter that the run is on its way.
func (s *starter) leave(run string) error {
	dir, err := fleet.RunDir("", run)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, initiatorLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("leave the terminal: %w", err)
	}
	for to, from := range []*os.File{null, log, log} {
		if err := dup(int(from.Fd()), to); err != nil {
			return fmt.Errorf("leave the terminal: %w", err)
		}
	}
	_, err = fmt.Fprintln(s.pipe, run)
	return errors.Join(err, s.pipe.Close(), log.Close(), null.Close())
}

// begin asks for everything that would be asked for later, when there is no terminal any more.
func (s *starter) begin(ctx context.Context, f *fleet.Fleet) error { return f.Unlock(ctx) }

// Print implements console.Printer: nothing is shown, and the run's beginning is when the terminal is left.
func (s *starter) Print(event messages.Event) error {
	if e, begins := event.(messages.RunStarted); begins {
		return s.leave(e.Run)
	}
	return nil
}

// Close implements console.Printer.
func (s *starter) Close() error { return nil }
