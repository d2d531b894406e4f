package shim

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// smallDisk puts the session on a file system of its own that only this test's thread, and what is started from it, sees.
func (s *session) smallDisk(size string) {
	s.t.Helper()
	if os.Geteuid() != 0 {
		s.t.Fatal("this test must run as root: it mounts a file system in its own namespace")
	}
	// The thread is never unlocked, so that it ends with the test and its namespace with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		s.t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		s.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", s.base, "tmpfs", 0, "mode=700,size="+size); err != nil {
		s.t.Fatal(err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		s.killShim()
		if err := unix.Unmount(s.base, unix.MNT_DETACH); err != nil {
			s.t.Error(err)
		}
	})
}

// fill leaves no room on the session's disk.
func (s *session) fill() {
	s.t.Helper()
	f, err := os.Create(filepath.Join(s.base, "filler"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		s.t.Fatal(err)
	}
}

func (s *session) free() {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.base, "filler")); err != nil {
		s.t.Fatal(err)
	}
}

// obedient is a session whose payload does what is written to the returned file, line by line.
func obedient(t *testing.T) (*session, io.Writer) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "orders")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	orders, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = orders.Close() })
	return script(t, `while read -r order; do eval "$order"; done <`+fifo), orders
}

// lost reads frames that must be gaps, until they reach up to an offset.
func (c *client) lost(from, to uint64) {
	c.t.Helper()
	for from < to {
		f := c.recv()
		if g := f.GetGap(); g.GetFrom() != from || g.GetTo() <= from || g.GetTo() > to {
			c.t.Fatalf("got %v at %d, want a gap up to %d", f, from, to)
		}
		from = f.GetGap().To
	}
}

func TestDiskFull(t *testing.T) {
	s, orders := obedient(t)
	s.smallDisk("1m")
	s.write()
	c, w := s.welcome("start", nil)
	order := func(text string) {
		t.Helper()
		if _, err := io.WriteString(orders, text+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	order("echo before")
	c.outputUntil("before\n")
	s.fill()

	// What can't be kept is a gap, to who is there and to who comes.
	order("head -c 10000 /dev/zero; echo")
	c.lost(7, 10_008)
	c.kill()
	c, again := s.welcome("attach", func(h *wire.Hello) { h.OutputFrom = 7 })
	if again.PayloadPid != w.PayloadPid || again.OutputEnd != 10_008 {
		t.Errorf("welcome %v", again)
	}
	c.lost(7, 10_008)
	order("echo still lost")
	c.lost(10_008, 10_019)

	s.free()
	order("echo after")
	if f := c.recv(); string(f.GetOutput().GetData()) != "after\n" || f.GetOutput().Offset != 10_019 {
		t.Errorf("got %v", f)
	}

	// The exit reaches everybody, and the disk as soon as there is room.
	s.fill()
	order("exit 5")
	for range 2 {
		if f := c.recv(); f.GetExit().GetCode() != 5 || f.GetExit().GetOutputEnd() != 10_025 {
			t.Errorf("got %v", f)
		}
		c.kill()
		c, _ = s.welcome("attach", func(h *wire.Hello) { h.OutputFrom = 10_025 })
	}
	if exit, err := loadExit(s.dir); exit != nil || err != nil {
		t.Fatalf("the exit record was written to a full disk (%v, %v): this tests nothing", exit, err)
	}
	if log := s.shimLog(); strings.Count(log, "output is lost") > 2 {
		t.Errorf("a full disk fills the log:\n%s", log)
	}
	s.free()
	eventually(t, "exit record written", func() bool { e, err := loadExit(s.dir); return err == nil && e.GetCode() == 5 })
	s.killShim()
	_, w = s.welcome("attach", nil)
	if w.Exit.GetCode() != 5 || w.Exit.GetError() != "" {
		t.Errorf("welcome of the next shim: %v", w)
	}
}

// TestRestartOnAFullDisk: the payload is started again, and the record follows when there is room.
func TestRestartOnAFullDisk(t *testing.T) {
	s, orders := obedient(t)
	s.spec.Restart = wire.Restart{Policy: wire.RestartAlways, First: 10 * time.Millisecond}
	s.smallDisk("1m")
	s.write()
	c, w := s.welcome("start", nil)
	s.fill()
	if _, err := io.WriteString(orders, "exit 1\n"); err != nil {
		t.Fatal(err)
	}
	r := c.recv().GetRestarted()
	if r.GetCount() != 1 || r.GetPayloadPid() == w.PayloadPid {
		t.Fatalf("got %v", r)
	}
	c.kill()
	c, w = s.welcome("attach", nil)
	if w.PayloadPid != r.PayloadPid || w.Restarts != 1 || s.record().Starts != 1 {
		t.Errorf("welcome %v, record %+v", w, s.record())
	}
	s.free()
	eventually(t, "record written", func() bool { r := s.record(); return r.Starts == 2 && r.Payload.PID == int(w.PayloadPid) })
	c.finish(0, 0, true)
	if _, _, exit := c.collect(0); exit.Signal == 0 { // any of the three that come at once may be the first to end it
		t.Errorf("exit %v", exit)
	}
}

// TestStartOnAFullDisk: nothing was started, and the initiator is told why.
func TestStartOnAFullDisk(t *testing.T) {
	s := newSession(t, "true")
	s.smallDisk("1m")
	s.write()
	s.fill()
	c := s.pipe("start")
	if r := c.recv().GetRefused(); r.GetReason() != wire.Refused_START_FAILED || !strings.Contains(r.GetText(), "no space left") {
		t.Errorf("got %v", r)
	}
	s.free()
	c, w := s.welcome("start", nil)
	if _, _, exit := c.collect(0); exit.Code != 0 || !w.StartedNow {
		t.Errorf("welcome %v, exit %v", w, exit)
	}
}
