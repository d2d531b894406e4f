//go:build !engine

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/term"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/console"
	"github.com/mgmt-remote/mgmt-remote/internal/console/live"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// stderr is standard error of this process, which a live view shows in its place.
var stderr = live.NewMessages(os.Stderr)

// standardError is where everything goes that is said on standard error.
func standardError() io.Writer { return stderr }

// liveView is the live view as a form of output.
type liveView struct{ *live.View }

// newLive is a live view on stdout, which is a terminal. Its keys come from the terminal, whatever standard input is.
func newLive(out io.Writer, l look) console.Printer {
	o := live.Options{Out: out.(*os.File), Color: l.color, Verbose: l.verbose}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		o.In = os.Stdin
	} else if tty, err := os.Open("/dev/tty"); err == nil {
		o.In = tty // as long as the process lives
	}
	if isTerminal(os.Stderr) {
		o.Err = stderr
	}
	return liveView{live.New(o)}
}

// begin implements beginner.
func (v liveView) begin(_ context.Context, f *fleet.Fleet) error {
	v.Steer(driven{f})
	return nil
}

// view returns the live view, or nil where none is shown.
func (s shown) view() *live.View {
	for _, sink := range s {
		if v, is := sink.Printer.(liveView); is {
			return v.View
		}
	}
	return nil
}

// asking has questions asked on a terminal that a live view may have.
func (s shown) asking(p sshconn.Prompter) sshconn.Prompter {
	if v := s.view(); v != nil && p != nil {
		return suspending{p, v}
	}
	return p
}

// suspending takes the terminal from a view while somebody is asked.
type suspending struct {
	prompter sshconn.Prompter
	view     *live.View
}

var (
	_ sshconn.Prompter  = suspending{}
	_ sshconn.Confirmer = suspending{}
)

// Secret implements sshconn.Prompter.
func (s suspending) Secret(ctx context.Context, prompt string) (secret fleet.Secret, err error) {
	err = s.ask(func() error {
		secret, err = s.prompter.Secret(ctx, prompt)
		return err
	})
	return secret, err
}

// Confirm implements sshconn.Confirmer.
func (s suspending) Confirm(ctx context.Context, question string) (yes bool, err error) {
	c, can := s.prompter.(sshconn.Confirmer)
	if !can {
		return false, errors.New("there is nobody to ask")
	}
	err = s.ask(func() error {
		yes, err = c.Confirm(ctx, question)
		return err
	})
	return yes, err
}

func (s suspending) ask(question func() error) error {
	resume, err := s.view.Suspend()
	if err != nil {
		return err
	}
	return errors.Join(question(), resume())
}

// interrupt is ^C, which a terminal that a view has does not make of the key.
func interrupt() { _ = syscall.Kill(os.Getpid(), syscall.SIGINT) } // a process may always signal itself

// driven steers a fleet of this process.
type driven struct{ *fleet.Fleet }

func (d driven) Pause() error            { d.Fleet.Pause(); return nil }
func (d driven) Continue() error         { d.Fleet.Continue(); return nil }
func (d driven) Drop(host string) error  { d.Remove(host); return nil }
func (d driven) Retry(host string) error { d.Fleet.Retry(host); return nil }
func (d driven) Interrupt()              { interrupt() }

// attachedTo steers a run that another process drives.
type attachedTo struct {
	ctx context.Context // of the command: keys have none
	run string
}

func (f attachedTo) Pause() error    { return fleet.PauseOf(f.ctx, "", f.run) }
func (f attachedTo) Continue() error { return fleet.ContinueOf(f.ctx, "", f.run) }
func (f attachedTo) SetMaxConnections(n int) error {
	return fleet.SetMaxConnectionsOf(f.ctx, "", f.run, n)
}
func (f attachedTo) Drop(host string) error  { return fleet.RemoveOf(f.ctx, "", f.run, host) }
func (f attachedTo) Retry(host string) error { return fleet.RetryOf(f.ctx, "", f.run, host) }
func (f attachedTo) Interrupt()              { interrupt() }
