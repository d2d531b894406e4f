//go:build unix && !linux

package shim

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func selfProgram() (string, error) { return os.Executable() }

// bootID is empty: what there is differs from system to system, and the initiator's probe looks for it.
func bootID() string { return "" }

// startOf returns the start time of a process, "" where it is gone.
func startOf(pid int) string {
	cmd := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)) //nolint:noctx // ends by itself
	cmd.Env = []string{"LC_ALL=C", "PATH=/bin:/usr/bin"}
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(out)), "_")
}

func (g group) alive() bool { return g.pgid > 0 && !errors.Is(unix.Kill(-g.pgid, 0), unix.ESRCH) }

// count can't be told here.
func (group) count() int { return 0 }

func (g group) signal(sig syscall.Signal) error {
	if g.pgid <= 0 {
		return nil
	}
	if err := unix.Kill(-g.pgid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// leftover returns the group that a dead shim's payload may have left behind. Only a leader that still lives proves that
// the group is ours.
func leftover(rec record) (group, bool) {
	if rec.Payload.PID == 0 || rec.Payload.Start == "" || startOf(rec.Payload.PID) != rec.Payload.Start {
		return group{}, false
	}
	return group{pgid: rec.Payload.PID, session: rec.Starter.PID}, true
}

func payloadAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func maxRSSKiB(ru *syscall.Rusage) int64 {
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return int64(ru.Maxrss) / 1024 // bytes there, KiB elsewhere (getrusage(2))
	}
	return int64(ru.Maxrss) //nolint:unconvert // 32 bits on some platforms
}

func lockThread() {}

var processStart = time.Now()

// clocks has one clock only: whether it goes on during a suspend differs from system to system.
func clocks() reading {
	now := time.Since(processStart)
	return reading{awake: now, boot: now}
}
