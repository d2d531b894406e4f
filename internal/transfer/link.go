package transfer

import (
	"io"
	"sync"
)

// link stands between the SFTP client and its channel. Reads and writes on a channel end only when the host answers or the
// connection dies; with a link they end at once when it is cut, which is what a canceled context does. Its two goroutines then end
// with the channel.
type link struct {
	channel io.ReadWriteCloser
	cutOnce sync.Once
	gone    chan struct{} // closed by cut

	writes  chan []byte // handed to the writing goroutine
	written chan error  // one for each
	answers *io.PipeReader
}

func newLink(channel io.ReadWriteCloser) *link {
	r, w := io.Pipe()
	l := &link{channel: channel, gone: make(chan struct{}), writes: make(chan []byte), written: make(chan error, 1), answers: r}
	go func() {
		// Answers to uploads are tiny. The error, io.EOF too, goes to the reader.
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{channel}, make([]byte, 4<<10))
		_ = w.CloseWithError(err) // never fails
	}()
	go func() {
		for {
			select {
			case p := <-l.writes:
				_, err := channel.Write(p)
				l.written <- err
			case <-l.gone:
				return
			}
		}
	}()
	return l
}

// Read is the client's.
func (l *link) Read(p []byte) (int, error) { return l.answers.Read(p) }

// Write is the client's, which never writes concurrently. A buffer of a cut write may still be sent: the client must not write into
// it again, which is why the sources of uploads fail once the link is cut.
func (l *link) Write(p []byte) (int, error) {
	select {
	case l.writes <- p:
	case <-l.gone:
		return 0, io.ErrClosedPipe
	}
	select {
	case err := <-l.written:
		if err != nil {
			return 0, err
		}
		return len(p), nil
	case <-l.gone:
		return 0, io.ErrClosedPipe
	}
}

// Close ends everything; the client calls it too.
func (l *link) Close() error {
	l.cut()
	return l.channel.Close()
}

// cut makes reads and writes return, now and later.
func (l *link) cut() {
	l.cutOnce.Do(func() {
		close(l.gone)
		_ = l.answers.Close() // never fails
	})
}

// isCut says whether cut was called.
func (l *link) isCut() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}
