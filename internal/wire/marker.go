package wire

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// MaxNoise is a sensible limit for SkipTo: how many bytes of banners and messages of the day may stand in front
// of a marker.
const MaxNoise = 1 << 20

// ErrNoMarker tells that the marker was not found within the limit or before the stream ended.
var ErrNoMarker = errors.New("the program's start marker did not appear")

// NewMarker returns a random marker: letters and digits only, so that no shell does anything with it.
func NewMarker() string { return "mgmt-remote-" + rand.Text() }

// SkipTo reads and drops everything up to and including a line that consists of marker, and at most limit bytes.
// Only a whole line counts: a shell that echoes its command line prints the marker too. Without the marker the
// error wraps ErrNoMarker, and the stream's own error where it had one. It blocks as long as the stream does.
func SkipTo(r *bufio.Reader, marker string, limit int) error {
	pos, matches := 0, true
	for read := 0; read < limit; read++ {
		b, err := r.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("%w in the %d bytes there were: %w", ErrNoMarker, read, io.ErrUnexpectedEOF)
			}
			return fmt.Errorf("%w: %w", ErrNoMarker, err)
		}
		switch {
		case b == '\n':
			if matches && pos == len(marker) {
				return nil
			}
			pos, matches = 0, true
		case matches && pos < len(marker) && marker[pos] == b:
			pos++
		default:
			matches = false
		}
	}
	return fmt.Errorf("%w in the first %d bytes", ErrNoMarker, limit)
}

// AfterMarker skips to the marker and returns the stream behind it, for protocols other than Conn (the stdio
// tunnel). The result owns rw; after an error the caller still does.
func AfterMarker(rw io.ReadWriteCloser, marker string, limit int) (io.ReadWriteCloser, error) {
	br := bufio.NewReader(rw)
	if err := SkipTo(br, marker, limit); err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.WriteCloser
	}{br, rw}, nil
}
