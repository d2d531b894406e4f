package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// ErrUnknownEvent tells that a line is an event of a type that this version does not know. Types are only ever added, so
// whoever reads what a newer program wrote skips these.
var ErrUnknownEvent = errors.New("unknown event")

// eventTypes are the events by their names in JSON, see docs/events.md.
var eventTypes = map[string]eventType{
	"run_started":            eventOf[RunStarted](),
	"state_changed":          eventOf[StateChanged](),
	"step_started":           eventOf[StepStarted](),
	"step_done":              eventOf[StepDone](),
	"host_troubled":          eventOf[HostTroubled](),
	"progressed":             eventOf[Progressed](),
	"payload_started":        eventOf[PayloadStarted](),
	"payload_restarted":      eventOf[PayloadRestarted](),
	"payload_rerun":          eventOf[PayloadRerun](),
	"host_warned":            eventOf[HostWarned](),
	"host_planned":           eventOf[HostPlanned](),
	"definition_updated":     eventOf[DefinitionUpdated](),
	"definition_not_updated": eventOf[DefinitionNotUpdated](),
	"payload_ended":          eventOf[PayloadEnded](),
	"output_received":        eventOf[OutputReceived](),
	"output_dropped":         eventOf[OutputDropped](),
	"quiet_reported":         eventOf[QuietReported](),
	"converged":              eventOf[Converged](),
	"wave_started":           eventOf[WaveStarted](),
	"wave_finished":          eventOf[WaveFinished](),
	"run_exceeded":           eventOf[RunExceeded](),
	"run_paused":             eventOf[RunPaused](),
	"run_continued":          eventOf[RunContinued](),
	"connections_limited":    eventOf[ConnectionsLimited](),
	"host_finished":          eventOf[HostFinished](),
	"run_finished":           eventOf[RunFinished](),
}

// eventType is what JSON needs to know of a type of event.
type eventType struct {
	typ    reflect.Type
	decode func(line []byte) (Event, error)
}

func eventOf[E Event]() eventType {
	return eventType{reflect.TypeFor[E](), func(line []byte) (Event, error) {
		var e E
		err := json.Unmarshal(line, &e)
		return e, err
	}}
}

var eventNames = func() map[reflect.Type]string {
	names := make(map[reflect.Type]string, len(eventTypes))
	for name, t := range eventTypes {
		names[t.typ] = name
	}
	return names
}()

// EventName returns the type of an event as it is called in JSON; "" for what is no event.
func EventName(event Event) string { return eventNames[reflect.TypeOf(event)] }

// outputWithText is what JSON says beside the bytes, for those who don't want to decode them. Bytes that are not valid
// UTF-8 are replaced in it.
type outputWithText struct {
	OutputReceived
	Text string `json:"text"`
}

// EncodeEvent returns an event as one line of JSON with its newline. No control character is in it but that newline: what
// a payload wrote can't do anything to a terminal.
func EncodeEvent(event Event) ([]byte, error) {
	name := EventName(event)
	if name == "" {
		return nil, fmt.Errorf("%w %T", ErrUnknownEvent, event)
	}
	var value any = event
	if e, ok := event.(OutputReceived); ok {
		value = outputWithText{e, strings.ToValidUTF8(string(e.Data), "\uFFFD")}
	}
	fields, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", name, err)
	}
	line := append([]byte(`{"type":"`+name+`",`), fields[1:]...) // every event has fields
	return append(EscapeC1(line), '\n'), nil
}

// DecodeEvent is the inverse of EncodeEvent, but for the faults of results, of which the words are left. Where the type is unknown,
// errors.Is(err, ErrUnknownEvent).
func DecodeEvent(line []byte) (Event, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(line, &kind); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	t, known := eventTypes[kind.Type]
	if !known {
		return nil, fmt.Errorf("%w %q", ErrUnknownEvent, kind.Type)
	}
	e, err := t.decode(line)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", kind.Type, err)
	}
	return e, nil
}

// EscapeC1 escapes the control characters that encoding/json leaves as they are, in a JSON text made by it.
func EscapeC1(line []byte) []byte {
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
