package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/protobuf/proto"
)

// MaxFrame is the largest frame that is sent or accepted, in bytes without the length in front of it.
const MaxFrame = 1 << 20

// ErrFrameTooLarge tells that a frame to be sent or announced by the peer is larger than MaxFrame.
var ErrFrameTooLarge = errors.New("frame larger than 1 MiB")

const lengthSize = 4

// Conn sends and receives frames on a byte stream. Send may be called from any goroutine; Recv from one at a time.
// A Conn owns its stream: whoever made the Conn closes it, and with it the stream.
type Conn struct {
	rw io.ReadWriteCloser
	br *bufio.Reader

	mu      sync.Mutex
	sendErr error // set for good once a write failed: what follows half a frame can't be understood
}

// NewConn returns a Conn on rw, which it owns from now on.
func NewConn(rw io.ReadWriteCloser) *Conn {
	return &Conn{rw: rw, br: bufio.NewReader(rw)}
}

// Send writes one frame, in one Write to the stream. It blocks as long as the stream does; closing the Conn
// ends that. After an error of the stream every Send returns that error. A frame that is too large is refused
// with ErrFrameTooLarge and leaves the stream usable.
func (c *Conn) Send(f *Frame) error {
	buf := make([]byte, lengthSize, lengthSize+proto.Size(f))
	buf, err := proto.MarshalOptions{}.MarshalAppend(buf, f)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	n := len(buf) - lengthSize
	if n > MaxFrame {
		return fmt.Errorf("send %d bytes: %w", n, ErrFrameTooLarge)
	}
	binary.BigEndian.PutUint32(buf, uint32(n))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sendErr != nil {
		return c.sendErr
	}
	if _, err := c.rw.Write(buf); err != nil {
		c.sendErr = fmt.Errorf("send frame: %w", err)
	}
	return c.sendErr
}

// Recv reads the next frame. It returns io.EOF, unwrapped, when the stream ended between two frames, and an error
// that wraps io.ErrUnexpectedEOF when it ended inside one. A frame of a kind this build doesn't know has a nil
// Kind and is to be ignored: a newer peer may send it. After any error the stream is of no more use.
func (c *Conn) Recv() (*Frame, error) {
	var head [lengthSize]byte
	if _, err := io.ReadFull(c.br, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("receive frame: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, fmt.Errorf("receive frame: %d bytes announced: %w", n, ErrFrameTooLarge)
	}
	buf := make([]byte, n)
	if _, err := io.ReadFull(c.br, buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("receive frame: %w", err)
	}
	f := new(Frame)
	if err := proto.Unmarshal(buf, f); err != nil {
		return nil, fmt.Errorf("decode frame: %w", err)
	}
	return f, nil
}

// SkipTo skips to the stream's marker, see the function SkipTo. It is called before the first Recv.
func (c *Conn) SkipTo(marker string, limit int) error { return SkipTo(c.br, marker, limit) }

// Close closes the stream. Blocked calls of Send and Recv return, as far as the stream lets them.
func (c *Conn) Close() error { return c.rw.Close() }
