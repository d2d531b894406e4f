package console

import (
	"time"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// What follows is for the live view (package live), which says the same things in the same words.

// Visible returns text with everything in it that a terminal might obey shown as an escape sequence of Go.
func Visible(text string) string { return visible(text) }

// Bytes shows a number of bytes as people say it: "12.4 MB".
func Bytes(n int64) string { return bytesText(n) }

// Duration shows a duration as people say it: "3.2s", "2m05s".
func Duration(d time.Duration) string { return durationText(d) }

// Plural is a number and what it counts: "1 host", "2 hosts".
func Plural(n int, noun string) string { return plural(n, noun) }

// Result is how a host's part ended.
func Result(r messages.Result) string { return resultText(r) }

// Failures groups what went wrong on hosts by step and cause, the most frequent first.
func Failures(results []messages.Result) []Failure { return failures(results, nil) }

// Text is the step and the cause in one line; empty where a host's result says all there is.
func (f Failure) Text() string { return f.text() }
