package sshd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A server in a network namespace of its own can be rebooted, as far as those can tell who talk to it: every process of the
// namespace ends, whatever its session, the boot ID is another one, and the server starts again with the same files. What is faked
// is the boot ID: a file that is mounted over the kernel's, in the mount namespace of the server. The kernel goes on, so what a power
// cut would take from the disk is still there.

// newBoot gives the server a boot ID that it never had.
func (s *Server) newBoot() {
	s.t.Helper()
	id, err := os.ReadFile("/proc/sys/kernel/random/uuid") // another one each time
	if err != nil {
		s.t.Fatal(err)
	}
	write(s.t, s.bootID, string(id))
}

// PowerCycle kills all at once (SIGKILL), empties the directories that are in memory, and starts the server again.
func (s *Server) PowerCycle(inMemory ...string) {
	s.t.Helper()
	s.restarted(func() {}, inMemory)
}

// Reboot is an orderly one: no connection is taken any more, everybody gets SIGTERM and, if that isn't enough, SIGKILL.
func (s *Server) Reboot() {
	s.t.Helper()
	s.restarted(func() {
		s.end(syscall.SIGTERM)
		s.signalAll(syscall.SIGTERM)
		s.awaitNobody()
	}, nil)
}

func (s *Server) restarted(prepare func(), inMemory []string) {
	s.t.Helper()
	if s.bootID == "" {
		s.t.Fatal("only a server with Options.NetNS can be rebooted")
	}
	prepare()
	for deadline := time.Now().Add(patience); len(s.signalAll(syscall.SIGKILL)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("processes %v outlive SIGKILL", s.processes())
		}
	}
	s.end(syscall.SIGKILL)
	s.newBoot()
	for _, dir := range inMemory {
		entries, err := os.ReadDir(dir)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	if err := s.run(s.port); err != nil {
		s.t.Fatalf("cannot start %s again: %v", s.program, err)
	}
}

// awaitNobody gives the processes half the patience to end by themselves.
func (s *Server) awaitNobody() {
	for deadline := time.Now().Add(patience / 2); len(s.processes()) > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

// signalAll signals every process of the namespace and returns them.
func (s *Server) signalAll(sig syscall.Signal) []int {
	s.t.Helper()
	pids := s.processes()
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.t.Errorf("%v to process %d: %v", sig, pid, err)
		}
	}
	return pids
}

// processes are those of the server's network namespace, which its sessions, and what they started, can't leave.
func (s *Server) processes() []int {
	s.t.Helper()
	out, err := exec.Command("ip", "netns", "pids", s.netns).Output() // ends by itself
	if err != nil {
		s.t.Fatalf("list the processes of %s: %v", s.netns, err)
	}
	var pids []int
	for _, word := range strings.Fields(string(out)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			s.t.Fatalf("ip netns pids: %q", word)
		}
		pids = append(pids, pid)
	}
	return slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() })
}
