package sshconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// Prompter asks a person for a secret. Implementations are called by one goroutine at a time per Auth and return when ctx ends.
type Prompter interface {
	Secret(ctx context.Context, prompt string) (inventory.Secret, error)
}

// terminal asks on the controlling terminal, so that standard input and output stay free.
type terminal struct {
	path string
	turn chan struct{} // holds one token: whoever has it may ask
}

// NewTerminalPrompter asks on /dev/tty without echo, one question at a time. Without a terminal every question is an error.
func NewTerminalPrompter() Prompter { return newTerminal("/dev/tty") }

func newTerminal(path string) *terminal {
	t := &terminal{path: path, turn: make(chan struct{}, 1)}
	t.turn <- struct{}{}
	return t
}

// Secret prints prompt and reads one line. ^C and ^D give a fault of kind Canceled.
func (t *terminal) Secret(ctx context.Context, prompt string) (inventory.Secret, error) {
	line, err := t.ask(ctx, func(screen *term.Terminal) (string, error) { return screen.ReadPassword(prompt) })
	return inventory.Secret(line), err
}

// Confirm prints question and reads lines until one is yes or no.
func (t *terminal) Confirm(ctx context.Context, question string) (bool, error) {
	text, prompt := "", question
	if i := strings.LastIndexByte(question, '\n'); i >= 0 {
		text, prompt = question[:i+1], question[i+1:]
	}
	answer, err := t.ask(ctx, func(screen *term.Terminal) (string, error) {
		if _, err := io.WriteString(screen, text); err != nil {
			return "", err
		}
		screen.SetPrompt(prompt)
		for {
			line, err := screen.ReadLine()
			if line = strings.ToLower(strings.TrimSpace(line)); err != nil || line == "yes" || line == "no" {
				return line, err
			}
			screen.SetPrompt("Please type yes or no: ")
		}
	})
	return answer == "yes", err
}

// ask has the terminal to itself until fn has the answer.
func (t *terminal) ask(ctx context.Context, fn func(*term.Terminal) (string, error)) (answer string, err error) {
	select {
	case <-t.turn:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { t.turn <- struct{}{} }()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	tty, err := os.OpenFile(t.path, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("no terminal to ask on: %w", err)
	}
	defer func() { err = errors.Join(err, tty.Close()) }()
	raw, err := tty.SyscallConn() // not Fd(), which would make reads impossible to interrupt
	if err != nil {
		return "", err
	}
	var state *term.State
	if cerr := raw.Control(func(fd uintptr) { state, err = term.MakeRaw(int(fd)) }); cerr != nil || err != nil {
		return "", errors.Join(cerr, err)
	}
	defer func() {
		cerr := raw.Control(func(fd uintptr) { err = errors.Join(err, term.Restore(int(fd), state)) })
		err = errors.Join(err, cerr)
	}()
	stop := context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := fn(term.NewTerminal(tty, ""))
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, io.EOF):
		return "", fault.Wrap(fault.Canceled, "ask", errors.New("canceled at the prompt"))
	case err != nil:
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	return line, nil
}
