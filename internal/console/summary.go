package console

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// table writes one line per host, in the order given.
func table(b *bytes.Buffer, results []messages.Result, p paint) {
	head := [4]string{"HOST", "RESULT", "TIME", "COPIED"}
	rows := make([][4]string, len(results))
	var width [4]int
	for i, title := range head {
		width[i] = len(title)
	}
	for i, r := range results {
		rows[i] = [4]string{r.Host, ResultText(r), DurationText(r.Took), BytesText(r.BytesSent)}
		for column, text := range rows[i] {
			width[column] = max(width[column], utf8.RuneCountInString(text))
		}
	}

	row := func(cells [4]string, sgr string) {
		fmt.Fprintf(b, "%-*s  %s%s  %*s  %*s\n", width[0], cells[0],
			p.text(sgr, cells[1]), strings.Repeat(" ", width[1]-utf8.RuneCountInString(cells[1])), // escapes have no width
			width[2], cells[2], width[3], cells[3])
	}
	row(head, "")
	for i, r := range results {
		row(rows[i], outcomeColor(r.Outcome))
	}
}

// ResultText is how a host's part ended, in the table's words.
func ResultText(r messages.Result) string {
	text := r.Outcome.String()
	switch {
	case r.Outcome == messages.OutcomePayloadFailed && r.Exit != nil:
		text += ", " + exitText(*r.Exit)
	case r.Converged:
		text += ", converged"
	}
	return text
}

// exitText is how a payload ended.
func exitText(e messages.Exit) string {
	switch {
	case e.Signal != 0:
		return fmt.Sprintf("signal %d", e.Signal)
	case e.Code < 0 && e.Error != "":
		return "not run"
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

func outcomeColor(o messages.Outcome) string {
	switch o {
	case messages.OutcomeSucceeded:
		return green
	case messages.OutcomeCanceled, messages.OutcomeSkipped:
		return yellow
	default:
		return red
	}
}

func sortedStreams(partial map[stream][]byte) []stream {
	return slices.SortedFunc(maps.Keys(partial), func(a, b stream) int {
		if c := cmp.Compare(a.host, b.host); c != 0 {
			return c
		}
		if a.stderr == b.stderr {
			return 0
		}
		if b.stderr {
			return -1
		}
		return 1
	})
}

// runeBoundary returns the largest cut <= limit that splits no character of data.
func runeBoundary(data []byte, limit int) int {
	for back := range utf8.UTFMax {
		if utf8.RuneStart(data[limit-back]) {
			return limit - back
		}
	}
	return limit // no UTF-8 at all
}

func dropped(e messages.OutputDropped) int64 {
	if e.To <= e.From {
		return 0
	}
	return int64(min(e.To-e.From, math.MaxInt64))
}
