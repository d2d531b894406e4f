package leftovers

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Process is one process as /proc shows it.
type Process struct {
	PID, PPID  int
	PGID, SID  int    // process group and session, proc(5) fields 5 and 6 of stat
	Executable string // target of /proc/PID/exe; empty where it can't be read (zombies, other users)
	Command    string // the command line, words joined with blanks; the name in brackets for a zombie
	Why        string // what made it match: "cwd", "exe", "cmdline" or "environ"; empty from [All]
}

// String is one line for a person.
func (p Process) String() string {
	s := fmt.Sprintf("pid %d (parent %d, session %d): %s", p.PID, p.PPID, p.SID, p.Command)
	if p.Why != "" {
		s += " [" + p.Why + "]"
	}
	return s
}

// All lists every process of this machine in the order of their PIDs, this one included.
func All() ([]Process, error) {
	return scan(func(string, *Process) bool { return true })
}

// Processes lists the processes whose working directory, executable, command line or environment mentions dir. Zombies
// mention nothing. The calling process and its ancestors are left out: they know the directory because they look for it.
func Processes(dir string) ([]Process, error) {
	names, err := namesOf(dir)
	if err != nil {
		return nil, err
	}
	all, err := scan(func(proc string, p *Process) bool {
		p.Why = whyMentions(proc, names)
		return p.Why != ""
	})
	if err != nil {
		return nil, err
	}
	family, err := ancestors()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(p Process) bool { return family[p.PID] }), nil
}

// WithEnv lists the processes that were started with name=value in their environment, whatever they did to their
// session, parent or working directory since. The calling process is left out.
func WithEnv(name, value string) ([]Process, error) {
	want := []byte(name + "=" + value)
	self := os.Getpid()
	return scan(func(proc string, p *Process) bool {
		if p.PID == self {
			return false
		}
		environ, err := os.ReadFile(proc + "/environ")
		if err != nil { // gone meanwhile, or not ours to read
			return false
		}
		for entry := range bytes.SplitSeq(environ, []byte{0}) {
			if bytes.Equal(entry, want) {
				p.Why = "environ"
				return true
			}
		}
		return false
	})
}

// scan calls keep for every process with its /proc directory and returns those it wants. Processes that end
// meanwhile are no error.
func scan(keep func(proc string, p *Process) bool) ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []Process
	numeric := false
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		numeric = true
		proc := "/proc/" + e.Name()
		p, err := read(proc, pid)
		if err != nil {
			continue
		}
		if keep(proc, &p) {
			found = append(found, p)
		}
	}
	if !numeric {
		return nil, errors.New("list processes: /proc shows none; is it mounted?")
	}
	slices.SortFunc(found, func(a, b Process) int { return a.PID - b.PID })
	return found, nil
}

func read(proc string, pid int) (Process, error) {
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return Process{}, err
	}
	p, err := parseStat(string(stat))
	if err != nil {
		return Process{}, err
	}
	p.PID = pid
	if exe, err := os.Readlink(proc + "/exe"); err == nil {
		p.Executable = strings.TrimSuffix(exe, " (deleted)")
	}
	if cmdline, err := os.ReadFile(proc + "/cmdline"); err == nil && len(cmdline) > 0 {
		p.Command = strings.ReplaceAll(strings.TrimRight(string(cmdline), "\x00"), "\x00", " ")
	}
	return p, nil
}

// parseStat reads /proc/PID/stat: "PID (NAME) STATE PPID PGRP SESSION …". NAME may hold blanks and parentheses, so
// the last ')' counts.
func parseStat(stat string) (Process, error) {
	from, to := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if from < 0 || to < from {
		return Process{}, fmt.Errorf("unexpected stat %q", stat)
	}
	fields := strings.Fields(stat[to+1:])
	if len(fields) < 4 {
		return Process{}, fmt.Errorf("unexpected stat %q", stat)
	}
	var n [3]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(fields[i+1]); err != nil {
			return Process{}, fmt.Errorf("unexpected stat %q: %w", stat, err)
		}
	}
	return Process{PPID: n[0], PGID: n[1], SID: n[2], Command: "[" + stat[from+1:to] + "]"}, nil
}

func whyMentions(proc string, names []string) string {
	for _, link := range []string{"cwd", "exe"} {
		if target, err := os.Readlink(proc + "/" + link); err == nil && mentionsAny(target, names) {
			return link
		}
	}
	for _, file := range []string{"cmdline", "environ"} {
		if data, err := os.ReadFile(proc + "/" + file); err == nil && mentionsAny(string(data), names) {
			return file
		}
	}
	return ""
}

// namesOf returns dir as an absolute path, as it is written and as the kernel knows it (symlinks resolved).
func namesOf(dir string) ([]string, error) {
	if dir == "" {
		return nil, errors.New("no directory given")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if abs == "/" {
		return nil, errors.New("everything is below /")
	}
	names := []string{abs}
	real, err := filepath.EvalSymlinks(abs)
	switch {
	case err == nil && real != abs:
		names = append(names, real)
	case err != nil && !errors.Is(err, fs.ErrNotExist): // a removed directory may still be mentioned
		return nil, err
	}
	return names, nil
}

func mentionsAny(s string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return mentions(s, n) })
}

// mentions reports whether s holds path as a whole path or as the beginning of a longer one: /tmp/a is mentioned by
// "--dir=/tmp/a/b", but neither by "/tmp/ab" nor by "/private/tmp/a".
func mentions(s, path string) bool {
	for from := 0; ; {
		i := strings.Index(s[from:], path)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(path)
		if (start == 0 || !nameByte(s[start-1])) && (end == len(s) || !nameByte(s[end])) {
			return true
		}
		from = start + 1
	}
}

// nameByte reports whether c continues a file name rather than ending it.
func nameByte(c byte) bool {
	return c == '.' || c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

func ancestors() (map[int]bool, error) {
	family := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !family[pid]; {
		family[pid] = true
		p, err := read("/proc/"+strconv.Itoa(pid), pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) { // the parent just ended
			break
		}
		if err != nil {
			return nil, err
		}
		pid = p.PPID
	}
	return family, nil
}
