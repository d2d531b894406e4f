//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestBadEnds(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	p := l.run(l.args("--", "sh", "-c", "case {{.Host}} in h1) exit 7;; h2) kill -9 $$;; esac; echo fine >&2")...)
	p.wantCode(2)
	wantText(t, p.plain.String(), `^h1 +payload failed, exit status 7 `, `^h2 +payload failed, signal 9 `, `^h3 +ok `)
	for _, h := range l.hosts {
		h.checkNoProcess(t, "mgmt-remote-"+fmt.Sprint(os.Getuid()))
	}
}

func TestNotRunnable(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	for program, reason := range map[string]string{
		"/no/such/program":   "cannot run /no/such/program: the file, or the interpreter it names, does not exist",
		"no-such-program":    `there is no program "no-such-program" in PATH`,
		"/etc/passwd":        "cannot run /etc/passwd: it is not executable",
		"/etc":               "cannot run /etc: ",
		"{{.Dir}}/graph.yml": "cannot run /var/tmp/.*/h1/graph.yml: the file",
	} {
		p := l.run(l.args("--", program)...)
		p.wantCode(2)
		wantText(t, p.plain.String(), `^h1 +payload failed, not run `, `^h1: .*`+reason)
	}
	l.hosts[0].checkNoProcess(t, "mgmt-remote-"+fmt.Sprint(os.Getuid()))
}

func TestBinaryAndTemplates(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	script := l.file("check.sh", `#!/bin/sh
printf '%s\n' "$0" "$@" "$GREETING" "$ETCDCTL_ENDPOINTS" "$MGMT_REMOTE_RUN" "$MGMT_REMOTE_HOST"; pwd
`, 0o644)
	p := l.run(l.args("--json", "--binary", script, "--env", "GREETING=hello {{.Host}}, 'quoted' $HOME", "--",
		"check", "{{.Host}}", "{{.Run}}", "{{.Dir}}", "{{.Endpoint}}", "{{.OS}}/{{.Arch}}", "{{.User}}", "{{.Home}}", "two words", "", "$(id);*")...)
	p.wantCode(0)
	for _, h := range l.hosts {
		dir := fmt.Sprintf("/var/tmp/mgmt-remote-%d/%s/%s", os.Getuid(), p.runID(), h.name)
		lines := strings.Split(p.output(h.name, false), "\n")
		if !strings.Contains(lines[0], "/cache/") || !strings.HasSuffix(lines[0], "/check.sh") {
			t.Errorf("%s: it was run as %q", h.name, lines[0])
		}
		want := []string{h.name, p.runID(), dir, "unix://" + dir + "/endpoint.sock", "linux/amd64", h.User, h.Home, "two words", "", "$(id);*",
			"hello " + h.name + ", 'quoted' $HOME", "unix://" + dir + "/endpoint.sock", p.runID(), h.name}
		if got := strings.Join(lines[1:len(want)+1], "|"); got != strings.Join(want, "|") {
			t.Errorf("%s: got  %s\nwant %s", h.name, got, strings.Join(want, "|"))
		}
		h.checkCacheOnly(t, p.runID())
	}
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	p := l.run(l.args("--", "sh", "-c", "echo to stdout; echo to stderr >&2; printf 'no end'")...)
	p.wantCode(0)
	for _, h := range l.hosts {
		wantText(t, p.plain.String(), `^`+h.name+` .*to stdout$`, `^`+h.name+` .*to stderr$`, `^`+h.name+` .*no end$`)
	}
}

func TestTCPEndpoint(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	p := l.start(l.args("--json", "--endpoint", "tcp", "--", "sh", "-c",
		etcdctlPatience+`etcdctl put /mgmt-remote/{{.Run}}/kv/a b && etcdctl get --print-value-only /mgmt-remote/{{.Run}}/kv/a; echo "at {{.Endpoint}} "; `+untilGo)...)
	p.awaitOutput("h1", "at ")
	lines := strings.Split(p.output("h1", false), "\n")
	if len(lines) < 3 || lines[0] != "OK" || lines[1] != "b" {
		t.Fatalf("output %q", lines)
	}
	at := strings.TrimPrefix(strings.TrimSpace(strings.TrimPrefix(lines[2], "at ")), "http://")
	if !strings.HasPrefix(at, "127.0.0.1:") {
		t.Fatalf("endpoint %q", at)
	}
	if said := talkAs(t, uint32(os.Getuid()), "/", []string{"tcp:" + at}); said[0] != "answered" {
		t.Errorf("our own user: %s", said)
	}
	for _, said := range talkAs(t, nobody, "/", slices.Repeat([]string{"tcp:" + at}, 20)) { // also whoever is quick must not be let in
		if !strings.HasPrefix(said, "connected: ") && !strings.HasPrefix(said, "no: ") {
			t.Fatalf("another user: %s", said)
		}
	}
	h.goOn(t)
	p.wantCode(0)
	h.checkCacheOnly(t, p.runID())
}

// bigOutput is larger than any buffer or credit on the way.
const bigOutput = 20_000_000

// TestBigOutput holds that output arrives complete and in order, and that the initiator does not keep it.
func TestBigOutput(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	digest := sha256.New()
	var size uint64
	var peak string
	var p *process
	started := make(chan struct{})
	p = l.startWith(func(e event) bool {
		if e.Type != "output_received" {
			return true
		}
		if peak == "" && size > bigOutput-1<<20 {
			// It has a megabyte left to write, far more than a pipe holds: it is there. Not the rusage of wait, since exec
			// lets that begin with the peak of the process that forked.
			<-started
			peak = status(t, p.cmd.Process.Pid, "VmHWM")
		}
		if e.Offset != size {
			t.Errorf("offset %d after %d bytes", e.Offset, size)
		}
		size += uint64(len(e.Data))
		digest.Write(e.Data)
		return false
	}, l.args("--json", "--", "sh", "-c", fmt.Sprintf("seq 1 10000000 | head -c %d", bigOutput))...)
	close(started)
	p.wantCode(0)
	want := sha256.New()
	writeSeq(want, bigOutput)
	if size != bigOutput || hex.EncodeToString(digest.Sum(nil)) != hex.EncodeToString(want.Sum(nil)) {
		t.Errorf("%d bytes arrived, not the right ones", size)
	}
	t.Logf("initiator: peak memory %s, CPU %v user and %v system, for %d bytes of output", peak, p.cmd.ProcessState.UserTime(), p.cmd.ProcessState.SystemTime(), size)
	if kib, err := strconv.Atoi(strings.TrimSuffix(peak, " kB")); err != nil || kib > 150<<10 {
		t.Errorf("peak memory %q, %v", peak, err)
	}
}

// status is a line of /proc/PID/status.
func status(t *testing.T, pid int, name string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// writeSeq is `seq 1 … | head -c size`.
func writeSeq(w hash.Hash, size int) {
	for i := 1; size > 0; i++ {
		line := fmt.Appendf(nil, "%d\n", i)
		line = line[:min(size, len(line))]
		w.Write(line)
		size -= len(line)
	}
}
