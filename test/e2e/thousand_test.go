//go:build linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hostsVariable says how many simulated hosts TestManyHosts has; `make e2e` sets it.
const hostsVariable = "MGMT_REMOTE_E2E_HOSTS"

// simhosts is simulated hosts in a process of their own, so that what the initiator needs can be measured.
type simhosts struct {
	Hosts []struct {
		Name string `json:"name"`
		Addr string `json:"addr"`
		Port int    `json:"port"`
	} `json:"hosts"`
	Identity   string `json:"identity"`
	KnownHosts string `json:"known_hosts"`

	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
}

// simSummary is what the process says at its end.
type simSummary struct {
	Connections  int      `json:"connections"`
	Starts       int      `json:"starts"`
	SessionsLeft int      `json:"sessions_left"`
	Unexpected   []string `json:"unexpected"`
	CPUSeconds   float64  `json:"cpu_seconds"`
}

// startSimhosts builds and starts them.
func (l *lab) startSimhosts(n int, payload string) *simhosts {
	l.t.Helper()
	path := filepath.Join(l.dir, "simhostd")
	build := exec.CommandContext(l.t.Context(), "go", "build", "-o", path, "../simhost/simhostd")
	if out, err := build.CombinedOutput(); err != nil {
		l.t.Fatalf("build simhostd: %v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(l.t.Context())
	s := &simhosts{cmd: exec.CommandContext(ctx, path, "--hosts", strconv.Itoa(n), "--payload", payload)}
	s.cmd.Env = l.env()
	s.cmd.Stderr = os.Stderr
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		cancel()
		_ = s.cmd.Wait() // the second time, or it was killed
	})
	s.stdin, s.lines = stdin, bufio.NewScanner(stdout)
	s.lines.Buffer(nil, 64<<20)
	s.read(l.t, s)
	return s
}

// read takes the next line of output.
func (s *simhosts) read(t *testing.T, into any) {
	t.Helper()
	if !s.lines.Scan() {
		t.Fatalf("simhostd says nothing: %v", s.lines.Err())
	}
	if err := json.Unmarshal(s.lines.Bytes(), into); err != nil {
		t.Fatal(err)
	}
}

// end stops the hosts and fails the test if one of them saw what it did not expect, or has a session left.
func (s *simhosts) end(t *testing.T) simSummary {
	t.Helper()
	if err := s.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	var sum simSummary
	s.read(t, &sum)
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("simhostd: %v", err)
	}
	if len(sum.Unexpected) > 0 || sum.SessionsLeft != 0 {
		t.Errorf("unexpected: %d, such as %.3q; sessions left: %d", len(sum.Unexpected), sum.Unexpected, sum.SessionsLeft)
	}
	return sum
}

// args are the arguments of `mgmt-remote run` for all of them, and more.
func (s *simhosts) args(more ...string) []string {
	args := []string{"run", "--json", "-i", s.Identity, "--known-hosts", s.KnownHosts}
	for _, h := range s.Hosts {
		args = append(args, "-H", fmt.Sprintf("%s=%s:%d", h.Name, h.Addr, h.Port))
	}
	return append(args, more...)
}

func manyHosts(t *testing.T) int {
	t.Helper()
	text := os.Getenv(hostsVariable)
	if text == "" {
		return 100
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number of hosts", hostsVariable, text)
	}
	return n
}

// TestManyHosts has the program work on very many hosts at once, first with everything to copy, then with everything cached, and then on
// few at a time. It tells what the initiator itself needed. Not parallel: others would be measured too.
func TestManyHosts(t *testing.T) {
	n := manyHosts(t)
	l := emptyLab(t)
	l.runFor += time.Duration(n) * time.Second / 4 // the hosts want CPU as well
	sim := l.startSimhosts(n, "exit=0,run=50ms")
	baseline := l.measure(t, "one host", 1, l.start(sim.one("--", "payload")...))
	first := l.measure(t, "first run", n, l.start(sim.args("--", "payload")...))
	second := l.measure(t, "second run, all cached", n, l.start(sim.args("--", "payload")...))
	few := l.measure(t, "all cached, a few at a time", n, l.start(sim.args("--max-connections", fmt.Sprint(max(1, n/20)), "--", "payload")...))
	for _, r := range []struct {
		run     *measured
		n, sent int
	}{{baseline, 1, 1}, {first, n, n - 1}, {second, n, 0}, {few, n, 0}} {
		r.run.wantCode(0)
		r.run.checkResults(r.n, r.sent)
	}
	sum := sim.end(t)
	if want := 3*n + 1; sum.Starts != want || sum.Connections != want {
		t.Errorf("%d starts, %d connections, want %d of each: one per host and run", sum.Starts, sum.Connections, want)
	}
	// Told, not judged: what a busy machine says of CPU time is no reason to fail.
	t.Logf("each further host, all cached: %.1f ms of the initiator's CPU", (second.cpu-baseline.cpu).Seconds()*1000/float64(n))
}

// one is args for one host alone.
func (s *simhosts) one(more ...string) []string {
	only := *s
	only.Hosts = s.Hosts[:1]
	return only.args(more...)
}

// measured is a run of the program with what it needed.
type measured struct {
	*process
	cpu  time.Duration
	peak int64 // bytes
}

// measure waits for the end of a run and tells what the process needed.
func (l *lab) measure(t *testing.T, name string, n int, p *process) *measured {
	t.Helper()
	since := time.Now()
	m := &measured{process: p, peak: p.peakUntilEnd()}
	wall := time.Since(since)
	m.cpu = p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	t.Logf("%s: %d hosts in %.2f s; the initiator: %.2f s of CPU (%.2f ms per host), peak memory %.1f MB (%.0f KB per host)",
		name, n, wall.Seconds(), m.cpu.Seconds(), m.cpu.Seconds()*1000/float64(n), float64(m.peak)/1e6, float64(m.peak)/1e3/float64(n))
	return m
}

// peakUntilEnd waits for the end of the process and returns its peak memory in bytes. What the kernel tells of a process that
// ended would not do: that is at least what this one, which started it, had then.
func (p *process) peakUntilEnd() (peak int64) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if kb, err := p.memory("VmHWM"); err == nil {
			peak = kb << 10
		}
		select {
		case <-again.C:
		case <-p.ended:
			return peak
		}
	}
}

// memory reads a line with kilobytes in /proc about the running program.
func (p *process) memory(line string) (kb int64, err error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), line+":")
	fields := strings.Fields(rest)
	if len(fields) < 2 || fields[1] != "kB" {
		return 0, fmt.Errorf("no %s in %s", line, status)
	}
	return strconv.ParseInt(fields[0], 10, 64)
}

// checkResults fails the test unless n hosts succeeded at the first attempt, and as many as sent were sent the binary.
func (m *measured) checkResults(n, sent int) {
	m.t.Helper()
	end := m.await("run_finished", func(e event) bool { return e.Type == "run_finished" })
	if len(end.Results) != n {
		m.t.Errorf("%d results, want %d", len(end.Results), n)
	}
	for _, r := range end.Results {
		if r.Outcome != "ok" || r.Attempts != 1 || r.LeftBehind != "" {
			m.t.Errorf("%+v", r)
		}
		if r.BytesSent > 100_000 {
			sent--
		}
	}
	if sent != 0 {
		m.t.Errorf("%d hosts more than expected had the binary already", sent)
	}
}

// TestHeldHosts has payloads run on very many hosts and measures what holding them costs, then presses ^C.
func TestHeldHosts(t *testing.T) {
	n := manyHosts(t)
	// What is held is measured, not the garbage of the start, which on a busy machine is collected late.
	t.Setenv("GOGC", "50")
	l := emptyLab(t)
	l.runFor += time.Duration(n)*time.Second/4 + settleIn // the hosts want CPU as well
	sim := l.startSimhosts(n, "run=0s")
	one := l.hold(t, sim.one("--", "payload"), 1, math.MaxInt64)
	l.hold(t, sim.args("--", "payload"), n, math.MaxInt64) // has the bytes copied
	most := int64(math.MaxInt64)
	if n >= 100 {
		most = one.rss + heldBudget*int64(n)
	}
	all := l.hold(t, sim.args("--", "payload"), n, most)
	perHost := float64(all.rss-one.rss) / float64(n)
	t.Logf("%d hosts held: %.1f MB in memory, %.1f KB per host above the first; %.1f open files per host",
		n, float64(all.rss)/1e6, perHost/1e3, float64(all.files-one.files)/float64(n))
	if all.rss > most {
		t.Errorf("%.0f KB per held host, the budget is %d KB", perHost/1e3, int(heldBudget/1e3))
	}
	if n >= 100 && all.files-one.files > n+n/10 {
		t.Errorf("%d open files for %d hosts: more than the connection of each", all.files, n)
	}
	sim.end(t)
}

// heldBudget is how much memory a held host may cost, in bytes. The garbage of the start goes with the next collection, which is settleIn
// away at most: the runtime makes one every two minutes, and gives back after it.
const (
	heldBudget = 200e3
	settleIn   = 3 * time.Minute
)

// held is what a process has while it holds hosts.
type held struct {
	rss     int64 // bytes
	files   int
	threads int
}

// hold runs until all payloads run, looks at the process, and interrupts it. It looks again while that has more memory than it may.
func (l *lab) hold(t *testing.T, args []string, n int, most int64) held {
	t.Helper()
	p := l.start(args...)
	from := 0
	for range n {
		for e := (event{}); e.Type != "payload_started"; from++ {
			e = p.awaitFrom(from, "payload_started", func(event) bool { return true })
		}
	}
	h := p.look()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for settled := time.After(settleIn); h.rss > most; h = p.look() {
		select {
		case <-again.C:
			continue
		case <-settled:
		}
		break
	}
	p.interrupt(1)
	p.wantCode(130)
	return h
}

// look reads /proc about the running program.
func (p *process) look() held {
	p.t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	kb, err := p.memory("VmRSS")
	if err != nil {
		p.t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		p.t.Fatal(err)
	}
	threads, err := os.ReadDir(filepath.Join(proc, "task"))
	if err != nil {
		p.t.Fatal(err)
	}
	return held{rss: kb << 10, files: len(files), threads: len(threads)}
}
