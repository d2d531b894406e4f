package sshconn

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// pty opens a pseudo-terminal; master is the person's side.
func pty(t *testing.T) (master *os.File, slave string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { _ = master.Close() })
	raw, err := master.SyscallConn()
	must(t, err)
	var n int
	must(t, raw.Control(func(fd uintptr) {
		must(t, unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0))
		n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	}))
	must(t, err)
	slave = "/dev/pts/" + strconv.Itoa(n)
	keep, err := os.OpenFile(slave, os.O_RDWR|unix.O_NOCTTY, 0) // while nobody has it open, the master reads EIO
	must(t, err)
	t.Cleanup(func() { _ = keep.Close() })
	return master, slave
}

func TestTerminalPrompter(t *testing.T) {
	master, slave := pty(t)
	p := newTerminal(slave)
	type answer struct {
		secret string
		err    error
	}
	ask := func(ctx context.Context) <-chan answer {
		result := make(chan answer, 1)
		go func() {
			s, err := p.Secret(ctx, "Password: ")
			result <- answer{s.Reveal(), err}
		}()
		return result
	}
	// expect reads what the person sees up to text.
	expect := func(text string) string {
		t.Helper()
		must(t, master.SetReadDeadline(time.Now().Add(patience)))
		var seen []byte
		buf := make([]byte, 256)
		for !bytes.Contains(seen, []byte(text)) {
			n, err := master.Read(buf)
			if err != nil {
				t.Fatalf("saw %q: %v", seen, err)
			}
			seen = append(seen, buf[:n]...)
		}
		return string(seen)
	}
	result := ask(t.Context())
	expect("Password: ")
	_, err := master.WriteString("hunter2\r")
	must(t, err)
	if a := <-result; a.err != nil || a.secret != "hunter2" {
		t.Errorf("%+v", a)
	}
	if seen := expect("\n"); strings.Contains(seen, "hunter2") {
		t.Errorf("echoed: %q", seen)
	}

	result = ask(t.Context())
	expect("Password: ")
	_, err = master.WriteString("\x03") // ^C
	must(t, err)
	if a := <-result; fault.KindOf(a.err) != fault.Canceled {
		t.Errorf("%+v", a)
	}

	ctx, cancel := context.WithCancel(t.Context())
	result = ask(ctx)
	expect("Password: ")
	waiting := ask(ctx) // its turn never comes
	cancel()
	for _, r := range []<-chan answer{result, waiting} {
		if a := <-r; !errors.Is(a.err, context.Canceled) {
			t.Errorf("%+v", a)
		}
	}
	if _, err := newTerminal(filepath.Join(t.TempDir(), "none")).Secret(t.Context(), "x"); err == nil {
		t.Error("no terminal, no error")
	}
}
