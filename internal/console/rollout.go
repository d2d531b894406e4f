package console

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// rollout tells where a run in waves is.
func (l *Lines) rollout(b *bytes.Buffer, event messages.Event) {
	switch e := event.(type) {
	case messages.WaveStarted:
		fmt.Fprintf(b, "%s\n", l.paint.text(bold, fmt.Sprintf("wave %d of %d: %s, %s", e.Wave, e.Waves, Plural(len(e.Hosts), "host"), nodes(e.Hosts))))
	case messages.WaveFinished:
		text := fmt.Sprintf("wave %d of %d is over after %s: %s", e.Wave, e.Waves, DurationText(e.Took), tally(e))
		if e.NextIn > 0 {
			text += "; the next one in " + DurationText(e.NextIn)
		}
		fmt.Fprintf(b, "%s\n", l.paint.text(bold, text))
	case messages.RunExceeded:
		fmt.Fprintf(b, "%s\n", l.paint.text(red, Visible(e.Reason)+": no more hosts begin"))
	}
}

func tally(e messages.WaveFinished) string {
	parts := []string{fmt.Sprintf("%d of %s ok", e.Succeeded, Plural(e.Hosts, "host"))}
	for _, c := range []struct {
		n    int
		what string
	}{{e.Failed, "failed"}, {e.Unreachable, "unreachable"}, {e.Canceled, "canceled"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return strings.Join(parts, ", ")
}
