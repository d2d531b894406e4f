package shim

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestNews(t *testing.T) {
	var s status
	var told, other seen
	expect := func(who *seen, want ...bool) {
		t.Helper()
		if got := s.news(who); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	say := func(lines ...string) {
		for _, line := range lines {
			s.say([]byte(line))
		}
	}
	expect(&told, false)
	expect(&told)
	say("true")
	expect(&told, true)
	expect(&told)
	say("true")
	expect(&told)
	say("false", "true")
	expect(&told, false, true) // it did not last, and is told all the same
	expect(&other, false, true)
	say("false", "true", "false", "true", "false")
	expect(&told, false)
	expect(&other, false)
	say("true")
	expect(&told, true)
	say("nonsense")
	expect(&told, false)
	expect(&seen{}, false)
	say(" true\r")
	expect(&told, true)
}

// However the lines arrive, what is read is what was written: the last whole line counts, and every one that does not
// say "true" is a dip.
func TestStatusFile(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "status")
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		var s status
		f := statusFile{path: path}
		written := ""
		for range rapid.IntRange(1, 20).Draw(t, "appends") {
			if rapid.Bool().Draw(t, "append") {
				text := rapid.SampledFrom([]string{"true\n", "false\n", "tr", "ue\n", "false\ntrue\n", "\n", "x"}).Draw(t, "text")
				file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := file.WriteString(text); err != nil {
					t.Fatal(err)
				}
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
				written += text
			}
			before := s.dips
			was := s.quiet
			news, err := f.poll(s.say)
			if err != nil {
				t.Fatal(err)
			}
			if !news && (s.dips != before || s.quiet != was) {
				t.Fatal("news are not told")
			}
			var dips uint64
			quiet := false
			for line := range strings.Lines(written) {
				if !strings.HasSuffix(line, "\n") {
					break
				}
				if quiet = line == "true\n"; !quiet {
					dips++
				}
			}
			if s.dips != dips || s.quiet != quiet {
				t.Fatalf("after %q: %d dips, quiet %v; want %d, %v", written, s.dips, s.quiet, dips, quiet)
			}
		}
	})
}

func TestStatusFileOddities(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	var s status
	f := statusFile{path: path}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.poll(s.say); err != nil {
			t.Fatal(err)
		}
	}
	write("true\ntrue\n")
	if !s.quiet || s.dips != 0 {
		t.Errorf("%v, %d dips", s.quiet, s.dips)
	}
	write("true\n") // begun anew
	if !s.quiet || s.dips != 1 {
		t.Errorf("begun anew: %v, %d dips", s.quiet, s.dips)
	}
	write("true\n" + strings.Repeat("x", 3*maxStatus))
	if s.quiet || len(f.rest) > maxStatus {
		t.Errorf("a line without an end: %v, %d bytes kept", s.quiet, len(f.rest))
	}
	write("true\n" + strings.Repeat("x", 3*maxStatus) + "\ntrue\n")
	if !s.quiet {
		t.Error("what follows a line without an end is not read")
	}
	f = statusFile{path: filepath.Dir(path)}
	if news, err := f.poll(s.say); news || err != nil {
		t.Errorf("a directory: %v, %v", news, err)
	}
	f = statusFile{path: path + "/below"}
	if _, err := f.poll(s.say); err == nil {
		t.Error("a path that can't be is no error")
	}
}

// quiet reads frames up to the next Quiet and returns what it says.
func (c *client) quiet() bool {
	c.t.Helper()
	for {
		if q := c.recv().GetQuiet(); q != nil {
			return q.Quiet
		}
	}
}

func (c *client) wantQuiet(want ...bool) {
	c.t.Helper()
	for i, w := range want {
		if got := c.quiet(); got != w {
			c.t.Fatalf("frame %d says quiet=%v, want %v", i, got, w)
		}
	}
}

// What the payload says of itself reaches whoever is attached, also what was said while nobody was, and ends with it.
func TestStatusFrames(t *testing.T) {
	// Open for both: who opens the pipe anew for each line may find the writer of the last one, and lose what the next one writes.
	s := script(t, `cd "$MGMT_REMOTE_DIR"; exec 3<>say; while read line <&3 && [ "$line" != end ]; do echo "$line" | tr ' ' '\n' >> status; done`)
	s.spec.StatusFile = s.path("status")
	s.write()
	if err := unix.Mkfifo(s.path("say"), 0o600); err != nil {
		t.Fatal(err)
	}
	say := func(words string) {
		t.Helper()
		if err := os.WriteFile(s.path("say"), []byte(words+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := s.welcome("start", nil)
	c.wantQuiet(false)
	say("true")
	c.wantQuiet(true)
	say("false true")
	c.wantQuiet(false, true)
	c.kill()
	d, _ := s.welcome("attach", nil)
	d.wantQuiet(false, true)
	say("false")
	d.wantQuiet(false)
	d.kill()
	say("true")
	d, _ = s.welcome("attach", nil)
	d.wantQuiet(false, true)
	say("end")
	if _, _, exit := d.collect(0); exit.Code != 0 || exit.Signal != 0 {
		t.Errorf("exit %v", exit)
	}
	d.cleanUp()
	s.nothingLeft(s.dir)
}

// A payload without a status file says nothing of itself, whatever it writes.
func TestNoStatusFile(t *testing.T) {
	s := script(t, `echo true > "$MGMT_REMOTE_DIR/status"; sleep 0.6`)
	s.write()
	c, _ := s.welcome("start", nil)
	if _, _, exit := c.collect(0); exit.Code != 0 { // collect takes no Quiet
		t.Errorf("exit %v", exit)
	}
	c.cleanUp()
}
