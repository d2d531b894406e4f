package console

import (
	"fmt"
	"io"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// JSON is a Printer for programs: each event is one JSON object on one line. docs/events.md documents every field,
// and a test holds it against the types.
type JSON struct {
	mu  sync.Mutex
	out io.Writer
}

// NewJSON returns a printer that writes to out. The caller keeps out and closes it after the printer.
func NewJSON(out io.Writer) *JSON { return &JSON{out: out} }

// Print writes the event as one line.
func (j *JSON) Print(event messages.Event) error {
	line, err := messages.EncodeEvent(event)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err = j.out.Write(line)
	return err
}

// Close does nothing: nothing is held back.
func (j *JSON) Close() error { return nil }

func unknown(event messages.Event) error {
	return fmt.Errorf("console: unknown event %T", event)
}
