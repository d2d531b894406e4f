package transfer

import (
	"io"
	"sync"
	"time"
)

// channel is what an SFTP session needs; *sshconn.Channel is one.
type channel interface {
	io.ReadWriteCloser
	CloseWrite() error
	Wait() error
}

// closeTimeout bounds how long Close waits for the server to end its side.
const closeTimeout = 5 * time.Second

// link stands between the SFTP client and its channel. Reads and writes on a channel end only when the host answers or the
// connection dies; with a link they end at once when it is cut, which is what a canceled context does. Its two goroutines then end
// with the channel.
type link struct {
	channel channel
	cutOnce sync.Once
	gone    chan struct{} // closed by cut
	ended   chan struct{} // closed when the server has ended the session

	writes  chan []byte // handed to the writing goroutine
	written chan error  // one for each
	answers *io.PipeReader
}

func newLink(ch channel) *link {
	r, w := io.Pipe()
	l := &link{
		channel: ch, gone: make(chan struct{}), ended: make(chan struct{}),
		writes: make(chan []byte), written: make(chan error, 1), answers: r,
	}
	go l.readAll(w)
	go l.writeAll()
	return l
}

func (l *link) readAll(w *io.PipeWriter) {
	defer close(l.ended)
	// Answers to uploads are tiny, so the buffer is too.
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{l.channel}, make([]byte, 2<<10))
	_ = w.CloseWithError(err) // never fails; a nil error is io.EOF for the reader
	_ = l.channel.Wait()      // how the server's process ended says nothing: each request was answered
}

func (l *link) writeAll() {
	for {
		select {
		case p := <-l.writes:
			_, err := l.channel.Write(p)
			l.written <- err
		case <-l.gone:
			return
		}
	}
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

// Close ends the session and waits until the server has done so too: sshd counts a session against MaxSessions until its process is
// gone (session.c, session_close_by_pid), and the next exec follows at once. The client calls Close more than once.
func (l *link) Close() error {
	if !l.isCut() {
		timeout := time.NewTimer(closeTimeout)
		defer timeout.Stop()
		go func() { _ = l.channel.CloseWrite() }() // blocks on a dead link, and then Close below tells
		select {
		case <-l.ended:
		case <-l.gone:
		case <-timeout.C:
		}
	}
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
