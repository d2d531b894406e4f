package probe

import (
	"bytes"
	"crypto/rand"
	_ "embed" // the script
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"al.essio.dev/pkg/shellescape"
)

// Command is what the login shell of a host is asked to run.
const Command = "/bin/sh -s mgmt-remote-probe"

// The candidates after Request.Prefix, in order. "~" stands for $HOME/.cache, which only the host knows.
const defaultDirs = "/var/tmp ~ /tmp"

//go:embed probe.sh
var source string

// body is the script as it is sent: without comment lines and indentation, which some shells would read byte by byte.
var body = strip(source)

func strip(script string) string {
	var b strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimLeft(line, "\t")
		if line != "\n" && !strings.HasPrefix(line, "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// newMarker is random so that nothing else in the output can be it; it also names the file that is tried.
func newMarker() string { return "mr" + strings.ToLower(rand.Text()) }

// script is what goes to the standard input of Command. The request must have been checked.
func script(marker string, r Request) []byte {
	dirs := defaultDirs
	if r.Prefix != "" {
		dirs = r.Prefix + " " + dirs
	}
	var b bytes.Buffer
	for _, v := range [...]struct{ name, value string }{
		{"marker", marker},
		{"prefix", r.Prefix},
		{"dirs", dirs},
		{"bases", strings.Join(r.Bases, " ")},
		{"run", r.Run},
		{"host", r.Host},
		{"short", shortHost(r.Host)},
		{"full", strconv.Itoa(fullBase(r.Run, r.Host))},
		{"max", strconv.Itoa(maxBase(r.Run, r.Host))},
	} {
		fmt.Fprintf(&b, "%s=%s\n", v.name, shellescape.Quote(v.value))
	}
	b.WriteString(body)
	return b.Bytes()
}

var markerLine = regexp.MustCompile(`(?m)^marker=([a-z0-9]{8,64})$`)

// MarkerOf returns the marker that the answer to script has to stand between. Simulated hosts use it.
func MarkerOf(script []byte) (marker string, err error) {
	m := markerLine.FindSubmatch(script)
	if m == nil {
		return "", fmt.Errorf("no marker in a probe script of %d bytes", len(script))
	}
	return string(m[1]), nil
}
