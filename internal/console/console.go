// Package console shows a run to people and to programs: lines, equal output folded, failures only, or one JSON object per
// event, and a report at the end; and it writes reports and the output of hosts to files.
//
// A Printer gets the events of a run and writes them. What it keeps is bounded: unfinished lines, counters, what a report says of
// each host. It knows no actor, and decides nothing. What comes from a host is data: on a terminal its control characters are
// shown, never obeyed, and text that goes into our own lines is always kept on one line.
//
// Printers write where they are told to and wait for the writer. They must therefore never be called from an
// actor; whoever calls them puts a queue between.
package console

import "github.com/mgmt-remote/mgmt-remote/messages"

// Printer shows events. Its methods may be called from several goroutines at once; each event is written with one
// Write, so that events never mix.
type Printer interface {
	// Print writes an event. The error is the writer's, or says that the event is of an unknown type.
	Print(event messages.Event) error
	// Close writes what was held back: output that did not end with a newline yet. It does not close the writer.
	Close() error
}

// UseColor decides whether to write colours: only to a terminal that knows them, and not when the variable NO_COLOR is
// set and not empty (no-color.org). getenv is os.Getenv in programs.
func UseColor(terminal bool, getenv func(string) string) bool {
	return terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// paint writes in colours, or does not: the zero value is plain.
type paint struct{ on bool }

// The SGR codes in use; all of them are readable on dark and light backgrounds.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// hostColors tell the hosts of neighbouring lines apart. They mean nothing else.
var hostColors = [...]string{"34", "35", "36"} // blue, magenta, cyan

func (p paint) text(sgr, text string) string {
	if !p.on || sgr == "" || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}
