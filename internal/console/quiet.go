package console

import (
	"bytes"
	"io"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Quiet is a Printer that tells people of failures and of nothing else: a line for each host when it has failed, and at the
// end all of them by their causes. A run in which everything went well writes nothing.
type Quiet struct {
	paint paint

	mu        sync.Mutex
	out       io.Writer
	collector *Collector
}

// NewQuiet returns a printer that writes to out. The caller keeps out and closes it after the printer.
func NewQuiet(out io.Writer, color bool) *Quiet {
	return &Quiet{paint: paint{color}, out: out, collector: NewCollector()}
}

// Print writes what an event says of a failure, which mostly is nothing.
func (q *Quiet) Print(event messages.Event) error {
	if messages.EventName(event) == "" {
		return unknown(event)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.collector.Note(event)
	var b bytes.Buffer
	switch e := event.(type) {
	case messages.HostFinished:
		if f := failureOf(e.Result, 0); e.Result.Outcome != messages.OutcomeSucceeded {
			b.WriteString(e.Result.Host + ": " + q.paint.text(outcomeColor(f.Outcome), ResultText(e.Result)))
			if text := f.Text(); text != "" {
				b.WriteString(": " + text)
			}
			b.WriteByte('\n')
		}
	case messages.RunFinished:
		r := q.collector.Report()
		if len(r.Failures) == 0 {
			break
		}
		writeCount(&b, r)
		writeFailures(&b, r.Failures, q.paint, true)
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := q.out.Write(b.Bytes())
	return err
}

// Close does nothing: nothing is held back.
func (q *Quiet) Close() error { return nil }
