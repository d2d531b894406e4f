package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
	"github.com/mgmt-remote/mgmt-remote/test/terminal"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// maxSize is the largest that the tour may be: everybody who looks at the project loads it.
const maxSize = 300 << 10

var update = flag.Bool("update", false, "write testdata anew")

// words returns the text of an SVG, and fails where it is no XML.
func words(t *testing.T, svg []byte) string {
	t.Helper()
	var text strings.Builder
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return text.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if chars, ok := token.(xml.CharData); ok {
			text.Write(chars)
		}
	}
}

// The tour that README shows is of this script, whole, and small enough.
func TestRecordedTour(t *testing.T) {
	svg, err := os.ReadFile("../../docs/tour.svg")
	if err != nil {
		t.Fatal(err)
	}
	if len(svg) > maxSize {
		t.Errorf("docs/tour.svg has %d bytes, more than %d", len(svg), maxSize)
	}
	text := words(t, svg)
	if !strings.Contains(text, describe(script)) {
		t.Error("docs/tour.svg was recorded with another script: run `make tour`")
	}
	for _, s := range script {
		if s.end == nil || !s.end.MatchString(text) {
			t.Errorf("docs/tour.svg does not show %v, the end of %q", s.end, s.command)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(readme, []byte("(docs/tour.svg)")) {
		t.Error("README does not show docs/tour.svg")
	}
}

// What is recorded is what was typed and what a program wrote.
func TestRecords(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	text := "#!/bin/sh\nread -r line <fleet.yaml; sleep 0.5; echo \"$line\"\nwhile read -r x; do printf '\\033[1;31mgot %s\\033[0m\\n' \"$x\"; [ \"$x\" != end ] || exit; done\n"
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := record(t.Context(), program, []scene{{
		about: "a; b", command: "mgmt-remote # long" + strings.Repeat(" long", cols/5),
		actions: []action{
			{see: regexp.MustCompile(`hosts:`), text: "once"}, {press: []string{"Enter"}},
			{see: regexp.MustCompile(`got once`), look: 1, text: "end", press: []string{"Enter"}},
		},
		end: regexp.MustCompile(`got end`), look: 12,
	}})
	if err != nil {
		t.Fatal(err)
	}
	svg := f.svg("<all> of it")
	shown := words(t, svg)
	for _, want := range []string{"<all> of it", "# a; b", "mgmt-remote # long", "hosts:", "got once", "got end"} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %q in\n%s", want, svg)
		}
	}
	last := f.frames[len(f.frames)-1]
	if held := f.length - final - last.at; held < 12*shot {
		t.Errorf("the end is shown for %v instead of 12 tenths of a second", held)
	}
	for i, fr := range f.frames[1:] {
		if fr.at <= f.frames[i].at || fr.screen == f.frames[i].screen {
			t.Errorf("frame %d, at %v, is not after frame %d, at %v, or the same", i+1, fr.at, i, f.frames[i].at)
		}
	}
}

// A command that does not do what it should is not shown to anybody.
func TestFailsWhereTheEndIsAnother(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho no\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := record(t.Context(), program, []scene{{about: "all", command: "mgmt-remote", end: regexp.MustCompile("yes")}})
	if err == nil || !strings.Contains(err.Error(), "all: yes is not to be seen at the end:\n$ # all\n$ mgmt-remote\nno\n") {
		t.Errorf("%v", err)
	}
}

// Keys for a command that has ended are not typed at the shell.
func TestFailsWhereKeysAreLate(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := record(t.Context(), program, []scene{{about: "all", command: "mgmt-remote", actions: []action{{see: prompt, text: "q"}}}})
	if err == nil || !strings.Contains(err.Error(), `all: the command has ended before keys "q"`) {
		t.Errorf("%v", err)
	}
}

// A frame is drawn as its terminal showed it: colours, blanks, wide characters, the cursor; what stays the same is drawn once.
func TestDraws(t *testing.T) {
	first := terminal.Screen{Styled: "\x1b[1;32m$\x1b[0m a  b <&>\n\n\x1b[7m rev \x1b[0m\x1b[38;5;203mred\x1b[0m \x1b[3;4;38;2;1;2;3mx\x1b[0m 日本\n\x1b[2mfaint\x1b[0m"}
	second := first
	second.Styled += "\nmore"
	second.Cursor, second.CursorX, second.CursorY = true, 4, 4
	f := film{frames: []frame{{0, first}, {1500 * time.Millisecond, second}}, length: 4 * time.Second}
	got := f.svg("two frames")
	words(t, got)
	const golden = "testdata/two.svg"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("is not %s (-update writes it):\n%s", golden, got)
	}
}
