package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Handler is the initiator. Its methods are called from many goroutines and return soon.
type Handler interface {
	// Status says how the run stands.
	Status(ctx context.Context) (json.RawMessage, error)
	// Stop asks for the end of the run.
	Stop(level int) error
	// Retry ends a host's waiting, or that of all hosts.
	Retry(host string) error
	// Pause has no more hosts begun until Continue.
	Pause() error
	Continue() error
	// Limit changes how many hosts are in work at the same time.
	Limit(n int) error
	// Drop takes a host out of the run.
	Drop(host string) error
	// Leave has the initiator end without touching anything on any host.
	Leave() error
}

// Server answers on a run's socket.
type Server struct {
	handler  Handler
	logger   *slog.Logger
	listener net.Listener
	undo     func() error
	ctx      context.Context // ends with the server
	cancel   context.CancelFunc
	group    sync.WaitGroup

	mu        sync.Mutex
	followers map[*follower]struct{}
	snapshot  func() [][]byte
}

// follower is a client that wants events.
type follower struct{ lines chan []byte }

// backlog is how many events a follower may be behind; one that is slower is let go and may come again. The run waits for nobody.
const backlog = 8192

// Listen begins to answer. dir is the run's directory, which only this user can look into and whose lock the caller holds. snapshot
// returns, as lines of JSON, what somebody needs who comes late; it is called while no event can be published. The caller closes the
// server.
func Listen(dir string, handler Handler, snapshot func() [][]byte, logger *slog.Logger) (*Server, error) {
	path, undo, err := place(dir)
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %w", errors.Join(err, undo()))
	}
	s := &Server{handler: handler, logger: logger, listener: listener, undo: undo, snapshot: snapshot, followers: map[*follower]struct{}{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.group.Go(s.accept)
	return s, nil
}

// Publish takes something that happened: note is to remember it for snapshots, line to return it as a line of JSON for those
// who follow the run, and is called only where somebody does. A follower gets it in its snapshot or as a line, never both,
// since both functions run while no snapshot can be made. It never waits.
func (s *Server) Publish(note func(), line func() ([]byte, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	note()
	if len(s.followers) == 0 {
		return
	}
	text, err := line()
	if err != nil {
		s.logger.Error("those who follow the run miss an event", "error", err)
		return
	}
	for f := range s.followers {
		select {
		case f.lines <- text:
		default:
			s.forget(f)
		}
	}
}

// forget is called with the lock held.
func (s *Server) forget(f *follower) {
	if _, there := s.followers[f]; there {
		delete(s.followers, f)
		close(f.lines)
	}
}

// Close ends the server when followers have got everything that was published, bounded in time, and removes the socket.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for f := range s.followers {
		s.forget(f)
	}
	s.mu.Unlock()
	stop := time.AfterFunc(greetFor, s.cancel)
	s.group.Wait()
	stop.Stop()
	s.cancel()
	return errors.Join(err, s.undo())
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.logger.Error("the control socket is closed", "error", err)
			}
			return
		}
		s.group.Go(func() { s.serve(conn) })
	}
}

// serve answers one request.
func (s *Server) serve(conn net.Conn) {
	stop := context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }() // the client has read what it wants
	_ = conn.SetDeadline(time.Now().Add(greetFor))
	var request Request
	line, err := bufio.NewReaderSize(conn, 4096).ReadSlice('\n')
	if err != nil {
		return // it said nothing, or too much
	}
	out := json.NewEncoder(conn)
	if err := json.Unmarshal(line, &request); err != nil {
		_ = out.Encode(answer{Error: "not a request: " + err.Error()})
		return
	}
	if request.Op == OpEvents {
		s.follow(conn)
		return
	}
	if err := out.Encode(s.answer(request)); err != nil {
		s.logger.Debug("a client of the control socket did not wait for its answer", "error", err)
	}
}

func (s *Server) answer(r Request) answer {
	var a answer
	var err error
	switch r.Op {
	case OpStatus:
		a.Status, err = s.handler.Status(s.ctx)
	case OpStop:
		err = s.handler.Stop(r.Level)
	case OpRetry:
		err = s.handler.Retry(r.Host)
	case OpPause:
		err = s.handler.Pause()
	case OpContinue:
		err = s.handler.Continue()
	case OpLimit:
		err = s.handler.Limit(r.Limit)
	case OpDrop:
		err = s.handler.Drop(r.Host)
	case OpLeave:
		err = s.handler.Leave()
	default:
		err = fmt.Errorf("unknown request %q: this initiator may be older than you", r.Op)
	}
	if err != nil {
		return answer{Error: err.Error()}
	}
	a.OK = true
	return a
}

// follow sends events until the run ends, the client goes away, or it falls too far behind.
func (s *Server) follow(conn net.Conn) {
	s.mu.Lock()
	lines := s.snapshot()
	f := &follower{lines: make(chan []byte, backlog)}
	s.followers[f] = struct{}{}
	s.mu.Unlock()
	gone, cancel := context.WithCancel(s.ctx)
	defer cancel()
	s.group.Go(func() { // the client says nothing more: what comes is its end
		defer cancel()
		_ = conn.SetReadDeadline(time.Time{})
		_, _ = conn.Read(make([]byte, 1))
	})
	defer func() {
		_ = conn.Close()
		s.mu.Lock()
		s.forget(f)
		s.mu.Unlock()
	}()
	send := func(line []byte) bool {
		_ = conn.SetWriteDeadline(time.Now().Add(greetFor))
		_, err := conn.Write(line)
		return err == nil
	}
	hello, err := json.Marshal(answer{OK: true, Snapshot: len(lines)})
	if err != nil {
		s.logger.Error("the control socket can't answer", "error", err)
		return
	}
	for _, line := range append([][]byte{append(hello, '\n')}, lines...) {
		if !send(line) {
			return
		}
	}
	for {
		select {
		case line, more := <-f.lines:
			if !more || !send(line) {
				return
			}
		case <-gone.Done():
			return
		}
	}
}
