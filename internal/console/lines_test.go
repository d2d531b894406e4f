package console

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

func printed(t *testing.T, options LinesOptions, events ...messages.Event) string {
	t.Helper()
	var b bytes.Buffer
	l := NewLines(&b, options)
	for _, e := range events {
		if err := l.Print(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func out(host, text string) messages.OutputReceived {
	return messages.OutputReceived{Host: host, Data: []byte(text)}
}

func TestARunInLines(t *testing.T) {
	stderr := out("db", "warn\n")
	stderr.Stderr = true
	got := printed(t, LinesOptions{},
		messages.RunStarted{Run: "k3v9x2ab", Hosts: []string{"web-10", "db"}},
		messages.StateChanged{Host: "db", State: "Connecting"},
		messages.StepStarted{Host: "db", Step: messages.StepCopy},
		messages.Progressed{Host: "db", Sent: 1, Total: 2},
		messages.StepDone{Host: "db", Step: messages.StepCopy, Detail: "12.4 MB", Took: 300 * time.Millisecond},
		messages.StepDone{Host: "web-10", Step: messages.StepMakeDirectory, Took: 12 * time.Millisecond},
		messages.HostTroubled{Host: "db", Attempt: 2, Kind: fault.Lost, Reason: "reset\nby peer", Retry: true, RetryIn: 2 * time.Second},
		messages.HostTroubled{Host: "db", Attempt: 3, Kind: fault.Denied, Reason: "no key accepted"},
		messages.HostWarned{Host: "db", Text: "a logout may\nkill it"},
		out("db", "before the end"),
		messages.PayloadRerun{Host: "db", Count: 2},
		messages.PayloadStarted{Host: "db", PID: 4711, Reattached: true},
		messages.DefinitionUpdated{Host: "db", Version: 2},
		messages.DefinitionNotUpdated{Host: "db", Version: 3, Reason: "copy: no space\nleft", Remedy: "free some"},
		messages.PayloadStarted{Host: "db", PID: 4711, Reattached: true, Restarts: 1},
		out("web-10", "last words"),
		messages.PayloadRestarted{Host: "web-10", Count: 3, PID: 815, Exit: messages.Exit{Code: -1, Signal: 9}},
		out("db", "one\ntw"), stderr, out("web-10", "no newline"), out("db", "o\n"),
		messages.QuietReported{Host: "db", Quiet: true},
		messages.OutputDropped{Host: "db", From: 1000, To: 3500},
		messages.PayloadEnded{Host: "web-10", Exit: messages.Exit{Code: 3}},
		messages.Converged{Host: "db", For: 5 * time.Second, Members: 1},
		messages.Converged{Members: 2, For: 5 * time.Second},
		messages.HostFinished{Result: messages.Result{Host: "web-10", Outcome: messages.OutcomePayloadFailed, Exit: &messages.Exit{Code: 3}, Took: 65 * time.Second}},
	)
	want := `run k3v9x2ab: 2 hosts
db      step 3 copy           done   0.3s  12.4 MB
web-10  step 2 make directory done   12ms
db      attempt 2 failed: reset\nby peer; again in 2.0s
db      attempt 3 failed: no key accepted; given up
db      warning: a logout may\nkill it
db     | before the end
db      host was rebooted, payload is started again (2)
db      payload still runs, pid 4711
db      definition 2 is on the host
db      definition 3 is not on the host: copy: no space\nleft
db        free some
db      payload still runs, pid 4711, restarted 1 time so far
web-10 | last words
web-10  payload restarted (3) after signal 9, pid 815
db     | one
db     ! warn
db     | two
db      2.5 kB of output dropped on the host: more than its limit was waiting
web-10 | no newline
web-10  payload ended: exit status 3
db      converged: quiet for 5.0s
converged: 2 hosts quiet for 5.0s
web-10  payload failed, exit status 3 after 1m05s
`
	if got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

func TestVerboseShowsMore(t *testing.T) {
	got := printed(t, LinesOptions{Verbose: true},
		messages.StateChanged{Host: "db", State: "Connecting", Epoch: 2},
		messages.StepStarted{Host: "db", Step: messages.StepCopy},
		messages.Progressed{Host: "db", Sent: 500_000, Total: 2_000_000},
		messages.PayloadStarted{Host: "db", PID: 4711},
		messages.QuietReported{Host: "db", Quiet: true},
		messages.QuietReported{Host: "db"},
	)
	want := `db  state Connecting, connection 2
db  step 3 copy           ...
db  copied 500.0 kB of 2.0 MB
db  payload runs, pid 4711
db  quiet
db  busy
`
	if got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

// However output is cut into pieces, the same lines come out, each with its prefix.
func TestOutputLinesDoNotDependOnPieces(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lines := rapid.SliceOf(rapid.StringMatching(`[a-zäß ]{0,12}`)).Draw(rt, "lines")
		text := strings.Join(lines, "\n")
		var b bytes.Buffer
		l := NewLines(&b, LinesOptions{Terminal: true})
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "piece")
			if err := l.Print(out("h", rest[:n])); err != nil {
				rt.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := l.Close(); err != nil {
			rt.Fatal(err)
		}
		var want strings.Builder
		if text != "" {
			for line := range strings.Lines(text) {
				want.WriteString("h | " + strings.TrimSuffix(line, "\n") + "\n")
			}
		}
		if b.String() != want.String() {
			rt.Fatalf("got %q, want %q", b.String(), want.String())
		}
	})
}

func TestALineWithoutEndIsBoundedAndSplitsNoCharacter(t *testing.T) {
	var b bytes.Buffer
	l := NewLines(&b, LinesOptions{Terminal: true})
	text := strings.Repeat("é", 3*maxPartial) // two bytes each, and maxPartial is even: shift by one
	if err := l.Print(out("h", "x"+text)); err != nil {
		t.Fatal(err)
	}
	for s, kept := range l.partial {
		if len(kept) > maxPartial {
			t.Errorf("%v keeps %d bytes", s, len(kept))
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var joined strings.Builder
	for line := range strings.Lines(b.String()) {
		joined.WriteString(strings.TrimSuffix(strings.TrimPrefix(line, "h | "), "\n"))
	}
	if joined.String() != "x"+text {
		t.Fatalf("the text changed: %d bytes became %d", 1+len(text), joined.Len())
	}
	if got := printed(t, LinesOptions{}, out("h", strings.Repeat("\x80", maxPartial+1))); strings.Count(got, "\n") != 2 {
		t.Fatalf("bytes that are no text: %d lines, want 2", strings.Count(got, "\n"))
	}
}

func TestHostsCannotDriveTheTerminal(t *testing.T) {
	evil := "\x1b]0;title\x07\rgone\u009b31m\u202eabc\xff\tok"
	events := []messages.Event{
		out("h", evil+"\n"),
		messages.StepDone{Host: "h", Step: messages.StepConnect, Detail: evil},
		messages.HostTroubled{Host: "h", Reason: evil},
		messages.RunFinished{Results: []messages.Result{{Host: "h", Outcome: messages.OutcomeFailed, Reason: evil, Remedy: evil, LeftBehind: evil}}},
	}
	got := printed(t, LinesOptions{Terminal: true}, events...)
	if i := strings.IndexFunc(got, func(r rune) bool { return r != '\n' && r != '\t' && commands(r) }); i >= 0 {
		t.Fatalf("a control character is left at %d: %q", i, got)
	}
	if want := `h | \x1b]0;title\a\rgone\u009b31m\u202eabc\xff` + "\tok\n"; !strings.HasPrefix(got, want) {
		t.Fatalf("got %q, want %q first", got, want)
	}
	// Into a file or a pipe, output goes as it came.
	if got := printed(t, LinesOptions{}, events[0]); got != "h | "+evil+"\n" {
		t.Fatalf("got %q", got)
	}
}

func TestColor(t *testing.T) {
	e := messages.StepDone{Host: "h", Step: messages.StepConnect}
	if got := printed(t, LinesOptions{}, e); strings.Contains(got, "\x1b") {
		t.Errorf("colour without being asked for: %q", got)
	}
	if got := printed(t, LinesOptions{Color: true}, e); !strings.Contains(got, "\x1b[32mdone\x1b[0m") {
		t.Errorf("no colour: %q", got)
	}
	// A host's lines have one colour, and others have another; they stand under each other all the same.
	got := printed(t, LinesOptions{Color: true}, out("h1", "x\n"), out("host-2", "x\n"), out("h1", "y\n"))
	if want := "\x1b[34mh1\x1b[0m | x\n\x1b[35mhost-2\x1b[0m | x\n\x1b[34mh1\x1b[0m     | y\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, c := range []struct {
		terminal bool
		env      map[string]string
		want     bool
	}{
		{true, map[string]string{"TERM": "xterm"}, true},
		{true, map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, false},
		{true, map[string]string{"TERM": "dumb"}, false},
		{false, map[string]string{"TERM": "xterm"}, false},
	} {
		if got := UseColor(c.terminal, func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestEventsFromManyGoroutinesStayWhole(t *testing.T) {
	var b bytes.Buffer
	l := NewLines(&b, LinesOptions{})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for range 50 {
				if err := l.Print(out(fmt.Sprintf("h%02d", i), "text\n")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	count := 0
	for line := range strings.Lines(b.String()) {
		count++
		if !strings.HasPrefix(line, "h") || !strings.HasSuffix(line, " | text\n") || len(line) != len("h00 | text\n") {
			t.Fatalf("torn line %q", line)
		}
	}
	if count != 1000 {
		t.Fatalf("%d lines, want 1000", count)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWriteErrorsAreReturned(t *testing.T) {
	broken := brokenWriter{errors.New("disk full")}
	for _, p := range []Printer{NewJSON(broken), NewLines(broken, LinesOptions{})} {
		if err := p.Print(messages.RunStarted{}); !errors.Is(err, broken.err) {
			t.Errorf("%T: got %v", p, err)
		}
	}
	for _, p := range []Printer{NewFold(broken, FoldOptions{}), NewQuiet(broken, false)} {
		if err := p.Print(messages.RunFinished{Results: []messages.Result{{Host: "h", Outcome: messages.OutcomeFailed}}}); !errors.Is(err, broken.err) {
			t.Errorf("%T: got %v", p, err)
		}
	}
	if err := WriteReport(broken, Report{}, false); !errors.Is(err, broken.err) {
		t.Errorf("report: got %v", err)
	}
}
