package sshfleet

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"golang.org/x/crypto/ssh"
)

type readOnly struct {
	ssh.Channel
	io.Reader
}

func (r readOnly) Read(p []byte) (int, error) { return r.Reader.Read(p) }

// The gate hands out what it reads, whatever that is and however it is cut, and opens for writes alone.
func FuzzWriteGate(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 6})
	f.Add([]byte{0, 0, 0, 3, 6, 1, 2, 0, 0, 0, 1, 3})
	f.Add([]byte{0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 6, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, in := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data))} {
			g := &writeGate{Channel: readOnly{Reader: in}, open: func() bool { return true }}
			got, err := io.ReadAll(g)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("got %x, %v, want %x", got, err, data)
			}
		}
	})
}

func TestWriteGateStopsWrites(t *testing.T) {
	before := []byte{0, 0, 0, 3, 3, 6, 6} // an open whose body looks like writes
	data := append(bytes.Clone(before), 0, 0, 0, 2, 6, 1)
	g := &writeGate{Channel: readOnly{Reader: bytes.NewReader(data)}, open: func() bool { return false }}
	got, err := io.ReadAll(g)
	if err == nil || !bytes.Equal(got, before) {
		t.Errorf("got %x, %v, want %x and an error", got, err, before)
	}
}
