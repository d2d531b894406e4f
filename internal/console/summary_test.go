package console

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

var results = []messages.Result{
	{Host: "web-10", Outcome: messages.OutcomeSucceeded, Converged: true, Took: 3200 * time.Millisecond, BytesSent: 12_400_000, Exit: &messages.Exit{}},
	{Host: "db", Outcome: messages.OutcomeUnreachable, Took: 95 * time.Second, Attempts: 6, Reason: "connect: connection refused", Remedy: "is sshd running there, on port 2222?"},
	{Host: "c", Outcome: messages.OutcomePayloadFailed, Exit: &messages.Exit{Code: -1, Signal: 9}, Took: 40 * time.Millisecond, BytesSent: 999},
	{Host: "d", Outcome: messages.OutcomePayloadFailed, Exit: &messages.Exit{Code: -1, Error: "exec format error"}},
	{Host: "e", Outcome: messages.OutcomeCanceled, LeftBehind: "the payload; it ends within 30 minutes"},
}

func reportOf(results []messages.Result, before ...messages.Event) Report {
	c := NewCollector()
	for _, e := range before {
		c.Note(e)
	}
	c.Note(messages.RunFinished{Run: "k3v9x2ab", Took: 95 * time.Second, Results: results})
	return c.Report()
}

func TestSummary(t *testing.T) {
	var b bytes.Buffer
	if err := WriteReport(&b, reportOf(results), false); err != nil {
		t.Fatal(err)
	}
	want := `HOST    RESULT                     TIME   COPIED
c       payload failed, signal 9   40ms    999 B
d       payload failed, not run     0ms      0 B
db      unreachable               1m35s      0 B
e       canceled                    0ms      0 B
web-10  ok, converged              3.2s  12.4 MB

1 of 5 hosts ok
1m35s in all, 6 connections, 12.4 MB copied, 0 B of output

d: exec format error

db: connect: connection refused
    what to do: is sshd running there, on port 2222?

e:
    left behind: the payload; it ends within 30 minutes
`
	if b.String() != want {
		t.Fatalf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestColorDoesNotMoveColumns(t *testing.T) {
	var plain, colored bytes.Buffer
	if err := WriteReport(&plain, reportOf(results), false); err != nil {
		t.Fatal(err)
	}
	if err := WriteReport(&colored, reportOf(results), true); err != nil {
		t.Fatal(err)
	}
	stripped := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(colored.String())
	if stripped != plain.String() || stripped == colored.String() {
		t.Fatalf("got %q", colored.String())
	}
}

func TestSizesAndDurations(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 12_400_000: "12.4 MB",
		5_000_000_000: "5.0 GB", 9_223_372_036_854_775_807: "9.2 EB", -1500: "-1.5 kB",
	} {
		if got := BytesText(n); got != want {
			t.Errorf("%d bytes: got %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0ms", 400 * time.Microsecond: "0ms", 12 * time.Millisecond: "12ms", 99499 * time.Microsecond: "99ms", 99500 * time.Microsecond: "0.1s",
		59949 * time.Millisecond: "59.9s", 59950 * time.Millisecond: "1m00s", 125 * time.Second: "2m05s",
		time.Hour - time.Second: "59m59s", time.Hour - time.Millisecond: "1h00m", 25*time.Hour + 90*time.Second: "25h02m", -3 * time.Second: "-3.0s",
	} {
		if got := DurationText(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	for _, s := range []string{"", "plain", "tab\there", "\x1b[31m", "\u009b", "\xff\xfe", "héllo", "\u202e", "\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Visible(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q became invalid: %q", s, got)
		}
		bad := func(r rune) bool { return r != '\t' && commands(r) }
		if strings.ContainsFunc(got, bad) {
			t.Fatalf("%q is still there: %q", s, got)
		}
		if utf8.ValidString(s) && !strings.ContainsFunc(s, bad) && got != s {
			t.Fatalf("harmless %q became %q", s, got)
		}
	})
}
