package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

// onTerminal is mgmt-remote with a terminal of its own.
type onTerminal struct {
	t     *testing.T
	cmd   *exec.Cmd
	tty   *os.File     // the person's end
	shown bytes.Buffer // what was shown up to now
	more  chan []byte  // closed when the program is gone
	seen  int          // how much of shown was waited for
}

// startOnTerminal starts the program as from a shell in a terminal of 80 columns; stdout is that terminal too.
func startOnTerminal(t *testing.T, args ...string) *onTerminal {
	t.Helper()
	home := t.TempDir()
	return startCommandOnTerminal(t, exec.Command("mgmt-remote", args...), "HOME="+home, "XDG_STATE_HOME="+home)
}

// startCommandOnTerminal does the same with any program.
func startCommandOnTerminal(t *testing.T, cmd *exec.Cmd, env ...string) *onTerminal {
	t.Helper()
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	if err := unix.IoctlSetPointerInt(int(tty.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &onTerminal{t: t, tty: tty, more: make(chan []byte), cmd: cmd}
	p.cmd.Env = append(append(os.Environ(), "SSH_AUTH_SOCK=", "TERM=xterm"), env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = program, program, program
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = p.cmd.Start()
	if cerr := program.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it is gone where the test went well
		for range p.more {
			continue
		}
	})
	go func() {
		defer close(p.more)
		for {
			buf := make([]byte, 4096)
			n, err := tty.Read(buf)
			if n > 0 {
				p.more <- buf[:n]
			}
			if err != nil { // EIO when nobody has the other end open
				return
			}
		}
	}()
	return p
}

// sees waits for a text after what was waited for before.
func (p *onTerminal) sees(text string) {
	p.t.Helper()
	timeout := time.After(patienceWithPrograms)
	for {
		if i := strings.Index(p.shown.String()[p.seen:], text); i >= 0 {
			p.seen += i + len(text)
			return
		}
		select {
		case data, ok := <-p.more:
			if !ok {
				p.t.Fatalf("ended without %q:\n%s", text, p.shown.String())
			}
			p.shown.Write(data)
		case <-timeout:
			p.t.Fatalf("no %q within %v:\n%s", text, patienceWithPrograms, p.shown.String())
		}
	}
}

func (p *onTerminal) types(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.tty, text); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the end of the program and wants an exit code; it returns all that was shown.
func (p *onTerminal) ends(code int) string {
	p.t.Helper()
	timeout := time.After(patienceWithPrograms)
	for open := true; open; {
		var data []byte
		select {
		case data, open = <-p.more:
			p.shown.Write(data)
		case <-timeout:
			p.t.Fatalf("not ended within %v:\n%s", patienceWithPrograms, p.shown.String())
		}
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, want %d:\n%s", got, code, p.shown.String())
	}
	return p.shown.String()
}

// terminalFleet starts hosts and returns the arguments that are the same for all runs on them.
func terminalFleet(t *testing.T, opts sshfleet.Options) []string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mr") // short: sockets are made in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	opts.Dir = filepath.Join(dir, "f")
	f, err := sshfleet.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	prefix := filepath.Join(dir, "p")
	if err := os.Mkdir(prefix, 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--known-hosts", f.KnownHostsFile(), "--prefix", prefix}
	if opts.Login == sshfleet.LoginKey {
		args = append(args, "-i", f.KeyFile())
	}
	for _, h := range f.Hosts() {
		args = append(args, "-H", h.Name()+"="+h.User()+"@"+h.Addr())
	}
	return args
}

func withPassword(names ...string) sshfleet.Options {
	return sshfleet.Options{Names: names, Login: sshfleet.LoginPassword, Password: "hunter2"}
}

func TestAskPassAsksOnceForAllHosts(t *testing.T) {
	p := startOnTerminal(t, append(terminalFleet(t, withPassword("h1", "h2", "h3")), "--ask-pass", "--", "true")...)
	p.sees("Password for ")
	p.types("hunter2\r")
	out := p.ends(exitOK)
	if strings.Count(out, "assword") != 1 || strings.Contains(out, "hunter2") {
		t.Errorf("not one question without an echo:\n%s", out)
	}
}

func TestInteractiveAsksThreeTimes(t *testing.T) {
	args := append(terminalFleet(t, withPassword("h1")), "--interactive", "--", "true")
	p := startOnTerminal(t, args...)
	for _, password := range []string{"wrong\r", "also wrong\r", "hunter2\r"} {
		p.sees("Password for ")
		p.types(password)
	}
	if out := p.ends(exitOK); strings.Contains(out, "wrong") || strings.Contains(out, "hunter2") {
		t.Errorf("a password was shown:\n%s", out)
	}

	p = startOnTerminal(t, append([]string{"run", "--output", "lines"}, args[1:]...)...)
	for range 3 {
		p.sees("Password for ")
		p.types("wrong\r")
	}
	if out := p.ends(exitFailed); strings.Count(out, "1 connect") > 1 || !strings.Contains(out, "3 passwords") {
		t.Errorf("not given up after three passwords:\n%s", out)
	}
}

// Two hosts that ask at the same time ask one after the other, each for itself.
func TestPromptsComeOneAtATime(t *testing.T) {
	p := startOnTerminal(t, append(terminalFleet(t, withPassword("h1", "h2")), "--interactive", "--", "true")...)
	for range 2 {
		p.sees("Password for ")
		p.types("hunter2\r")
	}
	p.ends(exitOK)
}

// TestQuestionsInTheLiveView: the view gives way to questions, also to the last one before the end, and never stands in the way of that.
func TestQuestionsInTheLiveView(t *testing.T) {
	args := append(terminalFleet(t, withPassword("h1", "h2")), "--interactive", "--output", "live", "--", "true")
	for range 5 { // the end may come at any moment after the last answer
		p := startOnTerminal(t, args...)
		for range 6 { // the view, too, tells of passwords
			p.sees("Password for ")
			p.types("wrong\r")
		}
		if out := p.ends(exitFailed); strings.Contains(out, "wrong") || !strings.Contains(out, "0 of 2 hosts ok") {
			t.Errorf("a password was shown, or no report:\n%s", out)
		}
	}
}

func TestInterruptAtTheTerminal(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	p := startOnTerminal(t, append(terminalFleet(t, sshfleet.Options{Names: []string{"h1"}}), "--output", "lines", "--", "sh", "-c", `trap '' INT TERM; echo ready; while :; do sleep 0.1; done`)...)
	p.sees("ready")
	p.types("\x03")
	p.sees("mgmt-remote: stopping: payloads are asked to end")
	p.types("\x03")
	p.sees("mgmt-remote: stopping now: payloads are killed")
	out := p.ends(exitInterrupted)
	if !strings.Contains(out, "8 clean up") || !strings.Contains(out, "9 disconnect") {
		t.Errorf("not cleaned up:\n%s", out)
	}
	if !strings.Contains(out, "\x1b[") {
		t.Errorf("no colour on a terminal:\n%s", out)
	}
}

func TestNoColor(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	args := terminalFleet(t, sshfleet.Options{Names: []string{"h1"}})
	p := startOnTerminal(t, append(args, "--output", "lines", "--", "printf", `\033[2Jplain\n`)...)
	if out := p.ends(exitOK); strings.Contains(out, "\x1b") || !strings.Contains(out, "plain") {
		t.Errorf("escapes reached the terminal: %q", out)
	}
}
