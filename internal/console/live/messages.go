package live

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// Messages is standard error where a view may be: while one is shown, what is written goes there line by line, and is written out
// when the view has ended.
type Messages struct {
	mu   sync.Mutex
	out  io.Writer
	to   func(text string) // nil: no view is shown
	held bytes.Buffer
}

// maxHeld bounds what is kept for the end of the view, in bytes; the oldest goes first.
const maxHeld = 256 << 10

// NewMessages returns messages that go to out.
func NewMessages(out io.Writer) *Messages { return &Messages{out: out} }

// Write implements io.Writer.
func (m *Messages) Write(p []byte) (int, error) {
	m.mu.Lock()
	to := m.to
	if to == nil {
		defer m.mu.Unlock()
		return m.out.Write(p)
	}
	m.held.Write(p)
	if over := m.held.Len() - maxHeld; over > 0 {
		m.held.Next(over)
	}
	m.mu.Unlock()
	for text := range strings.Lines(string(p)) { // messages come whole
		to(strings.TrimRight(text, "\n"))
	}
	return len(p), nil
}

func (m *Messages) divert(to func(text string)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.to = to
}

// restore writes out what was held.
func (m *Messages) restore() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.to = nil
	_, _ = m.held.WriteTo(m.out) // that standard error is gone has no one to be told to
	m.held.Reset()
}
