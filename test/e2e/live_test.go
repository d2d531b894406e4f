//go:build linux

package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"al.essio.dev/pkg/shellescape"

	"github.com/mgmt-remote/mgmt-remote/test/terminal"
)

var updateScreens = flag.Bool("update", false, "write the golden screens of the live view")

// screen is a terminal that a test looks at.
type screen struct {
	*testing.T
	terminal      *terminal.Terminal
	width, height int
}

// startScreen runs a command line of sh in a terminal.
func startScreen(t *testing.T, dir string, env []string, width, height int, line string) *screen {
	t.Helper()
	term, err := terminal.Start(dir, width, height, env, "sh", "-c", line)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := term.Close(); err != nil {
			t.Error(err)
		}
	})
	return &screen{T: t, terminal: term, width: width, height: height}
}

func (s *screen) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *screen) press(keys ...string) {
	s.Helper()
	s.check(s.terminal.Press(keys...))
}

// await waits until the screen has all texts, and returns it.
func (s *screen) await(texts ...string) string {
	s.Helper()
	for deadline := time.Now().Add(runFor); ; time.Sleep(50 * time.Millisecond) {
		text, err := s.terminal.Text()
		s.check(err)
		missing := ""
		for _, want := range texts {
			if !strings.Contains(text, want) {
				missing = want
			}
		}
		if missing == "" {
			return text
		}
		if time.Now().After(deadline) {
			s.Fatalf("%q is not to be seen:\n%s", missing, text)
		}
	}
}

// volatile is what differs from run to run on a screen, with what stands there instead.
var volatile = []struct {
	what *regexp.Regexp
	mask string
}{
	{regexp.MustCompile(`run [a-z0-9]{8} `), "run RUN "},
	{regexp.MustCompile(`\b(\d+(\.\d+)?(ms|s)|\d+m\d+s)( +|$)`), "TIME "},
	{regexp.MustCompile(`\d+(\.\d+)? [kMG]B`), "N MB"},
	{regexp.MustCompile(`pid \d+`), "pid N"},
}

// masked is a screen without what differs from run to run.
func masked(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := range lines {
		for _, v := range volatile {
			lines[i] = v.what.ReplaceAllString(lines[i], v.mask)
		}
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// golden waits until what is seen is what is to be seen: a screen with all texts may be drawn by half, or say more a moment later.
func (s *screen) golden(name string, texts ...string) {
	s.Helper()
	path := filepath.Join("testdata", fmt.Sprintf("live-%s-%dx%d.txt", name, s.width, s.height))
	got := masked(s.await(texts...))
	if *updateScreens {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			s.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	for deadline := time.Now().Add(settledFor); got != string(want); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("%s is not (go test -update writes it):\n%s", path, got)
		}
		got = masked(s.await(texts...))
	}
}

// settledFor bounds how long a screen may take from the texts that are waited for until all of it is as it is to be.
const settledFor = 30 * time.Second

// TestLiveView drives the real program in a real terminal, with 500 hosts of which 100 are in work, by its keys.
func TestLiveView(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{80, 24}, {200, 50}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			t.Parallel()
			l := emptyLab(t)
			sims := l.startSimhosts(500, "run=0,lines=2")
			var hosts strings.Builder
			hosts.WriteString("hosts:\n")
			for _, h := range sims.Hosts {
				fmt.Fprintf(&hosts, "  %s: {address: %s, port: %d}\n", h.Name, h.Addr, h.Port)
			}
			argv := []string{
				l.program, "run", "--max-connections", "100", "-i", sims.Identity, "--known-hosts", sims.KnownHosts,
				"-I", l.file("hosts.yaml", hosts.String(), 0o600), "--", "true",
			}
			s := startScreen(t, l.dir, l.env(), size[0], size[1], shellescape.QuoteCommand(argv)+"; echo EXIT $?; stty -a | grep -o ' icanon'; sleep 600")

			steady := fmt.Sprintf("%-16s%6d", "5 run", 100)
			s.golden("overview", steady, "sim[0-99]", "sim[100-499]")
			s.press("/")
			s.check(s.terminal.Type("sim9"))
			s.press("Enter")
			s.golden("hosts", "[sim9]", "HOST", "sim99")
			s.press("Down", "Enter")
			s.golden("host", "sim90", "line 2")
			s.press("?")
			s.golden("help", "keys")
			s.press("Escape")
			s.await("line 2")
			s.press("Escape")
			s.await("HOST")
			s.press("Escape")
			s.await(steady)
			s.press("p")
			s.await("PAUSED")
			s.press("-")
			s.await("99 at once")
			s.check(s.terminal.Resize(60, 16))
			s.await("at work", "run 100")
			s.check(s.terminal.Resize(size[0], size[1]))
			s.await(steady)

			// The first ^C ends the payloads. The terminal is then what it was, with the report on it.
			s.press("C-c")
			s.await("EXIT 130", " icanon", "0 of 500 hosts ok")
			if alternate, err := s.terminal.Alternate(); err != nil || alternate {
				t.Errorf("the view has not given the screen back: %v", err)
			}
		})
	}
}
