//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// runFor bounds every run of the program, where a lab does not say otherwise, and every wait for something that must come: a machine with two
// cores and much to do is slow, but not that slow.
const runFor = 3 * time.Minute

// event is any event of --json: docs/events.md. Fields that a type does not have are zero.
type event struct {
	Type       string    `json:"type"`
	At         time.Time `json:"at"`
	Run        string    `json:"run"`
	Host       string    `json:"host"`
	Hosts      []string  `json:"hosts"`
	Epoch      uint64    `json:"epoch"`
	State      string    `json:"state"`
	Step       string    `json:"step"`
	Detail     string    `json:"detail"`
	Kind       string    `json:"kind"`
	Reason     string    `json:"reason"`
	Retry      bool      `json:"retry"`
	RetryIn    int64     `json:"retry_in_ns"`
	Sent       int64     `json:"sent"`
	Total      int64     `json:"total"`
	PID        int       `json:"pid"`
	Count      int       `json:"count"`
	Reattached bool      `json:"reattached"`
	Exit       exit      `json:"exit"`
	Offset     uint64    `json:"offset"`
	Stderr     bool      `json:"stderr"`
	Data       []byte    `json:"data"`
	Quiet      bool      `json:"quiet"`
	Members    int       `json:"members"`
	Converged  bool      `json:"converged"`
	TimedOut   bool      `json:"timed_out"`
	Result     result    `json:"result"`
	Results    []result  `json:"results"`
	Copies     []copied  `json:"copies"`
}

// copied is what would be copied to a host that is only looked at.
type copied struct {
	Name   string `json:"name"`
	Cached bool   `json:"cached"`
}

type exit struct {
	Code   int    `json:"code"`
	Signal int    `json:"signal"`
	Error  string `json:"error"`
}

type result struct {
	Host         string `json:"host"`
	Outcome      string `json:"outcome"`
	Reason       string `json:"reason"`
	Remedy       string `json:"remedy"`
	Exit         *exit  `json:"exit"`
	Converged    bool   `json:"converged"`
	BytesSent    int64  `json:"bytes_sent"`
	BytesSkipped int64  `json:"bytes_skipped"`
	Attempts     int    `json:"attempts"`
	Reruns       int    `json:"reruns"`
	LeftBehind   string `json:"left_behind"`
}

// process is a run of the program.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr *buffer
	plain  *buffer // stdout, also with --json
	ended  chan struct{}
	err    error // of Wait, after ended

	mu     sync.Mutex
	events []event
	grew   chan struct{} // closed and replaced with every event
}

// start runs the program with its state in the lab. It is killed when the test ends or takes longer than runFor.
func (l *lab) start(args ...string) *process {
	l.t.Helper()
	return l.startWith(func(event) bool { return true }, args...)
}

// startWith is start with somebody who sees each event first, in the order in which they come, and says whether it is kept.
func (l *lab) startWith(see func(event) bool, args ...string) *process {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), l.runFor)
	p := &process{t: l.t, stderr: &buffer{}, plain: &buffer{}, ended: make(chan struct{}), grew: make(chan struct{})}
	p.cmd = l.command(ctx, args...)
	p.cmd.Env = l.env()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal: nothing can be asked
	p.cmd.WaitDelay = 30 * time.Second
	p.cmd.Stderr = p.stderr
	r, w := io.Pipe()
	p.cmd.Stdout = w
	if err := p.cmd.Start(); err != nil {
		cancel()
		l.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(r, see)
	}()
	go func() {
		defer close(p.ended)
		defer cancel()
		p.err = p.cmd.Wait()
		_ = w.Close()
		<-read
	}()
	l.t.Cleanup(func() {
		cancel()
		<-p.ended
		if l.t.Failed() {
			l.t.Logf("%s\nstderr:\n%s\nstdout:\n%s", strings.Join(args, " "), p.stderr, tail(p.plain.String()))
		}
	})
	return p
}

// env is the program's environment: everything that it keeps is in the lab.
func (l *lab) env() []string {
	return append(os.Environ(), "XDG_STATE_HOME="+cmp.Or(l.stateHome, l.dir), "HOME="+l.dir, "SSH_AUTH_SOCK=", "TMPDIR="+l.dir)
}

// tail keeps what a failed test shows readable.
func tail(s string) string {
	const most = 20_000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// withoutText cuts the last field of output_received, which says the same as data: with much output, and under the race
// detector, decoding both takes longer than the run.
func withoutText(line []byte) []byte {
	if i := bytes.Index(line, []byte(`,"text":"`)); i >= 0 && bytes.HasPrefix(line, []byte(`{"type":"output_received"`)) {
		return append(bytes.Clone(line[:i]), '}')
	}
	return line
}

func (p *process) read(r io.Reader, see func(event) bool) {
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		isEvent := bytes.HasPrefix(line, []byte(`{"type":`)) && json.Unmarshal(withoutText(line), &e) == nil
		keep := !isEvent || see(e)
		if keep {
			_, _ = p.plain.Write(line)
		}
		if isEvent && keep {
			p.mu.Lock()
			p.events = append(p.events, e)
			close(p.grew)
			p.grew = make(chan struct{})
			p.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// run starts the program, waits for its end and returns it.
func (l *lab) run(args ...string) *process {
	l.t.Helper()
	p := l.start(args...)
	<-p.ended
	return p
}

// code waits for the end and returns the exit code; -1 when it was killed, by the bound, too.
func (p *process) code() int {
	<-p.ended
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.t.Errorf("run: %v", p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// wantCode fails the test unless the program ends with this code.
func (p *process) wantCode(want int) {
	p.t.Helper()
	if got := p.code(); got != want {
		p.t.Errorf("exit code %d, want %d", got, want)
	}
}

// signal sends one to the program alone.
func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Errorf("signal: %v", err)
	}
}

// all returns the events so far.
func (p *process) all() []event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.events[:len(p.events):len(p.events)]
}

// await waits for an event and returns the first one that matches, past ones too. It fails the test when the program ends
// without it; the program itself is bounded.
func (p *process) await(what string, match func(event) bool) event {
	p.t.Helper()
	return p.awaitFrom(0, what, match)
}

// awaitFrom is await without the first events.
func (p *process) awaitFrom(from int, what string, match func(event) bool) event {
	p.t.Helper()
	e, ok := p.awaitOrEnd(from, match)
	if !ok {
		p.t.Fatalf("the program ended (%v) without: %s", p.cmd.ProcessState, what)
	}
	return e
}

// awaitOrEnd is awaitFrom where the program may end without the event.
func (p *process) awaitOrEnd(from int, match func(event) bool) (event, bool) {
	over := false
	for {
		p.mu.Lock()
		events, grew := p.events, p.grew
		p.mu.Unlock()
		for ; from < len(events); from++ {
			if match(events[from]) {
				return events[from], true
			}
		}
		if over {
			return event{}, false
		}
		select {
		case <-grew:
		case <-p.ended:
			over = true
		}
	}
}

// runID waits for the run's ID.
func (p *process) runID() string {
	p.t.Helper()
	return p.await("run_started", func(e event) bool { return e.Type == "run_started" }).Run
}

// output is what the host's payload wrote: stdout or stderr.
func (p *process) output(host string, stderr bool) string {
	var b strings.Builder
	for _, e := range p.all() {
		if e.Type == "output_received" && e.Host == host && e.Stderr == stderr {
			b.Write(e.Data)
		}
	}
	return b.String()
}

// awaitOutput waits until the stdout of a host contains text.
func (p *process) awaitOutput(host, text string) {
	p.t.Helper()
	p.await("output "+text, func(e event) bool {
		return e.Type == "output_received" && e.Host == host && strings.Contains(p.output(host, false), text)
	})
}

// result of a host, after the end.
func (p *process) result(host string) result {
	p.t.Helper()
	return p.await("host_finished "+host, func(e event) bool { return e.Type == "host_finished" && e.Result.Host == host }).Result
}

// wantOutcome fails the test unless the host's result has this outcome.
func (p *process) wantOutcome(host, outcome string) result {
	p.t.Helper()
	r := p.result(host)
	if r.Outcome != outcome {
		p.t.Errorf("%s: %+v, want outcome %q", host, r, outcome)
	}
	return r
}

// awaitStderr waits until the program's stderr contains text.
func (p *process) awaitStderr(text string) {
	p.t.Helper()
	p.awaitText("stderr", p.stderr, text)
}

// awaitStdout waits until its stdout does.
func (p *process) awaitStdout(text string) {
	p.t.Helper()
	p.awaitText("stdout", p.plain, text)
}

func (p *process) awaitText(where string, in *buffer, text string) {
	p.t.Helper()
	for over := false; ; {
		got, grew := in.look()
		if strings.Contains(got, text) {
			return
		}
		if over {
			p.t.Fatalf("the program ended (%v) without %q on %s", p.cmd.ProcessState, text, where)
		}
		select {
		case <-grew:
		case <-p.ended:
			over = true
		}
	}
}

// buffer is a bytes.Buffer for a writer and readers.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	grew chan struct{} // closed by the next write; nil until somebody looks
}

// look returns what is there, and a channel that is closed when there is more.
func (b *buffer) look() (string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.grew == nil {
		b.grew = make(chan struct{})
	}
	return b.b.String(), b.grew
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.grew != nil {
		close(b.grew)
		b.grew = nil
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
