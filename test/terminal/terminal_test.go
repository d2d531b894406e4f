package terminal

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// see waits until the terminal shows what is looked for.
func see(t *testing.T, term *Terminal, want string) {
	t.Helper()
	re := regexp.MustCompile(want)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	over := time.After(patience)
	for {
		text, err := term.Text()
		if err != nil {
			t.Fatal(err)
		}
		if re.MatchString(text) {
			return
		}
		select {
		case <-look.C:
		case <-over:
			t.Fatalf("no %s in\n%s", want, text)
		}
	}
}

func start(t *testing.T, program string, env ...string) *Terminal {
	t.Helper()
	term, err := Start(t.TempDir(), 40, 10, env, "sh", "-c", program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := term.Close(); err != nil {
			t.Error(err)
		}
	})
	return term
}

func TestShowsWhatAProgramDraws(t *testing.T) {
	// What is drawn last is waited for: a terminal may be shown what a program writes at once in several pieces.
	term := start(t, `printf 'size %s\n\033[31mred\033[0m %s\033[?25l\nend' "$(stty size)" "$WORD"; read x`, "WORD=two words")
	see(t, term, "size 10 40\nred two words\nend")
	s, err := term.Screen()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.Styled, "\x1b[31mred\x1b[39m two words") || s.Cursor || s.CursorX != 3 || s.CursorY != 2 {
		t.Errorf("%q, cursor %v at %d, %d", s.Styled, s.Cursor, s.CursorX, s.CursorY)
	}
}

// Words that mean something to tmux or a shell arrive as they are.
func TestTypes(t *testing.T) {
	term := start(t, `while read -r x; do printf 'got <%s>\n' "$x"; done`)
	for _, text := range []string{"a b;", ";", "-l", "Enter", "'$HOME' #{pane_id} \\", "é→"} {
		if err := term.Type(text); err != nil {
			t.Fatal(err)
		}
		if err := term.Press("Enter"); err != nil {
			t.Fatal(err)
		}
		see(t, term, regexp.QuoteMeta("got <"+text+">"))
	}
}

func TestResizes(t *testing.T) {
	// A trap may miss the signal: the shell looks for one, and waits for a line after that.
	term := start(t, `stty size; until [ "$(stty size)" = "12 33" ]; do sleep 0.05; done; stty size; read x`)
	see(t, term, "10 40")
	if err := term.Resize(33, 12); err != nil {
		t.Fatal(err)
	}
	see(t, term, "12 33")
}

// Close ends the program, and is no error where it has ended.
func TestCloses(t *testing.T) {
	dir := t.TempDir()
	term, err := Start(dir, 40, 10, nil, "sh", "-c", `trap "echo end >`+dir+`/end; exit" HUP; echo ready; while :; do read x; done`)
	if err != nil {
		t.Fatal(err)
	}
	see(t, term, "ready")
	for range 2 {
		if err := term.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir + "/end"); err != nil {
		t.Errorf("Close did not wait for the program: %v", err)
	}
}

// Close is no error either in the moment after the program's end in which the server is still there.
func TestClosesWithoutAWindow(t *testing.T) {
	term := start(t, "read x")
	if _, err := term.tmux("set-option", "-s", "exit-empty", "off", ";", "kill-session"); err != nil {
		t.Fatal(err)
	}
	if err := term.Close(); err != nil {
		t.Error(err)
	}
	if _, err := term.tmux("kill-server"); err != nil {
		t.Error(err)
	}
}
