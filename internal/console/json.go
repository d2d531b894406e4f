package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
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

// outputWithText is OutputReceived as it is shown: with its data as text for readers that don't want to decode it.
type outputWithText struct {
	messages.OutputReceived
	Text string `json:"text"`
}

// Print writes the event as one line.
func (j *JSON) Print(event messages.Event) error {
	name, err := eventName(event)
	if err != nil {
		return err
	}
	var value any = event
	if e, ok := event.(messages.OutputReceived); ok {
		value = outputWithText{e, strings.ToValidUTF8(string(e.Data), "\uFFFD")}
	}
	fields, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}
	line := append([]byte(`{"type":"`+name+`",`), fields[1:]...) // every event has fields
	line = append(escapeC1(line), '\n')

	j.mu.Lock()
	defer j.mu.Unlock()
	_, err = j.out.Write(line)
	return err
}

// Close does nothing: no event is held back.
func (j *JSON) Close() error { return nil }

// eventName returns the type field of an event.
func eventName(event messages.Event) (string, error) {
	switch event.(type) {
	case messages.RunStarted:
		return "run_started", nil
	case messages.StateChanged:
		return "state_changed", nil
	case messages.StepStarted:
		return "step_started", nil
	case messages.StepDone:
		return "step_done", nil
	case messages.HostTroubled:
		return "host_troubled", nil
	case messages.Progressed:
		return "progressed", nil
	case messages.PayloadStarted:
		return "payload_started", nil
	case messages.DefinitionUpdated:
		return "definition_updated", nil
	case messages.DefinitionNotUpdated:
		return "definition_not_updated", nil
	case messages.PayloadRestarted:
		return "payload_restarted", nil
	case messages.HostWarned:
		return "host_warned", nil
	case messages.PayloadEnded:
		return "payload_ended", nil
	case messages.OutputReceived:
		return "output_received", nil
	case messages.OutputDropped:
		return "output_dropped", nil
	case messages.QuietReported:
		return "quiet_reported", nil
	case messages.Converged:
		return "converged", nil
	case messages.HostFinished:
		return "host_finished", nil
	case messages.RunFinished:
		return "run_finished", nil
	}
	return "", unknown(event)
}

func unknown(event messages.Event) error {
	return fmt.Errorf("console: unknown event %T", event)
}

// escapeC1 escapes the control characters that JSON leaves as they are (U+007F to U+009F), because a terminal may
// obey them. They can only be inside strings.
func escapeC1(line []byte) []byte {
	if bytes.IndexByte(line, 0xc2) < 0 && bytes.IndexByte(line, 0x7f) < 0 {
		return line
	}
	escaped := make([]byte, 0, len(line)+16)
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == 0x7f:
			escaped = append(escaped, `\u007f`...)
		case c == 0xc2 && i+1 < len(line) && line[i+1] <= 0x9f: // UTF-8 of U+0080 to U+009F
			i++
			escaped = fmt.Appendf(escaped, `\u%04x`, line[i])
		default:
			escaped = append(escaped, c)
		}
	}
	return escaped
}
