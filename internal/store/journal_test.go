package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func encoded(t interface{ Fatal(...any) }, lines ...line) []byte {
	var b bytes.Buffer
	for _, l := range lines {
		if err := encodeLine(&b, l); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// However a crash cuts the tail, and whatever zeros the file system leaves behind it, the journal holds exactly the
// records whose lines are whole, and goes on from there.
func TestJournalSurvivesATornTail(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 8).Draw(t, "lines")
		var data []byte
		var ends []int
		var lines []line
		for i := range n {
			host := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "host")
			l := line{Host: host, Record: &SessionRecord{Phase: PhaseStarted, Epoch: uint64(i), Dir: "/d"}}
			if rapid.Bool().Draw(t, "result") {
				l = line{Host: host, Result: fmt.Appendf(nil, "%d", i)}
			}
			data = append(data, encoded(t, l)...)
			ends, lines = append(ends, len(data)), append(lines, l)
		}
		cut := rapid.IntRange(0, len(data)).Draw(t, "cut")
		zeros := rapid.IntRange(0, 20).Draw(t, "zeros")
		want := newLedger()
		for i, end := range ends {
			if end <= cut {
				want.take(lines[i])
			}
		}
		path := filepath.Join(dir, "journal")
		if err := os.WriteFile(path, append(data[:cut:cut], make([]byte, zeros)...), 0o600); err != nil {
			t.Fatal(err)
		}
		next := SessionRecord{Phase: PhaseCleaned, Epoch: 99}
		for round := range 2 {
			j, err := openJournal(path)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(j.view, want) {
				t.Fatalf("round %d: got %v, want %v", round, j.view, want)
			}
			err = j.appendSession(contextOf(), "d", next)
			if err := j.close(); err != nil {
				t.Fatal(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			want.sessions["d"] = next
		}
	})
}

func TestJournalDamagedInTheMiddle(t *testing.T) {
	good := encoded(t, line{Host: "a", Record: &SessionRecord{Phase: PhaseStarted}})
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, append(append(bytes.Clone(good), "{\"host\":\n"...), good...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(path); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("got %v", err)
	}
}

func TestLongJournalIsRewritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	var data []byte
	for i := range rewriteAt + 2 {
		data = append(data, encoded(t, line{Host: "a", Record: &SessionRecord{Phase: PhaseStarted, Epoch: uint64(i)}})...)
	}
	torn := "{\"host\":\"b\""
	if err := os.WriteFile(path, append(data, torn...), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.appendSession(t.Context(), "c", SessionRecord{Phase: PhaseStarting}); err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || bytes.Count(text, []byte("\n")) != 2 {
		t.Fatalf("%q, %v", text, err)
	}
	view, _, _, err := parseJournal(text)
	if err != nil || view.sessions["a"].Epoch != rewriteAt+1 || view.sessions["c"].Phase != PhaseStarting {
		t.Fatalf("%v, %v", view, err)
	}
}

// A disk error is final: a later success would let good lines follow a bad one.
func TestJournalStaysBroken(t *testing.T) {
	j, err := openJournal(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.file.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := j.appendSession(t.Context(), "a", SessionRecord{Phase: PhaseStarting}); err == nil {
			t.Errorf("attempt %d succeeded", i)
		}
	}
	if _, ok := j.session("a"); ok {
		t.Error("shows a record that is not on the disk")
	}
	if err := j.close(); err == nil {
		t.Error("closed twice without an error")
	}
}

func FuzzParseJournal(f *testing.F) {
	f.Add([]byte(""))
	f.Add(encoded(f, line{Host: "a", Record: &SessionRecord{Phase: PhaseStarted}}, line{Host: "b", Record: &SessionRecord{Phase: PhaseCleaned, Exit: &ExitRecord{Code: 1}}}, line{Host: "b", Result: []byte(`{"x":1}`)}))
	f.Add([]byte("{}\n\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		view, lines, good, err := parseJournal(data)
		if err != nil {
			return
		}
		again, lines2, good2, err := parseJournal(data[:good])
		if err != nil || lines2 != lines || good2 != good || !reflect.DeepEqual(view, again) {
			t.Fatalf("the good part reads differently: %v", fmt.Sprint(err, lines, lines2, good, good2))
		}
	})
}
