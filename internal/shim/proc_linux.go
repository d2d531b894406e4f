package shim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// selfProgram is this program's file, whatever happened to its name since it was started.
func selfProgram() (string, error) { return "/proc/self/exe", nil }

func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // no /proc: the initiator's probe tells the same
	}
	return strings.TrimSpace(string(data))
}

// stat is what /proc/PID/stat tells of a process (proc(5)).
type stat struct {
	state         byte
	pgid, session int
	start         string
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(data)
}

func parseStat(data []byte) (stat, error) {
	// The second field is the program's name in parentheses, with anything in it.
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return stat{}, errors.New("stat without a name")
	}
	f := strings.Fields(string(data[i+1:]))
	if len(f) < 20 {
		return stat{}, errors.New("stat is too short")
	}
	pgid, err1 := strconv.Atoi(f[2])
	session, err2 := strconv.Atoi(f[3])
	return stat{state: f[0][0], pgid: pgid, session: session, start: f[19]}, errors.Join(err1, err2)
}

// startOf returns the start time of a process, "" where it is gone.
func startOf(pid int) string {
	st, err := readStat(pid)
	if err != nil || st.state == 'Z' || st.state == 'X' {
		return ""
	}
	return st.start
}

// members returns the living processes of the group. The kernel uses no process ID again while it is the ID of a group
// or a session, so a process that is in both is ours.
func (g group) members() ([]int, error) {
	if g.pgid != 0 && errors.Is(unix.Kill(-g.pgid, 0), unix.ESRCH) {
		return nil, nil
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close() //nolint:errcheck // only read
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		st, err := readStat(pid)
		if err != nil || st.state == 'Z' || st.state == 'X' {
			continue // gone meanwhile
		}
		if st.session == g.session && (g.pgid == 0 || st.pgid == g.pgid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func (g group) alive() bool { return g.count() > 0 }

// count returns how many live, 0 where that can't be told.
func (g group) count() int {
	pids, err := g.members()
	if err != nil {
		return 0
	}
	return len(pids)
}

// signal sends sig to every member. A member that is gone meanwhile is none.
func (g group) signal(sig syscall.Signal) error {
	pids, err := g.members()
	if err != nil {
		return err
	}
	if g.pgid != 0 && len(pids) > 0 {
		pids = []int{-g.pgid} // it is our group: the kernel reaches also those that are forked just now
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("send %v to %d: %w", sig, pid, err)
		}
	}
	return nil
}

// leftover returns the group that a dead shim's payload may have left behind, and whether there can be one.
func leftover(rec record) (group, bool) {
	if rec.Starter.PID == 0 || rec.BootID != bootID() {
		return group{}, false
	}
	if start := startOf(rec.Starter.PID); start != "" && start != rec.Starter.Start {
		return group{}, false // the session's ID was used again: nobody of it is left
	}
	return group{pgid: rec.Payload.PID, session: rec.Starter.PID}, true
}

// payloadAttr is how the payload is started: in a process group of its own, with a SIGTERM for it when the shim dies. That signal follows
// the thread that started it, which therefore never ends.
func payloadAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

func maxRSSKiB(ru *syscall.Rusage) int64 { return int64(ru.Maxrss) } //nolint:unconvert // 32 bits on some platforms

// lockThread keeps the calling goroutine on its thread for ever: the thread ends with the goroutine.
func lockThread() { runtime.LockOSThread() }

// clocks reads CLOCK_MONOTONIC and CLOCK_BOOTTIME (clock_gettime(2)).
func clocks() reading {
	read := func(id int32) time.Duration {
		var t unix.Timespec
		if err := unix.ClockGettime(id, &t); err != nil {
			return 0 // not on any kernel that Go runs on
		}
		return time.Duration(t.Nano())
	}
	awake := read(unix.CLOCK_MONOTONIC)
	return reading{awake: awake, boot: read(unix.CLOCK_BOOTTIME)}
}
