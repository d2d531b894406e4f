package become

import (
	"context"

	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// spare is a second connection to a host. The tunnel of another user takes a session as long as it lives, and some servers give one
// session to each connection (MaxSessions 1).
type spare struct {
	first Connection
	again func(ctx context.Context) (*sshconn.Conn, error)
	turn  chan struct{} // holds one token: whoever has it may use conn
	conn  *sshconn.Conn // nil until it is needed
}

func newSpare(first Connection, again func(ctx context.Context) (*sshconn.Conn, error)) *spare {
	if again == nil {
		return nil
	}
	s := &spare{first: first, again: again, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// get returns the connection, and makes it where there is none. It ends with the first one.
func (s *spare) get(ctx context.Context) (*sshconn.Conn, error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { s.turn <- struct{}{} }()
	if s.conn != nil {
		select {
		case <-s.conn.Done():
		default:
			return s.conn, nil
		}
	}
	conn, err := s.again(ctx)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	go func() {
		select {
		case <-s.first.Done():
			_ = conn.Close() // nobody waits for it any more
		case <-conn.Done():
		}
	}()
	return conn, nil
}
