// Package live shows a run on a terminal while it goes on: how far it is, which hosts are where, what went wrong; and it steers the
// run by keys. It is a printer of events like those of package console, whose lines it leaves behind: when the view ends, the
// terminal is what it was, and what comes is shown as lines, the report at the end, too.
//
// Events are folded into a state of bounded size (state.go), screens are made of that (overview.go, hosts.go), at most ten times
// a second and only where something changed; model.go is what keys do.
package live

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/mgmt-remote/mgmt-remote/internal/console"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Steering is what keys can do to the run. The methods may block, are called from any goroutine, and return errors for people.
type Steering interface {
	Pause() error
	Continue() error
	SetMaxConnections(n int) error // 0 = all hosts
	Drop(host string) error
	Retry(host string) error // "" = all that wait
	Interrupt()              // as ^C where there is no view
}

// Options say where the view is.
type Options struct {
	Out     *os.File  // a terminal
	In      io.Reader // where keys come from; nil: none do
	Err     *Messages // what others say while the view is shown; nil: nobody does
	Color   bool
	Verbose bool // of the lines that follow the view
}

// View is a printer with a terminal of its own. It shows itself with the first event, until the run is over, Close, or the key q.
type View struct {
	options Options
	out     *gate // closed until the view has ended
	lines   *console.Lines

	mu      sync.Mutex
	state   *state
	changes int
	steer   Steering

	terminal sync.Mutex // held by whoever ends the view, or has the terminal meanwhile: bubbletea can't do both at once
	program  *tea.Program
	ready    chan struct{} // closed when bubbletea has set up all that it reads and writes
	ended    chan struct{} // closed when the terminal is what it was
	failure  error         // of bubbletea; read after ended
}

var _ console.Printer = (*View)(nil)

// New returns a view that shows nothing yet.
func New(o Options) *View {
	out := &gate{out: o.Out, closed: true}
	return &View{
		options: o, out: out, state: newState(),
		lines: console.NewLines(out, console.LinesOptions{Terminal: true, Color: o.Color, Verbose: o.Verbose}),
	}
}

// Steer says what keys do to the run. Before, they do nothing to it.
func (v *View) Steer(s Steering) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.steer = s
}

func (v *View) steering() Steering {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.steer
}

// Print takes an event. It does not wait for the terminal, but for the end of the view where the run is over.
func (v *View) Print(event messages.Event) error {
	if messages.EventName(event) == "" {
		return fmt.Errorf("an event of an unknown type: %T", event)
	}
	v.mu.Lock()
	v.state.apply(event)
	v.changes++
	_, over := event.(messages.RunFinished)
	if v.program == nil && !over && v.terminal.TryLock() { // else somebody asks: the next event tries again
		v.show()
		v.terminal.Unlock()
	}
	v.mu.Unlock()
	if over {
		v.leave()
	}
	return v.lines.Print(event)
}

// show begins. It is called with the lock held.
func (v *View) show() {
	profile := colorprofile.ASCII
	if v.options.Color {
		profile = colorprofile.ANSI
	}
	v.ready, v.ended = make(chan struct{}), make(chan struct{})
	v.program = tea.NewProgram(newModel(v), tea.WithOutput(v.options.Out), tea.WithInput(v.options.In), tea.WithoutSignalHandler(),
		tea.WithColorProfile(profile), tea.WithFPS(int(1e9/refresh)))
	v.options.Err.divert(v.note)
	go func() {
		_, v.failure = v.program.Run()
		v.options.Err.restore()
		v.out.open()
		close(v.ended)
	}()
}

// note shows what somebody says on standard error.
func (v *View) note(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state.note(console.Visible(text))
	v.changes++
}

// leave ends the view and waits until the terminal is what it was.
func (v *View) leave() {
	v.terminal.Lock()
	defer v.terminal.Unlock()
	if program := v.shown(); program != nil {
		program.Quit()
		<-v.ended
	}
	v.out.open()
}

// shown returns bubbletea's program, or nil before the view is shown.
func (v *View) shown() *tea.Program {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.program
}

// Close ends the view, and writes the unfinished lines of output that came after it. The error also says why the view ended too early.
func (v *View) Close() error {
	v.leave()
	return errors.Join(v.failure, v.lines.Close())
}

// Suspend gives the terminal to somebody who asks a question, until resume is called, once. The view does not end before that.
func (v *View) Suspend() (resume func() error, err error) {
	v.terminal.Lock()
	program := v.shown()
	if program == nil || v.over() {
		return func() error { v.terminal.Unlock(); return nil }, nil
	}
	select {
	case <-v.ready: // what is released before is taken again
	case <-v.ended:
	}
	if err := program.ReleaseTerminal(); err != nil {
		v.terminal.Unlock()
		return nil, err
	}
	return func() error {
		defer v.terminal.Unlock()
		if v.over() { // it failed
			return nil
		}
		return program.RestoreTerminal()
	}, nil
}

// over reports whether a view that was shown has ended.
func (v *View) over() bool {
	select {
	case <-v.ended:
		return true
	default:
		return false
	}
}

// gate is a writer that is closed at first: what is written then is gone.
type gate struct {
	mu     sync.Mutex
	out    io.Writer
	closed bool
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return len(p), nil
	}
	return g.out.Write(p)
}
