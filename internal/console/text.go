package console

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Visible returns text with everything in it that a terminal might obey shown as an escape sequence of Go: control
// characters (C0 but the tab, DEL, C1), characters that reorder text, and bytes that are no UTF-8.
func Visible(text string) string {
	clean := true
	for i := 0; i < len(text) && clean; i++ {
		clean = text[i] == '\t' || text[i] >= ' ' && text[i] < 0x7f
	}
	if clean {
		return text
	}
	var b strings.Builder
	for rest := text; rest != ""; {
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, rest[0])
		case r == '\t' || !commands(r):
			b.WriteString(rest[:size])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		rest = rest[size:]
	}
	return b.String()
}

// commands reports whether a terminal may do something at r instead of showing it.
func commands(r rune) bool {
	switch {
	case r < ' ', r >= 0x7f && r <= 0x9f: // C0, DEL, C1
		return true
	case r == 0x061c, r == 0x200e, r == 0x200f, // Unicode Bidirectional Algorithm (UAX #9), explicit formatting
		r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069,
		r == 0x2028, r == 0x2029: // line and paragraph separator
		return true
	}
	return false
}

// BytesText shows a number of bytes as people say it, in powers of ten: "0 B", "999 B", "12.4 MB".
func BytesText(n int64) string {
	if n > -1000 && n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB", "PB"} {
		value /= 1000
		if value > -999.95 && value < 999.95 {
			return fmt.Sprintf("%.1f %s", value, unit)
		}
	}
	return fmt.Sprintf("%.1f EB", value/1000)
}

// DurationText shows a duration as people say it: "12ms", "3.2s", "2m05s", "1h02m".
func DurationText(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + DurationText(-d)
	case d < 99500*time.Microsecond:
		return fmt.Sprintf("%dms", d.Round(time.Millisecond).Milliseconds())
	case d < 59950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}

// Plural is a number and what it counts: "1 host", "2 hosts".
func Plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
