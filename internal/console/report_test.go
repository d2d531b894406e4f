package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

func refused(host string, port int) messages.Result {
	return messages.Result{
		Host: host, Outcome: messages.OutcomeUnreachable, Attempts: 3,
		Reason: fmt.Sprintf("connect: dial tcp 10.0.0.%s:%d: connection refused", host[3:], port),
		Remedy: fmt.Sprintf("check that an SSH server listens on port %d", port),
	}
}

func noexec(host string) messages.Result {
	return messages.Result{Host: host, Outcome: messages.OutcomeFailed, Attempts: 1, Reason: "make directory: /tmp is noexec", Remedy: "use --prefix", Fault: fault.New(fault.Environment, "make directory", "noexec")}
}

// What is the same trouble on many hosts is told once, without what differs between them.
func TestFailuresAreGrouped(t *testing.T) {
	var results []messages.Result
	for i := range 40 {
		host := fmt.Sprintf("web%d", i+1)
		switch {
		case i < 20:
			results = append(results, messages.Result{Host: host, Outcome: messages.OutcomeSucceeded, Took: time.Second, BytesSent: 1000, BytesSkipped: 500, Attempts: 1})
		case i < 32:
			results = append(results, noexec(host))
		case i < 36:
			results = append(results, refused(host, 22))
		default:
			results = append(results, messages.Result{Host: host, Outcome: messages.OutcomePayloadFailed, Exit: &messages.Exit{Code: i % 2}, Attempts: 1})
		}
	}
	var events []messages.Event
	for i := range 100 {
		events = append(events, messages.StepDone{Host: "web1", Step: messages.StepConnect, Took: 10 * time.Millisecond})
		if i > 97 {
			events = append(events, messages.StepDone{Host: "web9", Step: messages.StepCopy, Took: time.Duration(i) * time.Second})
		}
	}
	events = append(events, messages.OutputReceived{Data: make([]byte, 3000)}, messages.OutputDropped{From: 1, To: 2001},
		messages.HostTroubled{Host: "web33", Kind: fault.Unreachable},
		messages.HostWarned{Host: "web2", Text: "a logout may kill 4711"}, messages.HostWarned{Host: "web1", Text: "a logout may kill 815"},
		messages.HostWarned{Host: "web1", Text: "a logout may kill 815"}, messages.HostWarned{Host: "web9", Text: "a disk\x07is full"},
		messages.WaveFinished{Wave: 1, Hosts: 1, Succeeded: 1, Took: time.Second}, messages.WaveFinished{Wave: 2, Hosts: 39, Succeeded: 19, Failed: 16, Unreachable: 4, Took: time.Minute})
	r := reportOf(results, events...)
	var b bytes.Buffer
	if err := WriteReport(&b, r, false); err != nil {
		t.Fatal(err)
	}
	want := `RESULT                          HOSTS
ok                                 20  web[1-20]
failed                             12  web[21-32]
unreachable                         4  web[33-36]
payload failed, exit status 0       2  web[37,39]
payload failed, exit status 1       2  web[38,40]

20 of 40 hosts ok
1m35s in all, 48 connections, 20.0 kB copied, 10.0 kB were there, 3.0 kB of output, 2.0 kB dropped

STEP                  P50      P99      MAX
1 connect            10ms     10ms     10ms  web1
3 copy              1m38s    1m39s    1m39s  web9

WAVE    HOSTS       OK   FAILED  UNREACHABLE      TIME
1           1        1        0            0      1.0s
2          39       19       16            4     1m00s

web[1-2] (2 hosts): warning: a logout may kill …

web9: warning: a disk\ais full

web[21-32] (12 hosts): make directory: /tmp is noexec
    what to do: use --prefix

web[33-36] (4 hosts): connect: dial tcp …: connection refused
    what to do: check that an SSH server listens on port 22
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if f := r.Failures[1]; f.Step != "connect" || f.Kind != fault.Unreachable || f.Nodes != "web[33-36]" || r.Failures[0].Kind != fault.Environment {
		t.Errorf("got %+v", f)
	}
}

// What was only left undone, because somebody stopped the run or others failed, does not hide why.
func TestCausesComeBeforeWhatWasLeftUndone(t *testing.T) {
	skipped := func(host string) messages.Result {
		return messages.Result{Host: host, Outcome: messages.OutcomeSkipped, Reason: "too many others failed"}
	}
	got := GroupFailures([]messages.Result{skipped("a1"), skipped("a2"), noexec("b1"), {Host: "c1", Outcome: messages.OutcomeCanceled}}, nil)
	if len(got) != 3 || got[0].Nodes != "b1" || got[1].Nodes != "a[1-2]" {
		t.Errorf("got %+v", got)
	}
}

func TestLongNodeSetsAreCut(t *testing.T) {
	var odd, words []string
	for i := range 1000 {
		odd = append(odd, fmt.Sprintf("web%d", 2*i+1))
		words = append(words, fmt.Sprintf("%s%dx", strings.Repeat("a", 1+i%50), i*i))
	}
	for _, hosts := range [][]string{odd, words} {
		text := nodes(hosts)
		shown, err := nodeset.Parse(strings.Replace(text, ","+elided, "", 1))
		if err != nil || len(text) > maxNodes+5 || !strings.Contains(text, elided) {
			t.Fatalf("%d bytes, %v: %s", len(text), err, text)
		}
		for _, name := range shown {
			if !slices.Contains(hosts, name) {
				t.Errorf("%s is none of the hosts", name)
			}
		}
	}
}

// One bad line would be repeated for each host where hosts are named by words.
func TestNamesOfHostsAreNoDifference(t *testing.T) {
	fails := func(host string) messages.Result {
		return messages.Result{Host: host, Outcome: messages.OutcomeFailed, Reason: "copy: /tmp/x/" + host + "/a is bad on " + host + ", says " + host + ".example"}
	}
	got := GroupFailures([]messages.Result{fails("ada"), fails("bob"), {Host: "a", Outcome: messages.OutcomeFailed, Reason: "copy: a disk is full"}}, nil)
	if len(got) != 2 || got[0].Cause != "… is bad on …, says …" || got[1].Cause != "a disk is full" || got[0].Step != "copy" {
		t.Errorf("got %+v", got)
	}
}

func TestReportsAreBounded(t *testing.T) {
	var results []messages.Result
	for i := range 10_000 {
		word := strings.Repeat(string(rune('a'+i%26)), 1+i%40)
		results = append(results, messages.Result{Host: fmt.Sprintf("%s-%d", word, i*i), Outcome: messages.OutcomeFailed, Reason: "run: " + word})
	}
	began := time.Now()
	var b bytes.Buffer
	if err := WriteReport(&b, reportOf(results), false); err != nil {
		t.Fatal(err)
	}
	t.Logf("a report of %d hosts that all differ: %v, %d bytes", len(results), time.Since(began), b.Len())
	if b.Len() > 40_000 || !strings.HasSuffix(b.String(), ": --report FILE has all\n") {
		t.Errorf("%d bytes, the last ones are %q", b.Len(), b.String()[max(0, b.Len()-200):])
	}
}

// Quantiles are right to within a hundredth, extremes are exact.
func TestTiming(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Hour)), 1, 200).Draw(rt, "all")
		var s timing
		for _, took := range all {
			s.add("h", time.Duration(took))
		}
		slices.Sort(all)
		for _, q := range []float64{0.01, 0.5, 0.99, 1} {
			exact := float64(all[max(0, int(float64(len(all))*q+0.9999999)-1)])
			if got := float64(s.quantile(q)); got < exact*0.99-1 || got > exact*1.01+1 {
				rt.Fatalf("quantile %v: got %v, want %v", q, got, exact)
			}
		}
		if s.most != time.Duration(all[len(all)-1]) {
			rt.Fatalf("the maximum is %v", s.most)
		}
	})
}

func TestQuiet(t *testing.T) {
	var b bytes.Buffer
	q := NewQuiet(&b, false)
	good := messages.Result{Host: "a", Outcome: messages.OutcomeSucceeded}
	bad := messages.Result{Host: "b", Outcome: messages.OutcomePayloadFailed, Exit: &messages.Exit{Code: 3}}
	for _, e := range []messages.Event{messages.RunStarted{}, out("a", "x\n"), messages.HostFinished{Result: good}, messages.RunFinished{Results: []messages.Result{good}}} {
		if err := q.Print(e); err != nil || b.Len() > 0 {
			t.Errorf("%T: %v, %q", e, err, b.String())
		}
	}
	for _, e := range []messages.Event{messages.HostFinished{Result: bad}, messages.HostFinished{Result: noexec("c")}, messages.RunFinished{Results: []messages.Result{good, bad, noexec("c")}}} {
		if err := q.Print(e); err != nil {
			t.Error(err)
		}
	}
	want := `b: payload failed, exit status 3
c: failed: make directory: /tmp is noexec

1 of 3 hosts ok

b: payload failed, exit status 3

c: make directory: /tmp is noexec
    what to do: use --prefix
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestReportFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	if _, err := NewReportFile(filepath.Join(path, "no", "dir")); err == nil {
		t.Error("a directory that is not there was taken")
	}
	if err := os.WriteFile(path, []byte("older"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := NewReportFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Print(messages.StepDone{Host: "web1", Step: messages.StepCopy, Took: time.Second}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "older" {
		t.Errorf("changed too early: %q, %v", text, err)
	}
	evil := noexec("web1")
	evil.LeftBehind = "\u009b31m\x1b\x7f"
	if err := f.Print(messages.RunFinished{Run: "k3v9x2ab", Results: []messages.Result{evil}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(string(text), func(r rune) bool { return r != '\n' && commands(r) }); i >= 0 {
		t.Errorf("a control character is left at %d: %q", i, text)
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if r.Run != "k3v9x2ab" || len(r.Steps) != 1 || r.Steps[0].Max != time.Second || r.Failures[0].Kind != fault.Environment || r.Outcomes["failed"] != 1 || r.Failures[0].LeftBehind != evil.LeftBehind {
		t.Errorf("got %+v", r)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
