package shim

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

func FuzzReadRecord(f *testing.F) {
	f.Add(appendRecord(nil, outputRecord{offset: 7, stderr: true, data: []byte("hello")}))
	f.Add(appendRecord(appendRecord(nil, outputRecord{data: []byte("a")}), outputRecord{offset: 1, data: []byte("b")}))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		var buf []byte
		for at := 0; ; {
			var rec outputRecord
			var err error
			rec, buf, err = readRecord(r, buf)
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, errEndOfWrite) && !errors.Is(err, errBadRecord) {
					t.Fatalf("unexpected error %v", err)
				}
				return
			}
			again := appendRecord(nil, rec)
			if !bytes.Equal(again, in[at:at+len(again)]) {
				t.Fatalf("record %v is encoded differently", rec)
			}
			at += len(again)
		}
	})
}

func TestDamagedRecordIsFound(t *testing.T) {
	enc := appendRecord(nil, outputRecord{offset: 9, data: []byte("data")})
	for i := range enc {
		bad := bytes.Clone(enc)
		bad[i] ^= 0x10
		if _, _, err := readRecord(bytes.NewReader(bad), nil); err == nil {
			t.Errorf("a flipped bit in byte %d is not found", i)
		}
	}
	for n := 1; n < len(enc); n++ {
		if _, _, err := readRecord(bytes.NewReader(enc[:n]), nil); !errors.Is(err, errEndOfWrite) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// TestLogKeepsEveryByteInOrder compares the log with a plain slice, whatever is appended, acknowledged, read, dropped and
// reopened, and wherever a dying shim cut the last record.
func TestLogKeepsEveryByteInOrder(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		limit := rapid.Int64Range(1, 64<<10).Draw(t, "cap")
		open := func() *outputLog {
			l, err := openLog(dir, limit)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		l := open()
		r := &logReader{log: l}
		defer func() { r.close(); l.close() }()
		var all, kind []byte // what was appended, and of which stream each byte is
		from := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				data := bytes.Repeat([]byte{byte(len(all))}, rapid.IntRange(1, 9000).Draw(t, "n"))
				stderr := rapid.Bool().Draw(t, "stderr")
				if err := l.append(stderr, data); err != nil {
					t.Fatal(err)
				}
				all = append(all, data...)
				for range data {
					kind = append(kind, map[bool]byte{true: 1}[stderr])
				}
			},
			"read": func(t *rapid.T) {
				limit := from + rapid.Uint64Range(0, 20_000).Draw(t, "credit")
				c, ok, err := r.read(from, limit)
				if err != nil {
					t.Fatal(err)
				}
				start, end := l.bounds()
				switch {
				case !ok:
					if from < end && limit > from {
						t.Fatalf("nothing at %d of %d..%d", from, start, end)
					}
				case c.data == nil:
					if c.gapEnd != start || c.gapEnd <= from {
						t.Fatalf("gap %d..%d in %d..%d", from, c.gapEnd, start, end)
					}
					from = c.gapEnd
				default:
					if c.offset != from || c.end() > limit || !bytes.Equal(c.data, all[from:c.end()]) {
						t.Fatalf("wrong bytes at %d..%d", c.offset, c.end())
					}
					for _, k := range kind[from:c.end()] {
						if (k == 1) != c.stderr {
							t.Fatalf("streams are mixed in %d..%d", c.offset, c.end())
						}
					}
					from = c.end()
				}
			},
			"ack": func(t *rapid.T) {
				if err := l.ack(rapid.Uint64Range(0, from).Draw(t, "offset")); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": func(*rapid.T) {
				start, end := l.bounds()
				r.close()
				l.close()
				l = open()
				r = &logReader{log: l}
				if s, e := l.bounds(); s != start || e != end {
					t.Fatalf("%d..%d after reopening, %d..%d before", s, e, start, end)
				}
			},
			"": func(t *rapid.T) {
				if most := max(limit, l.segmentSize+maxRecord+recordHeader); l.total > most {
					t.Fatalf("%d bytes kept, cap %d", l.total, limit)
				}
			},
		})
	})
}

func TestLogSurvivesATornRecord(t *testing.T) {
	dir := t.TempDir()
	l, err := openLog(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"first ", "second ", "third"} {
		if err := l.append(false, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	l.close()
	path := segmentPath(dir, 1)
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
	if err := os.Truncate(path, fi.Size()-2); err != nil {
		t.Fatal(err)
	}
	l, err = openLog(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &logReader{log: l}
	defer r.close()
	c, ok, err := r.read(0, 1000)
	if err != nil || !ok || string(c.data) != "first second " {
		t.Errorf("got %q, %v, %v", c.data, ok, err)
	}
	if _, end := l.bounds(); end != 13 {
		t.Errorf("the log ends at %d, want 13", end)
	}
}

func TestOutputThatCantBeWrittenIsAGap(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := openLog(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	// A directory where the first segment should be stands for a full disk.
	if err := os.Mkdir(segmentPath(dir, 1), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.append(false, []byte("lost")); err == nil {
		t.Error("no error for lost output")
	}
	if err := os.Remove(segmentPath(dir, 1)); err != nil {
		t.Fatal(err)
	}
	if err := l.append(true, []byte("kept")); err != nil {
		t.Fatal(err)
	}
	r := &logReader{log: l}
	defer r.close()
	if c, ok, err := r.read(0, 100); err != nil || !ok || c.data != nil || c.gapEnd != 4 {
		t.Errorf("got %v, %v, %v; want a gap up to 4", c, ok, err)
	}
	if c, ok, err := r.read(4, 100); err != nil || !ok || string(c.data) != "kept" || !c.stderr {
		t.Errorf("got %v, %v, %v", c, ok, err)
	}
}

// TestSegmentsAreInOrder: numbers get longer than their six digits in a session that lives for long.
func TestSegmentsAreInOrder(t *testing.T) {
	dir := t.TempDir()
	l, err := openLog(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	l.nextSeq, l.segmentSize = 999_999, minSegment
	for range 3 { // one segment each
		if err := l.append(false, make([]byte, minSegment/2)); err != nil {
			t.Fatal(err)
		}
	}
	start, end := l.bounds()
	l.close()
	if l, err = openLog(dir, 1<<20); err != nil {
		t.Fatal(err)
	}
	if s, e := l.bounds(); s != start || e != end || end != 3*minSegment/2 {
		t.Errorf("%d..%d after reopening, %d..%d before", s, e, start, end)
	}
}

// TestLogOfAnHour appends what a chatty payload writes in an hour to a log that nobody takes.
func TestLogOfAnHour(t *testing.T) {
	const limit, perSecond = 1 << 20, 256 << 10
	dir := t.TempDir()
	l, err := openLog(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	second := bytes.Repeat([]byte("0123456789abcde\n"), perSecond/16)
	for i := range 3600 {
		if err := l.append(i%2 == 1, second); err != nil {
			t.Fatal(err)
		}
		if i%100 != 0 {
			continue
		}
		if size := diskUse(t, dir); size > limit+l.segmentSize {
			t.Fatalf("after %d s: %d bytes on disk, the cap is %d", i, size, limit)
		}
	}
	start, end := l.bounds()
	if end != 3600*perSecond || end-start > limit || end-start < limit/2 {
		t.Errorf("%d..%d is kept", start, end)
	}
	r := &logReader{log: l}
	defer r.close()
	c, ok, err := r.read(0, 1<<40)
	if err != nil || !ok || c.data != nil || c.gapEnd != start {
		t.Errorf("got %v, %v, %v; want a gap up to %d", c, ok, err, start)
	}
	for from := start; from < end; from = c.end() {
		if c, ok, err = r.read(from, 1<<40); err != nil || !ok || c.data == nil || c.offset != from {
			t.Fatalf("nothing at %d: %v, %v", from, ok, err)
		}
		if want := (from / perSecond) % 2; c.stderr != (want == 1) {
			t.Fatalf("the stream at %d is wrong", from)
		}
	}
}

func diskUse(t *testing.T, dir string) (total int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // dropped meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		total += fi.Size()
	}
	return total
}
