package console

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

func folded(t *testing.T, options FoldOptions, events ...messages.Event) string {
	t.Helper()
	var b bytes.Buffer
	f := NewFold(&b, options)
	for _, e := range events {
		if err := f.Print(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func errOut(host, text string) messages.OutputReceived {
	e := out(host, text)
	e.Stderr = true
	return e
}

func ended(host string, exit messages.Exit) messages.HostFinished {
	outcome := messages.OutcomeSucceeded
	if !exit.OK() {
		outcome = messages.OutcomePayloadFailed
	}
	return messages.HostFinished{Result: messages.Result{Host: host, Outcome: outcome, Exit: &exit}}
}

// after gives pieces of a host's output their offsets.
func after(events ...messages.OutputReceived) []messages.Event {
	next := map[string]uint64{}
	all := make([]messages.Event, len(events))
	for i, e := range events {
		e.Offset = next[e.Host]
		next[e.Host] += uint64(len(e.Data))
		all[i] = e
	}
	return all
}

var mixed = append(after(
	out("web1", "Linux\n5.10"), out("web2", "Linux\n"), out("db", "Darwin\n5.10\n"), errOut("web2", "oops"), out("web3", "Linux\n5.10\n"),
	errOut("web1", "oops\n"), out("web2", "5.10\n"), errOut("web3", "oops\n"), out("web4", "Linux\n5.10\n"), errOut("web4", "oops\n"),
), ended("web1", messages.Exit{}), ended("db", messages.Exit{}), ended("web3", messages.Exit{}), ended("web2", messages.Exit{}),
	ended("web4", messages.Exit{Code: 3}), ended("web6", messages.Exit{}), ended("web5", messages.Exit{}),
	messages.HostFinished{Result: messages.Result{Host: "gone", Outcome: messages.OutcomeUnreachable}})

// Equal output is shown once. How stdout and stderr were mixed makes no difference, nor does a last newline; the exit does.
func TestFold(t *testing.T) {
	want := `web[1-3] (3 hosts):
| Linux
| 5.10
! oops

web[5-6] (2 hosts): no output

db (1 host):
| Darwin
| 5.10

web4 (1 host), exit status 3:
| Linux
| 5.10
! oops

`
	if got := folded(t, FoldOptions{}, mixed...); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFoldDiff(t *testing.T) {
	want := `web[1-3] (3 hosts):
| Linux
| 5.10
! oops

web[5-6] (2 hosts): no output

db (1 host): differs from web[1-3]
@@ -1,3 +1,2 @@
-| Linux
+| Darwin
 | 5.10
-! oops

web4 (1 host), exit status 3: the same output as web[1-3]

`
	if got := folded(t, FoldOptions{Diff: true}, mixed...); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFoldEndsWithTheReport(t *testing.T) {
	results := []messages.Result{
		{Host: "a1", Outcome: messages.OutcomeSucceeded, Exit: &messages.Exit{}},
		{Host: "a2", Outcome: messages.OutcomeUnreachable, Reason: "connect: refused", Remedy: "start sshd"},
	}
	got := folded(t, FoldOptions{}, out("a1", "x\n"), messages.HostFinished{Result: results[0]}, messages.HostFinished{Result: results[1]},
		messages.RunFinished{Results: results})
	want := `a1 (1 host):
| x

HOST  RESULT       TIME  COPIED
a1    ok            0ms     0 B
a2    unreachable   0ms     0 B

1 of 2 hosts ok

a2: connect: refused
    what to do: start sshd
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Where the following ends before the run, what was said up to then is shown.
func TestFoldOfARunThatGoesOn(t *testing.T) {
	want := "a (1 host), not ended:\n| one\n\nb (1 host), signal 9:\n| one\n\n"
	got := folded(t, FoldOptions{}, out("a", "one\n"), out("b", "one\n"), messages.PayloadEnded{Host: "b", Exit: messages.Exit{Code: -1, Signal: 9}})
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Whatever the bounds and the pieces are: hosts are together exactly where they wrote the same, nothing more is kept than the
// bounds say, and what is repeated after a crash counts once.
func TestFoldGroupsAreRight(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		texts := rapid.SliceOfN(rapid.StringMatching(`[ab]{1,6}(\n[ab]{1,6}){0,3}\n`), 1, 6).Draw(rt, "texts")
		options := FoldOptions{MaxHost: rapid.IntRange(1, 30).Draw(rt, "host"), MaxTotal: rapid.IntRange(1, 60).Draw(rt, "total")}
		var b bytes.Buffer
		f := NewFold(&b, options)
		want := map[string]int{}
		for i, text := range texts {
			host := fmt.Sprintf("h%d", i)
			want[text]++
			for from := 0; from < len(text); {
				to := rapid.IntRange(from+1, len(text)).Draw(rt, "to")
				again := rapid.IntRange(0, from).Draw(rt, "again")
				e := out(host, text[again:to])
				e.Offset = uint64(again)
				if err := f.Print(e); err != nil {
					rt.Fatal(err)
				}
				from = to
			}
			if err := f.Print(ended(host, messages.Exit{})); err != nil {
				rt.Fatal(err)
			}
			size := 0
			for _, g := range f.groups {
				size += g.size()
			}
			if size != f.kept || size > options.MaxTotal || len(f.groups) != len(want) {
				rt.Fatalf("%d bytes in %d groups, of %+v and %d groups", size, len(f.groups), options, len(want))
			}
		}
		if err := f.Close(); err != nil {
			rt.Fatal(err)
		}
		for _, g := range f.groups {
			if len(g.hosts) != want[texts[int(g.hosts[0][1]-'0')]] || g.size() > options.MaxHost {
				rt.Fatalf("%q has %d bytes", g.hosts, g.size())
			}
		}
	})
}

// Who came late does not say of hosts that they wrote nothing.
func TestFoldOfOneWhoCameLate(t *testing.T) {
	got := folded(t, FoldOptions{Late: true}, ended("a", messages.Exit{}), out("b", "x\n"), ended("b", messages.Exit{}))
	if want := "b (1 host):\n| x\n\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Who has seen a part only says so, and does not call that equal to the whole.
func TestFoldOfAPart(t *testing.T) {
	part := out("b", "y\n")
	part.Offset = 2
	got := folded(t, FoldOptions{}, out("a", "y\n"), part, ended("a", messages.Exit{}), ended("b", messages.Exit{}))
	if want := "a (1 host):\n| y\n\nb (1 host):\n… some output is missing here: it was dropped, or another initiator had it\n| y\n\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFoldSaysWhereOutputWasCut(t *testing.T) {
	got := folded(t, FoldOptions{MaxHost: 6, Diff: true}, out("a", "0123\n5678\n"), out("b", "0123\n5679\n"), ended("a", messages.Exit{}), ended("b", messages.Exit{}))
	const cut = "| 0123\n| 5\n… 4 B more is not kept; --log-dir DIR keeps all\n\n"
	if want := "a (1 host):\n" + cut + "b (1 host):\n" + cut; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFoldedHostsCannotDriveTheTerminal(t *testing.T) {
	evil := "\x1b]0;title\x07\rgone\u009b31m\u202eabc\xff\n"
	got := folded(t, FoldOptions{Terminal: true, Diff: true}, out("a", evil), out("b", "x\n"), errOut("c", evil),
		ended("a", messages.Exit{}), ended("b", messages.Exit{}), ended("c", messages.Exit{}))
	if i := strings.IndexFunc(got, func(r rune) bool { return r != '\n' && commands(r) }); i >= 0 {
		t.Fatalf("a control character is left at %d: %q", i, got)
	}
}

// TestFold10000 folds what 10,000 hosts said, in a few kinds of which some differ by a line, and says how long that takes.
func TestFold10000(t *testing.T) {
	const hosts = 10_000
	var b bytes.Buffer
	f := NewFold(&b, FoldOptions{Diff: true})
	body := strings.Repeat("a line of output as it comes\n", 100)
	results := make([]messages.Result, hosts)
	began := time.Now()
	for i := range hosts {
		host := fmt.Sprintf("web%05d", i)
		for _, e := range after(out(host, body), out(host, fmt.Sprintf("kernel %d\n", i%1000/997))) {
			if err := f.Print(e); err != nil {
				t.Fatal(err)
			}
		}
		exit := messages.Exit{Code: i % 1000 / 999}
		results[i] = ended(host, exit).Result
		if err := f.Print(messages.HostFinished{Result: results[i]}); err != nil {
			t.Fatal(err)
		}
	}
	events := time.Since(began)
	if err := f.Print(messages.RunFinished{Results: results}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d hosts with %d bytes each: %v for the events, %v for the end, %d bytes shown, %d kept",
		hosts, len(body), events, time.Since(began)-events, b.Len(), f.kept)
	if len(f.groups) != 3 || !strings.HasPrefix(b.String(), "web[00000-00996,01000-") || f.kept > 4*len(body) {
		t.Errorf("%d groups, %d bytes kept:\n%.300s", len(f.groups), f.kept, b.String())
	}
}
