package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

// contextOf is for code inside rapid.Check, whose T has no test context.
func contextOf() context.Context { return context.Background() }

// The process is killed at any byte of any write, again and again, while a shim sends its output from where the log
// says it stands: what is in the file at the end is the output without the gaps, nothing lost, nothing twice.
func TestLogSurvivesKillAtAnyByte(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		path := filepath.Join(dir, "h"+string(rune('a'+run%26))+"-"+rapid.StringMatching(`[a-z]{8}`).Draw(t, "name"))
		defer func() { _, _ = os.Remove(path+".log"), os.Remove(path+".gaps") }()
		output := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "output")
		lost := make([]bool, len(output)) // which bytes ended in a gap
		l := mustOpen(t, path)
		for l.Offset() < uint64(len(output)) {
			at := l.Offset()
			// A shim may repeat what it sent before.
			from := uint64(rapid.IntRange(0, int(at)).Draw(t, "from"))
			to := uint64(rapid.IntRange(int(at)+1, len(output)).Draw(t, "to"))
			gap := rapid.Bool().Draw(t, "gap")
			before := sizes(t, path)
			var err error
			if gap {
				err = l.Gap(from, to)
			} else {
				err = l.Append(from, output[from:to])
			}
			if err != nil || l.Offset() != to {
				t.Fatalf("gap=%v [%d,%d) at %d: %v, now at %d", gap, from, to, at, err, l.Offset())
			}
			if rapid.Bool().Draw(t, "kill") {
				// Cut the write that was made, which is the same as being killed in it.
				after := sizes(t, path)
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				which := 0
				if gap {
					which = 1
				}
				if after[1-which] != before[1-which] {
					t.Fatal("wrote both files")
				}
				wrote := after[which] - before[which]
				kept := int64(rapid.IntRange(0, int(wrote)).Draw(t, "kept"))
				if after[which] > 0 {
					if err := os.Truncate(path+[]string{".log", ".gaps"}[which], before[which]+kept); err != nil {
						t.Fatal(err)
					}
				}
				switch {
				case !gap:
					to = at + uint64(kept)
				case kept < wrote:
					to = at
				}
				l = mustOpen(t, path)
				if l.Offset() != to || l.Synced() != to {
					t.Fatalf("after the kill at %d/%d, want %d", l.Offset(), l.Synced(), to)
				}
			}
			if gap {
				for i := at; i < to; i++ {
					lost[i] = true
				}
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var want []byte
		for i, b := range output {
			if !lost[i] {
				want = append(want, b)
			}
		}
		got, err := os.ReadFile(path + ".log")
		if len(want) == 0 && errors.Is(err, fs.ErrNotExist) {
			return // a payload that said nothing has no file
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %q, want %q, %v", got, want, err)
		}
	})
}

func mustOpen(t *rapid.T, path string) *Log {
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func sizes(t *rapid.T, path string) (s [2]int64) {
	for i, suffix := range []string{".log", ".gaps"} {
		st, err := os.Stat(path + suffix)
		if err == nil {
			s[i] = st.Size()
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return s
}

func TestLogDetectsGaps(t *testing.T) {
	r := openRun(t, t.TempDir(), "")
	defer closeRun(t, r)
	l, err := r.Log("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Append(0, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	if l.Offset() != 3 || l.Synced() != 0 {
		t.Errorf("at %d, synced %d", l.Offset(), l.Synced())
	}
	if err := l.Append(4, []byte("x")); !errors.Is(err, ErrGap) {
		t.Errorf("got %v", err)
	}
	if err := l.Gap(4, 9); !errors.Is(err, ErrGap) {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(l.Append(1, []byte("bc")), l.Gap(0, 3)); err != nil || l.Offset() != 3 {
		t.Errorf("repetition: %v, at %d", err, l.Offset())
	}
	if err := l.Sync(); err != nil || l.Synced() != 3 {
		t.Errorf("%v, synced %d", err, l.Synced())
	}
	if err := l.Gap(2, 10); err != nil || l.Offset() != 10 {
		t.Errorf("%v, at %d", err, l.Offset())
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for _, host := range []string{"", "..", ".x", "a/b", "a\x00"} {
		if _, err := r.Log(host); err == nil {
			t.Errorf("%q is a host name", host)
		}
	}
}

func TestDamagedGaps(t *testing.T) {
	for _, text := range []string{"x\n", "5 5\n", "5 3\n", "0 9\n4 10\n", "-1 4\n"} {
		if _, _, err := parseGaps([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzParseGaps(f *testing.F) {
	f.Add([]byte("0 10\n20 30\n4"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lost, good, err := parseGaps(text)
		if err != nil {
			return
		}
		if again, good2, err := parseGaps(text[:good]); err != nil || again != lost || good2 != good {
			t.Fatalf("the good part reads differently: %d %d %v", again, good2, err)
		}
	})
}
