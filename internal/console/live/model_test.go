package live

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

var update = flag.Bool("update", false, "write the golden screens")

// terminal is a model whose screens a test sees, and what its keys did to the run.
type terminal struct {
	*testing.T
	m    *model
	v    *View
	did  []string
	fail error
}

func (t *terminal) Pause() error    { return t.done("pause") }
func (t *terminal) Continue() error { return t.done("continue") }
func (t *terminal) SetMaxConnections(n int) error {
	return t.done(fmt.Sprintf("at once %d", n))
}
func (t *terminal) Drop(host string) error  { return t.done("drop " + host) }
func (t *terminal) Retry(host string) error { return t.done("retry " + host) }
func (t *terminal) Interrupt()              { _ = t.done("interrupt") }

func (t *terminal) done(what string) error {
	t.did = append(t.did, what)
	return t.fail
}

// newTerminal shows 500 hosts that are everywhere on their way.
func newTerminal(t *testing.T, width, height int) *terminal {
	v := New(Options{})
	v.ready = make(chan struct{})
	tt := &terminal{T: t, v: v, m: newModel(v)}
	tt.m.now = func() time.Time { return at(62) }
	v.Steer(tt)
	tt.m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	all := names(500)
	tt.feed(messages.RunStarted{At: start, Run: "k3v9x0ab", Hosts: all}, messages.ConnectionsLimited{At: start, Limit: 400})
	for i, name := range all[:400] {
		step := messages.Step(1 + i%9)
		switch {
		case i < 300:
			tt.feed(messages.HostFinished{At: at(20), Result: messages.Result{Host: name, Outcome: messages.OutcomeSucceeded, Took: 20 * time.Second}})
			continue
		case i >= 390:
			tt.feed(
				messages.HostTroubled{At: at(40), Host: name, Attempt: 1, Reason: "copy: no space left on device", Retry: false},
				messages.HostFinished{At: at(40), Result: messages.Result{
					Host: name, Outcome: messages.OutcomeFailed, Reason: "copy: no space left on device", Remedy: "make room, or use --prefix", Took: 40 * time.Second,
				}})
			continue
		case i >= 385:
			tt.feed(messages.HostTroubled{At: at(60), Host: name, Attempt: 2, Reason: "connect: connection refused", Retry: true, RetryIn: 5 * time.Second},
				messages.StateChanged{At: at(60), Host: name, Epoch: 3, State: "Waiting"})
			continue
		}
		tt.feed(messages.StepStarted{At: at(float64(i%50) + 1), Host: name, Step: step})
		switch step {
		case messages.StepCopy:
			tt.feed(messages.Progressed{At: at(50), Host: name, Sent: int64(i) * 1000, Total: 1_000_000})
		case messages.StepRun:
			tt.feed(messages.PayloadStarted{At: at(50), Host: name, PID: 4711}, messages.QuietReported{At: at(55), Host: name, Quiet: i%2 == 0},
				messages.OutputReceived{At: at(50), Host: name, Data: []byte("hello from " + name + "\n\x1b[2Jred\r\n\tta")})
		}
	}
	tt.feed(messages.HostWarned{At: at(61), Host: "web301", Text: "the session ends at logout: \x1b]0;title\a"})
	return tt
}

func (t *terminal) feed(events ...messages.Event) {
	for _, e := range events {
		t.v.state.apply(e)
		t.v.changes++
	}
}

// press presses keys, and has what follows from them done.
func (t *terminal) press(keys ...string) {
	t.Helper()
	codes := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "down": tea.KeyDown, "up": tea.KeyUp, "end": tea.KeyEnd, "home": tea.KeyHome, "backspace": tea.KeyBackspace}
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		if code, special := codes[k]; special {
			msg = tea.KeyPressMsg{Code: code}
		} else if k == "^C" {
			msg = tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
		}
		if _, cmd := t.m.Update(msg); cmd != nil {
			t.m.Update(cmd())
		}
	}
}

// screen is what is seen, without colours. Nothing is wider or higher than the terminal, and nothing drives it.
func (t *terminal) screen() string {
	t.Helper()
	content := t.m.View().Content
	if strings.Contains(content, "\x1b]") || strings.Contains(content, "\x1b[2J") {
		t.Errorf("something drives the terminal: %q", content)
	}
	text := ansi.Strip(content)
	lines := strings.Split(text, "\n")
	if len(lines) > t.m.height {
		t.Errorf("%d lines in a terminal of %d", len(lines), t.m.height)
	}
	for i, l := range lines {
		if w := ansi.StringWidth(l); w > t.m.width {
			t.Errorf("line %d is %d wide: %q", i+1, w, l)
		}
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "\n")
}

func (t *terminal) golden(name string) {
	t.Helper()
	path := filepath.Join("testdata", fmt.Sprintf("%s-%dx%d.txt", name, t.m.width, t.m.height))
	got := t.screen() + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not (go test -update writes it):\n%s", path, got)
	}
}

func TestScreens(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {200, 50}, {40, 10}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			tt := newTerminal(t, size[0], size[1])
			tt.golden("overview")
			tt.press("o")
			tt.golden("output")
			tt.press("o", "enter")
			tt.golden("hosts")
			tt.press("/", "c", "o", "p", "y")
			tt.golden("typing")
			tt.press("enter", "down", "enter")
			tt.golden("host")
			tt.press("d")
			tt.golden("drop")
			tt.press("n", "?")
			tt.golden("help")
		})
	}
}

// TestKeysSteer: what keys do to the run.
func TestKeysSteer(t *testing.T) {
	tt := newTerminal(t, 80, 24)
	wants := func(key string, want ...string) {
		t.Helper()
		tt.did = nil
		tt.press(key)
		if fmt.Sprint(tt.did) != fmt.Sprint(want) {
			t.Errorf("%s did %q, want %q", key, tt.did, want)
		}
	}
	wants("p", "pause")
	tt.feed(messages.RunPaused{At: at(62), Reason: "wave 1 of 2 is done"})
	if s := tt.screen(); !strings.Contains(s, "wave 1 of 2 is done: p begins it") {
		t.Errorf("nobody is asked:\n%s", s)
	}
	wants("p", "continue")
	tt.feed(messages.RunContinued{At: at(62)})
	wants("+", "at once 401")
	wants("-", "at once 399")
	tt.feed(messages.ConnectionsLimited{At: at(62), Limit: 499})
	wants("+", "at once 0")
	tt.feed(messages.ConnectionsLimited{At: at(62), Limit: 0})
	wants("+", "at once 0")
	wants("-", "at once 89") // 90 are in work
	tt.feed(messages.ConnectionsLimited{At: at(62), Limit: 1})
	wants("-", "at once 1")
	wants("r", "retry ")
	wants("d") // no host is chosen
	tt.press("/", "w", "e", "b", "3", "8", "6", "x", "backspace", "enter")
	wants("r", "retry web386")
	wants("d")
	wants("n")
	wants("d")
	wants("y", "drop web386")
	wants("^C", "interrupt")
	tt.press("esc", "enter", "home")
	wants("d") // web1 is done
	wants("y")
	tt.fail = errors.New("the hosts of this run\nconverge together")
	wants("p", "pause")
	if s := tt.screen(); !strings.HasSuffix(s, "the hosts of this run converge together") {
		t.Errorf("the error is not shown:\n%s", s)
	}
	if cmd := tt.m.press(tea.KeyPressMsg{Code: 'q', Text: "q"}); cmd == nil || cmd() != tea.Quit() {
		t.Error("q does not leave")
	}
	tt.v.Steer(nil)
	tt.press("p")
	if s := tt.screen(); !strings.HasSuffix(s, errAlone.Error()) {
		t.Errorf("a run that can't be steered:\n%s", s)
	}
}

// TestNothingNewNothingMade: a screen is made where something changed, and once a second.
func TestNothingNewNothingMade(t *testing.T) {
	tt := newTerminal(t, 80, 24)
	tt.screen()
	tt.m.shown = "as it was"
	tt.m.Update(tick{})
	if got := tt.m.View().Content; got != "as it was" {
		t.Errorf("made anew:\n%s", got)
	}
	tt.feed(messages.QuietReported{At: at(62), Host: "web400", Quiet: true})
	if got := tt.m.View().Content; got == "as it was" {
		t.Error("a change is not shown")
	}
	tt.m.shown = "as it was"
	tt.m.now = func() time.Time { return at(63) }
	if got := tt.m.View().Content; got == "as it was" {
		t.Error("time does not pass")
	}
}

// TestSelectionStays: the chosen host stays chosen, and is seen, whatever else changes.
func TestSelectionStays(t *testing.T) {
	tt := newTerminal(t, 80, 24)
	tt.press("enter", "end")
	if s := tt.screen(); !strings.Contains(s, "web500") || tt.m.selected != "web500" {
		t.Errorf("%s:\n%s", tt.m.selected, s)
	}
	tt.feed(messages.StepStarted{At: at(62), Host: "web1000", Step: messages.StepConnect}) // added to the run
	if tt.screen(); tt.m.selected != "web500" {
		t.Error(tt.m.selected)
	}
	tt.press("/", "w", "e", "b", "7", "enter")
	if s := tt.screen(); tt.m.selected != "web7" || strings.Contains(s, "web500") {
		t.Errorf("%s:\n%s", tt.m.selected, s)
	}
	tt.press("/", "n", "o", "n", "e", "enter")
	if s := tt.screen(); !strings.Contains(s, "no host is like that") {
		t.Error(s)
	}
}
