// Package terminal is a real terminal for programs that draw on one: tmux, with a server, a socket and a configuration of its own, so
// that nothing of the person who runs it gets in. It types, presses keys, and tells what the screen shows.
package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is the longest that one word to tmux may take: much, as it is only waited for where something is wrong.
const patience = time.Minute

// Terminal is one window with one program in it. Close ends both.
type Terminal struct {
	socket string
}

// Screen is what a terminal shows at one moment.
type Screen struct {
	Styled           string // its rows, with escape sequences for colours and nothing else
	CursorX, CursorY int
	Cursor           bool // whether the cursor can be seen
}

// Start opens a terminal of cols × rows cells and runs argv in it, with env and nothing else in its environment (TERM and what
// tmux needs are added). dir is where the terminal keeps its socket: one that is the caller's alone.
func Start(dir string, cols, rows int, env []string, argv ...string) (*Terminal, error) {
	t := &Terminal{socket: filepath.Join(dir, "tmux")}
	config := t.socket + ".conf"
	// The status line would take a row. Without the wait an escape arrives at once.
	text := "set -g status off\nset -g default-terminal tmux-256color\nset -g escape-time 0\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	args := []string{"-f", config, "new-session", "-d", "-x", strconv.Itoa(cols), "-y", strconv.Itoa(rows), "--", "env", "-i",
		"TERM=tmux-256color", "LANG=C.UTF-8"}
	args = append(append(args, env...), argv...)
	if _, err := t.tmux(args...); err != nil {
		return nil, err
	}
	return t, nil
}

// Type types text as it is.
func (t *Terminal) Type(text string) error {
	if head, ok := strings.CutSuffix(text, ";"); ok {
		text = head + `\;` // at the end of a word it would part two commands of tmux
	}
	_, err := t.tmux("send-keys", "-l", "--", text)
	return err
}

// Press presses keys by their names in tmux(1): Enter, Escape, C-c, Down.
func (t *Terminal) Press(keys ...string) error {
	_, err := t.tmux(append([]string{"send-keys", "--"}, keys...)...)
	return err
}

// Resize changes the size of the window.
func (t *Terminal) Resize(cols, rows int) error {
	_, err := t.tmux("resize-window", "-x", strconv.Itoa(cols), "-y", strconv.Itoa(rows))
	return err
}

// Screen looks.
func (t *Terminal) Screen() (Screen, error) {
	out, err := t.tmux("display-message", "-p", "#{cursor_x} #{cursor_y} #{cursor_flag}", ";", "capture-pane", "-p", "-e")
	if err != nil {
		return Screen{}, err
	}
	first, styled, _ := strings.Cut(out, "\n")
	s := Screen{Styled: strings.TrimSuffix(styled, "\n")}
	var flag int
	if _, err := fmt.Sscan(first, &s.CursorX, &s.CursorY, &flag); err != nil {
		return Screen{}, fmt.Errorf("tmux told where the cursor is as %q: %w", first, err)
	}
	s.Cursor = flag == 1
	return s, nil
}

// Text is what the terminal shows, without colours.
func (t *Terminal) Text() (string, error) {
	return t.tmux("capture-pane", "-p")
}

// Alternate tells whether a program has the screen to itself, and has not given it back.
func (t *Terminal) Alternate() (bool, error) {
	out, err := t.tmux("display-message", "-p", "#{alternate_on}")
	return strings.TrimSpace(out) == "1", err
}

// Close ends the program and the terminal, and waits until the program is gone. One whose program has ended is closed already, which
// is no error.
func (t *Terminal) Close() error {
	out, err := t.tmux("list-panes", "-F", "#{pane_pid}", ";", "kill-server")
	if err != nil {
		// A server goes when it has no window any more; until then there is nothing that the command could be about.
		for _, gone := range []string{"no server running", "No such file", "server exited", "no current target"} {
			if strings.Contains(err.Error(), gone) {
				return nil
			}
		}
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return fmt.Errorf("tmux told the process of its window as %q: %w", out, err)
	}
	// The process is no child of ours: nobody tells when it ends.
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	over := time.After(patience)
	for {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return nil
		}
		select {
		case <-look.C:
		case <-over:
			return fmt.Errorf("process %d in the terminal goes on %v after its terminal has gone", pid, patience)
		}
	}
}

func (t *Terminal) tmux(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "tmux", append([]string{"-u", "-S", t.socket}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// TMUX of a session that we run in would be taken for ours. The server inherits this, and gives its program what Start says.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(t.socket), "LANG=C.UTF-8", "SHELL=/bin/sh"}
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%w: `make deps` installs it", err)
	}
	if err != nil {
		return "", fmt.Errorf("tmux %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
