// Package mux carries many connections over one stream: the stdio tunnel, for hosts whose sshd refuses to forward
// a socket. The shim is the client and opens a stream per connection; the initiator is the server and accepts
// them. It is hashicorp/yamux with the settings both ends have to share, and Relay, which joins two connections.
//
// It knows nothing of etcd and never looks at what it carries.
package mux

import (
	"io"
	"net"
	"time"

	"github.com/hashicorp/yamux"
)

// Client is the side that opens streams: the shim. The session owns rw and closes it with itself.
func Client(rw io.ReadWriteCloser) (*yamux.Session, error) { return yamux.Client(rw, config()) }

// Server is the side that accepts streams: the initiator. The session owns rw and closes it with itself.
func Server(rw io.ReadWriteCloser) (*yamux.Session, error) { return yamux.Server(rw, config()) }

func config() *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput = io.Discard
	c.EnableKeepAlive = false // the SSH connection below has its own, and ends this stream with it
	c.StreamCloseTimeout = 0  // a half-closed stream may live as long as a half-closed connection may
	c.ConnectionWriteTimeout = time.Minute
	return c
}

// Relay copies between a and b in both directions until both are done, then closes both and returns. The end of
// one direction is passed on as a half-close: CloseWrite where there is one; Close for a yamux stream, which is
// only half a close. An error in one direction cuts both. Closing a or b from outside ends Relay.
func Relay(a, b net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		oneWay(a, b)
	}()
	oneWay(b, a)
	<-done
	closeFully(a)
	closeFully(b)
}

func oneWay(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if err == nil {
		err = closeWrite(dst)
	}
	if err != nil {
		closeFully(dst)
		closeFully(src)
	}
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// closeFully drops the connection: also reads that are under way end, with an error. What Close may have to say
// about it is of no use to anybody, the bytes are delivered or lost already.
func closeFully(c net.Conn) {
	if s, ok := c.(*yamux.Stream); ok {
		_ = s.SetReadDeadline(time.Unix(1, 0)) // Close leaves yamux's Read waiting
	}
	_ = c.Close()
}
