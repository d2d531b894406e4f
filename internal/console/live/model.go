package live

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
)

// refresh is how often the screen may change.
const refresh = 100 * time.Millisecond

// screen is one of the pages of the view.
type screen uint8

const (
	overview screen = iota
	hostList
	inspect
	help
)

// model is the view as bubbletea has it. It runs in bubbletea's goroutine; the state is shared with whoever prints events.
type model struct {
	view          *View
	now           func() time.Time
	width, height int

	screen   screen
	before   screen // where help leads back to
	output   bool   // the overview shows output
	filter   filter
	typed    string // the filter while it is typed
	typing   bool
	selected string // host
	top      int    // first line of the list
	drop     string // host that is dropped if the answer is y
	message  string // what came of the last key

	started sync.Once
	shown   string // the screen as it is, and what it was made of
	made    int    // changes of the state
	second  int64
	stale   bool
}

// tick has the screen drawn again.
type tick struct{}

// steered tells what came of a key that steers the run; nil is well.
type steered struct{ err error }

func newModel(v *View) *model { return &model{view: v, now: time.Now, stale: true} }

// Init implements tea.Model.
func (m *model) Init() tea.Cmd { return again() }

func again() tea.Cmd { return tea.Tick(refresh, func(time.Time) tea.Msg { return tick{} }) }

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tick:
		m.started.Do(func() { close(m.view.ready) })
		return m, again()
	case tea.WindowSizeMsg:
		m.width, m.height, m.stale = msg.Width, msg.Height, true
	case steered:
		m.stale = true
		if m.message = ""; msg.err != nil {
			m.message = msg.err.Error()
		}
	case tea.KeyPressMsg:
		m.stale = true
		return m, m.press(msg)
	}
	return m, nil
}

// View implements tea.Model. What did not change is not made again.
func (m *model) View() tea.View {
	m.view.mu.Lock()
	defer m.view.mu.Unlock()
	s, now := m.view.state, m.now()
	if second := now.Unix(); m.stale || m.made != m.view.changes || m.second != second {
		s.speed.note(sample{now, s.done(), s.sent})
		s.refold(now)
		m.stale, m.made, m.second = false, m.view.changes, second
		m.shown = m.render(s, now)
	}
	v := tea.NewView(m.shown)
	v.AltScreen = true
	return v
}

func (m *model) render(s *state, now time.Time) string {
	if m.width == 0 {
		return ""
	}
	p := &page{width: m.width, height: max(1, m.height-1)}
	notes := s.notes[max(0, len(s.notes)-1):]
	if m.height >= tall {
		notes = s.notes[max(0, len(s.notes)-3):]
	}
	if m.screen != help {
		p.height = max(1, p.height-len(notes))
	}
	switch m.screen {
	case hostList:
		hosts := s.shown(m.filter)
		s.list(p, now, hosts, m.place(hosts), m.top)
	case inspect:
		if h := s.byName[m.selected]; h != nil {
			h.inspect(p, now)
		}
	case help:
		m.help(p)
	default:
		s.overview(p, now, m.output, func(name string) bool { return m.filter.shows(s.byName[name]) })
	}
	for p.room() > 0 {
		p.add("")
	}
	if m.screen != help {
		p.height += len(notes)
		for _, note := range notes {
			p.add(warning.Render(note))
		}
	}
	return p.finish(m.footer(s.asked))
}

// place is where the selected host is among hosts; the list is moved so that it is seen.
func (m *model) place(hosts []*host) int {
	at := slices.IndexFunc(hosts, func(h *host) bool { return h.name == m.selected })
	if at < 0 && len(hosts) > 0 {
		at = 0
		m.selected = hosts[0].name
	}
	rows := max(1, m.height-8)
	m.top = max(0, min(m.top, at, len(hosts)-1))
	if at >= m.top+rows {
		m.top = at - rows + 1
	}
	return at
}

// footer is the last line: a question, or what keys do.
func (m *model) footer(asked string) string {
	switch {
	case m.drop != "":
		return warning.Render("end the payload of " + m.drop + ", clean up there and take it out of the run? y/n")
	case m.typing:
		return "filter: " + m.typed + "▏ " + faint.Render("part of a name, web[1-20], failed, copy …")
	case m.message != "":
		return warning.Render(m.message)
	case asked != "":
		return warning.Render(asked + ": p begins it, ^C stops the run")
	}
	keys := map[screen]string{
		overview: "enter hosts  / filter  o output  p pause  +/- at once  ? help  q lines  ^C stop",
		hostList: "↑↓ choose  enter look  d drop  r retry  / filter  esc back  ? help",
		inspect:  "↑↓ other host  d drop  r retry  esc back",
		help:     "esc back",
	}[m.screen]
	if m.filter.text != "" {
		keys = "[" + m.filter.text + "]  " + keys
	}
	return faint.Render(keys)
}

// helpLines are all keys.
var helpLines = [][2]string{
	{"enter", "the hosts; on a host: all about it"},
	{"/", "show hosts by a part of the name, a node set (web[1-20]) or a place"},
	{"o", "what payloads write last, instead of failures"},
	{"p", "begin no more hosts; again: begin them"},
	{"+ -", "more or fewer hosts at the same time"},
	{"r", "try again at once: the host that is chosen, or all that wait"},
	{"d", "drop the host: end its payload, clean up there, take it out of the run"},
	{"esc", "back"},
	{"q", "leave this view, and go on in lines"},
	{"^C", "stop; again: do not wait for payloads; again: leave it to the hosts"},
}

func (m *model) help(p *page) {
	p.add(bold.Render("keys"))
	p.add("")
	for _, l := range helpLines {
		p.add(pad(l[0], 8) + l[1])
	}
}

// press does what a key means.
func (m *model) press(key tea.KeyPressMsg) tea.Cmd {
	name := key.String()
	m.message = ""
	if name == "ctrl+c" {
		return m.steer(func(s Steering) error { s.Interrupt(); return nil })
	}
	switch {
	case m.typing:
		m.typeFilter(name, key.Text)
		return nil
	case m.drop != "":
		host := m.drop
		if m.drop = ""; name == "y" {
			return m.steer(func(s Steering) error { return s.Drop(host) })
		}
		return nil
	}
	switch name {
	case "q":
		return tea.Quit
	case "?":
		if m.screen != help {
			m.before, m.screen = m.screen, help
		}
	case "esc", "backspace":
		m.back()
	case "enter", "tab":
		m.forward()
	case "/":
		m.typing, m.typed = true, m.filter.text
	case "o":
		m.screen, m.output = overview, !m.output
	case "p":
		return m.pause()
	case "r":
		return m.retry()
	case "+", "=", "-":
		return m.scale(name == "-")
	case "d":
		m.ask()
	default:
		m.move(name)
	}
	return nil
}

// maxFilter bounds what is typed.
const maxFilter = 200

func (m *model) typeFilter(name, text string) {
	switch name {
	case "enter":
		m.typing, m.filter = false, newFilter(m.typed)
		if m.filter.text != "" && m.screen == overview && !m.output {
			m.screen = hostList
		}
		m.choose(0)
	case "esc":
		m.typing, m.filter = false, filter{}
	case "backspace":
		_, size := utf8.DecodeLastRuneInString(m.typed)
		m.typed = m.typed[:len(m.typed)-size]
	default:
		if len(m.typed)+len(text) <= maxFilter {
			m.typed += text
		}
	}
}

func (m *model) back() {
	switch m.screen {
	case help:
		m.screen = m.before
	case inspect:
		m.screen = hostList
	default:
		m.screen, m.filter = overview, filter{}
	}
}

func (m *model) forward() {
	switch m.screen {
	case overview:
		m.screen = hostList
		m.choose(0)
	case hostList:
		if m.selected != "" {
			m.screen = inspect
		}
	}
}

// move chooses another host.
func (m *model) move(key string) {
	by, known := map[string]int{"up": -1, "k": -1, "down": 1, "j": 1, "pgup": 8 - m.height, "pgdown": m.height - 8, "home": -1 << 30, "end": 1 << 30}[key]
	if known && (m.screen == hostList || m.screen == inspect) {
		m.choose(by)
	}
}

// choose chooses the host that many lines further; 0 sees to it that one is chosen that the filter shows.
func (m *model) choose(by int) {
	m.view.mu.Lock()
	defer m.view.mu.Unlock()
	if hosts := m.view.state.shown(m.filter); len(hosts) > 0 {
		m.selected = hosts[max(0, min(len(hosts)-1, m.place(hosts)+by))].name
	}
}

// ask asks whether the chosen host is to be dropped, if it is in the run still.
func (m *model) ask() {
	m.view.mu.Lock()
	defer m.view.mu.Unlock()
	if h := m.view.state.byName[m.selected]; h != nil && h.result == nil && (m.screen == hostList || m.screen == inspect) {
		m.drop = m.selected
	}
}

func (m *model) pause() tea.Cmd {
	m.view.mu.Lock()
	paused := m.view.state.paused != ""
	m.view.mu.Unlock()
	return m.steer(func(s Steering) error {
		if paused {
			return s.Continue()
		}
		return s.Pause()
	})
}

func (m *model) retry() tea.Cmd {
	host := ""
	if m.screen == hostList || m.screen == inspect {
		host = m.selected
	}
	return m.steer(func(s Steering) error { return s.Retry(host) })
}

// scale changes how many hosts are in work at the same time. Where all may be, fewer begins with what there is now.
func (m *model) scale(fewer bool) tea.Cmd {
	m.view.mu.Lock()
	s := m.view.state
	limit, inWork, all := s.limit, s.inWork(), len(s.hosts)
	m.view.mu.Unlock()
	switch {
	case fewer:
		limit = max(1, cmp.Or(limit, inWork)-1)
	case limit == 0 || limit+1 >= all:
		limit = 0
	default:
		limit++
	}
	return m.steer(func(s Steering) error { return s.SetMaxConnections(limit) })
}

// errAlone is why keys do nothing to the run.
var errAlone = errors.New("this run can't be steered from here")

// steer does something to the run, outside of bubbletea's goroutine: it may take a while.
func (m *model) steer(do func(Steering) error) tea.Cmd {
	s := m.view.steering()
	return func() tea.Msg {
		if s == nil {
			return steered{errAlone}
		}
		if err := do(s); err != nil {
			return steered{fmt.Errorf("%s", strings.ReplaceAll(err.Error(), "\n", " "))}
		}
		return steered{}
	}
}
