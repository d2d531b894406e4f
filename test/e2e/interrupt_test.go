//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
	"github.com/mgmt-remote/mgmt-remote/test/sshd"
	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

// What the program says to each ^C.
var interruptAnswers = []string{"stopping: ", "stopping now: ", "leaving: "}

// interrupt presses ^C so often, each time after the one before was noticed: pending signals of a kind are one signal.
func (p *process) interrupt(times int) {
	p.t.Helper()
	for i := range times {
		p.signal(os.Interrupt)
		p.awaitStderr("mgmt-remote: " + interruptAnswers[i])
	}
}

// wantCodeWithin is wantCode, and the end must come in that time.
func (p *process) wantCodeWithin(want int, limit time.Duration) {
	p.t.Helper()
	since := time.Now()
	p.wantCode(want)
	if took := time.Since(since); took > limit {
		p.t.Errorf("the end took %v, more than %v", took.Round(time.Millisecond), limit)
	}
}

func (p *process) awaitStarted(host string) {
	p.t.Helper()
	p.await("payload_started "+host, func(e event) bool { return e.Type == "payload_started" && e.Host == host })
}

func (p *process) awaitState(from int, host, state string) {
	p.t.Helper()
	p.awaitFrom(from, host+" "+state, func(e event) bool { return e.Type == "state_changed" && e.Host == host && e.State == state })
}

// soon bounds an end that nothing holds up. It is many times what it takes, for machines with much to do.
const soon = time.Minute

// beforeStages is less than what a payload is given that listens to neither SIGINT nor SIGTERM.
const beforeStages = 15 * time.Second

// moments are all the places where a host can stand still in steps 1 to 5.
var moments = []struct {
	name, script, pattern string
	config                []string
	step                  string // which step that is
}{
	{"probe", holdBefore, "mgmt-remote-probe", nil, "connect"},
	{"probe answered late", holdAfter, "mgmt-remote-probe", nil, "connect"},
	{"make directory", holdBefore, sftpServer, nil, "make directory"},
	{"install", holdBefore, "mgmt-remote-install", nil, "copy"},
	{"install answered late", holdAfter, "mgmt-remote-install", nil, "copy"},
	{"tunnel", holdBefore, " tunnel ", []string{"AllowStreamLocalForwarding no"}, "tunnel"},
	{"start", holdBefore, " start ", nil, "run"},
	{"start answered late", holdWhile, " start ", nil, "run"},
}

// TestInterruptInStep presses ^C once in the middle of each step, on a host that is slow. Then nothing is left of the run.
func TestInterruptInStep(t *testing.T) {
	t.Parallel()
	for _, m := range moments {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			l := emptyLab(t)
			h := l.addHolder(m.script, m.pattern, m.config...)
			p := l.start(l.args("--json", "--", "sleep", "1000")...)
			h.awaitHeld(t)
			p.await("step "+m.step, func(e event) bool { return e.Type == "step_started" && e.Step == m.step })
			p.interrupt(1)
			h.release()
			p.wantCodeWithin(130, soon)
			if r := p.wantOutcome(h.name, "canceled"); r.LeftBehind != "" {
				t.Errorf("left behind: %s", r.LeftBehind)
			}
			h.checkCacheOnly(t, p.runID())
			l.checkStateGone(t)
		})
	}
}

// checkStateGone: a run that left nothing on hosts leaves nothing here.
func (l *lab) checkStateGone(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(l.dir, "mgmt-remote", "runs"))
	if err != nil || len(entries) > 0 {
		t.Errorf("state of the run: %v, %v", entries, err)
	}
}

// TestInterruptHungHost presses ^C while one host answers no more and another one works well.
func TestInterruptHungHost(t *testing.T) {
	t.Parallel()
	for _, m := range moments {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			l := emptyLab(t)
			bad := l.addHolder(m.script, m.pattern, m.config...)
			good := l.add(sshd.Start(t, sshd.Options{OwnVarTmp: true}))
			// Short, for what is left on the bad host, but long enough for the good one to be attached in time.
			p := l.start(l.args("--json", "--orphan-timeout", "5s", "--", "sleep", "1000")...)
			bad.awaitHeld(t)
			p.awaitStarted(good.name)
			p.interruptHung(good.name)
			p.wantCodeWithin(130, soon)
			r := p.wantOutcome(bad.name, "canceled")
			// What could not be removed is told.
			if files, err := leftovers.Files(bad.base()); err != nil || len(sessionFiles(files, p.runID())) > 0 && r.LeftBehind == "" {
				t.Errorf("%v %v, but left behind %q", files, err, r.LeftBehind)
			}
			good.checkCacheOnly(t, p.runID())
			bad.release()
			bad.checkNoProcess(t, p.runID())
		})
	}
}

// interruptHung presses ^C three times. The host that works is done after the first; only the hung one needs more.
func (p *process) interruptHung(good string) {
	p.t.Helper()
	p.interrupt(1)
	if r := p.wantOutcome(good, "canceled"); r.LeftBehind != "" {
		p.t.Errorf("%s: left behind: %s", good, r.LeftBehind)
	}
	for _, answer := range interruptAnswers[1:] {
		p.interruptOrEnd(answer) // one may have been enough: nothing held this host up
	}
}

// interruptOrEnd presses ^C once more, on a program that may be ending already.
func (p *process) interruptOrEnd(answer string) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		if !errors.Is(err, os.ErrProcessDone) {
			p.t.Errorf("signal: %v", err)
		}
		return
	}
	p.awaitStderrOrEnd("mgmt-remote: " + answer)
}

// awaitStderrOrEnd waits until stderr contains text, or the program ended.
func (p *process) awaitStderrOrEnd(text string) {
	for {
		got, grew := p.stderr.look()
		if strings.Contains(got, text) {
			return
		}
		select {
		case <-grew:
		case <-p.ended:
			return
		}
	}
}

func sessionFiles(files []string, run string) (of []string) {
	for _, f := range files {
		if strings.Contains(f, "/"+run) {
			of = append(of, f)
		}
	}
	return of
}

// TestInterruptHungConnection is the same where the connection itself hangs.
func TestInterruptHungConnection(t *testing.T) {
	t.Parallel()
	for _, stage := range []sshfleet.Stage{
		sshfleet.Accept, sshfleet.KeyExchange, sshfleet.Auth, sshfleet.ChannelOpen, sshfleet.Exec, sshfleet.SFTPWrite, sshfleet.Read,
	} {
		t.Run(stage.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 1)
			good := l.hosts[0]
			bad, args := l.inProcess(t)
			bad.Hang(stage)
			p := l.start(append(args, "--json", "--", "sleep", "1000")...)
			p.awaitStarted(good.name)
			if stage == sshfleet.SFTPWrite {
				p.awaitState(0, "x", "Copying")
			} else {
				p.awaitState(0, "x", "Connecting")
			}
			p.interruptHung(good.name)
			p.wantCodeWithin(130, soon)
			p.wantOutcome("x", "canceled")
			good.checkNothingBut(t, p.runID(), bad.Prefix())
		})
	}
}

// inProcess adds a host named x whose server is in this process and can be made to hang. All hosts work below its prefix.
func (l *lab) inProcess(t *testing.T) (*sshfleet.Host, []string) {
	t.Helper()
	f, err := sshfleet.New(sshfleet.Options{Dir: filepath.Join(l.dir, "x"), Hosts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	h := f.Hosts()[0]
	args := l.args("--known-hosts", f.KnownHostsFile(), "-i", f.KeyFile(), "--prefix", h.Prefix(), "-H", "x="+h.User()+"@"+h.Addr())
	return h, args
}

// checkNothingBut is checkCacheOnly for a host that works below a prefix of its own.
func (h *host) checkNothingBut(t *testing.T, run, prefix string) {
	t.Helper()
	h.checkNoProcess(t, run)
	leftovers.Check(t, filepath.Join(prefix, filepath.Base(h.base()), run, h.name))
}

// TestInterruptWaiting presses ^C while a host that never answered waits for its next attempt: nothing has to be waited for.
func TestInterruptWaiting(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	dead := sshd.Start(t, sshd.Options{})
	dead.Stop()
	p := l.start(l.args("--json", "--retry-for", "10m", "-H", "dead="+dead.Addr, "--", "sleep", "1000")...)
	p.awaitStarted("h1")
	p.awaitState(0, "dead", "Waiting")
	p.interrupt(1)
	p.wantCodeWithin(130, soon)
	p.wantOutcome("dead", "canceled")
	p.wantOutcome("h1", "canceled")
	l.hosts[0].checkCacheOnly(t, p.runID())
}

// TestInterruptWaitingWithSession: the host went away while its payload ran. ^C has it come back to end the payload.
func TestInterruptWaitingWithSession(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	p := l.start(l.args("--json", "--retry-for", "10m", "--", "sleep", "1000")...)
	p.awaitStarted(h.name)
	h.Stop()
	p.awaitState(0, h.name, "Waiting")
	p.interrupt(1)
	h.Restart()
	p.wantCodeWithin(130, soon) // and the delay before the next attempt
	if r := p.wantOutcome(h.name, "canceled"); r.LeftBehind != "" {
		t.Errorf("left behind: %s", r.LeftBehind)
	}
	h.checkCacheOnly(t, p.runID())
}

// TestInterruptRunning presses ^C once: the payload gets a SIGINT, and may say goodbye.
func TestInterruptRunning(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	p := l.start(l.args("--json", "--", "sh", "-c", `trap 'echo bye; exit 3' INT; echo ready; while :; do sleep 0.1; done`)...)
	for _, h := range l.hosts {
		p.awaitOutput(h.name, "ready\n")
	}
	p.interrupt(1)
	p.wantCodeWithin(130, soon)
	for _, h := range l.hosts {
		if r := p.wantOutcome(h.name, "canceled"); r.Exit == nil || r.Exit.Code != 3 {
			t.Errorf("%s: exit %+v, want code 3", h.name, r.Exit)
		}
		if got := p.output(h.name, false); got != "ready\nbye\n" {
			t.Errorf("%s: output %q", h.name, got)
		}
		h.checkCacheOnly(t, p.runID())
	}
	l.checkStateGone(t)
}

// stubborn ignores every signal that can be ignored, and so does its child.
const stubborn = `trap '' INT TERM HUP; echo ready; while :; do sleep 1000; done`

// TestInterruptTwice kills a payload that listens to nothing.
func TestInterruptTwice(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	p := l.start(l.args("--json", "--no-cache", "--", "sh", "-c", stubborn)...)
	for _, h := range l.hosts {
		p.awaitOutput(h.name, "ready\n")
	}
	p.interrupt(2)
	p.wantCodeWithin(130, beforeStages)
	for _, h := range l.hosts {
		if r := p.wantOutcome(h.name, "canceled"); r.Exit == nil || r.Exit.Signal != 9 {
			t.Errorf("%s: exit %+v, want signal 9", h.name, r.Exit)
		}
		h.checkNothing(t, p.runID())
	}
	l.checkStateGone(t)
}

// TestInterruptThrice: the program leaves, the shim ends a payload that listens to nothing, and itself.
func TestInterruptThrice(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	h := l.hosts[0]
	p := l.start(l.args("--json", "--no-cache", "--", "sh", "-c", stubborn)...)
	p.awaitOutput(h.name, "ready\n")
	for _, answer := range interruptAnswers { // the payload may have been killed before the third
		p.interruptOrEnd(answer)
	}
	p.wantCodeWithin(130, soon)
	h.awaitNothing(t, p.runID())
}

// awaitNothing waits until the shim has cleaned up by itself.
func (h *host) awaitNothing(t *testing.T, run string) {
	t.Helper()
	leftovers.Check(t, h.VarTmp)
	h.checkNothing(t, run)
}

// TestLeaveFrozenHost: the host is frozen when the program leaves. It learns that when its orphan timeout is over.
func TestLeaveFrozenHost(t *testing.T) {
	t.Parallel()
	l := emptyLab(t)
	bad, args := l.inProcess(t)
	p := l.start(append(args, "--json", "--no-cache", "--orphan-timeout", "5s", "--", "sh", "-c", "echo ready; exec sleep 1000")...)
	p.awaitOutput("x", "ready\n")
	bad.Pause()
	p.interrupt(3)
	p.wantCodeWithin(130, soon)
	if r := p.wantOutcome("x", "canceled"); !strings.Contains(r.LeftBehind, "orphan") {
		t.Errorf("left behind: %q", r.LeftBehind)
	}
	bad.Resume()
	leftovers.Check(t, bad.Prefix())
}

// TestStdoutClosed: the reader went away. The run is ended in order instead of going on unseen.
func TestStdoutClosed(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]string{
		"silent payload": "exec sleep 1000",
		"talking":        "while :; do echo still here; sleep 0.05; done",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := emptyLab(t)
			h := l.addHolder(holdBefore, " start ") // until the reader is gone: a silent payload is the last that is told of
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), runFor)
			defer cancel()
			cmd := l.command(ctx, l.args("--json", "--", "sh", "-c", payload)...)
			cmd.Env = l.env()
			var stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = writer, &stderr
			err = cmd.Start()
			if cerr := writer.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(reader).ReadBytes('\n')
			if cerr := reader.Close(); err == nil {
				err = cerr
			}
			h.release()
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(stderr.String(), "broken pipe") {
				t.Errorf("%v\n%s", err, &stderr)
			}
			var first event
			if err = errors.Join(err, json.Unmarshal(line, &first)); err != nil || first.Run == "" {
				t.Fatalf("%v: %s", err, line)
			}
			h.checkCacheOnly(t, first.Run)
			l.checkStateGone(t)
		})
	}
}
