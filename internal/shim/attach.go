package shim

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

const (
	helloWait    = 15 * time.Second // how long a connection may take to say who it is
	farewellWait = time.Second      // how long a last frame may take to get out
	toldWait     = 2 * time.Second  // how long an initiator that leaves gets to receive output and exit
)

// attachment is the connection of the attached initiator.
type attachment struct {
	raw   net.Conn
	conn  *wire.Conn
	fence uint64

	mu     sync.Mutex
	credit uint64
	more   chan struct{} // gets a value when credit was raised
	gone   chan struct{} // closed when the connection has ended
	told   chan struct{} // closed when Exit was sent

	restarts uint32 // what its Welcome said of them
}

func (s *server) accept() {
	for {
		c, err := s.control.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.printf("accept an initiator: %v", err)
			time.Sleep(50 * time.Millisecond) // out of descriptors: that passes
			continue
		}
		go s.handle(c)
	}
}

// handle is one connection of a pipe process, from its hello to its end. A frame that can't be sent doesn't end it: what was received
// before the connection broke still counts.
func (s *server) handle(c *net.UnixConn) {
	defer c.Close() //nolint:errcheck // a second time where the session closed it
	conn := wire.NewConn(c)
	_ = c.SetReadDeadline(time.Now().Add(helloWait)) // fails only on a closed connection, as the read does then
	f, err := conn.Recv()
	if err != nil {
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	hello := f.GetHello()
	if hello == nil {
		s.refuse(conn, wire.Refused_PROTOCOL, "the first frame is no hello")
		return
	}
	a, ok := s.admit(c, conn, hello)
	if !ok {
		return
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		s.sendOutput(a, hello.OutputFrom)
	}()
	for {
		f, err := conn.Recv()
		if err != nil || !s.obey(a, f) {
			break
		}
	}
	close(a.gone)
	s.detach(a)
	_ = c.Close() // the sender's write ends
	<-sent
}

func (s *server) refuse(conn *wire.Conn, reason wire.Refused_Reason, text string) {
	err := conn.Send(&wire.Frame{Kind: &wire.Frame_Refused{Refused: &wire.Refused{Reason: reason, Text: text}}})
	if err != nil {
		s.log.printf("refuse an attach (%s): %v", text, err)
	}
}

// admit checks the hello, evicts the initiator that was attached, and answers.
func (s *server) admit(c net.Conn, conn *wire.Conn, h *wire.Hello) (*attachment, bool) {
	version, err := wire.Negotiate(h.MinVersion, h.MaxVersion)
	if err != nil {
		s.refuse(conn, wire.Refused_VERSION, err.Error())
		return nil, false
	}
	if subtle.ConstantTimeCompare([]byte(h.Token), []byte(s.spec.Token)) != 1 {
		s.refuse(conn, wire.Refused_BAD_TOKEN, "the token is not that of this session")
		return nil, false
	}
	a := &attachment{
		raw: c, conn: conn, fence: h.Fence, credit: h.Credit,
		more: make(chan struct{}, 1), gone: make(chan struct{}), told: make(chan struct{}),
	}
	s.mu.Lock()
	rec := s.store.get()
	if h.Fence < rec.Fence {
		s.mu.Unlock()
		s.refuse(conn, wire.Refused_FENCED, "a newer initiator has taken over")
		return nil, false
	}
	if h.Fence > rec.Fence { // remembered before it counts
		if err := s.store.update(func(r *record) { r.Fence = h.Fence }); err != nil {
			s.mu.Unlock()
			s.refuse(conn, wire.Refused_UNSPECIFIED, fmt.Sprintf("the fencing token can't be recorded (is the disk full?): %v", err))
			return nil, false
		}
	}
	old := s.current
	s.current, s.lastSeen, a.restarts = a, time.Now(), rec.restarts()
	// Sent under the lock, so that nothing comes before it, not even an eviction. It can't block: a new socket has room for it.
	if err := conn.Send(&wire.Frame{Kind: &wire.Frame_Welcome{Welcome: s.welcome(rec, version)}}); err != nil {
		s.log.printf("welcome: %v", err) // its frames may still be there to be read
	} else {
		s.firstWelcome = false
	}
	s.mu.Unlock()
	if old != nil {
		go evict(old, h.Fence)
	}
	return a, true
}

func (s *server) welcome(rec record, version uint32) *wire.Welcome {
	w := &wire.Welcome{
		Version: version, BootId: rec.BootID, ShimPid: int32(os.Getpid()), PayloadPid: int32(rec.Payload.PID),
		Nonce: rec.Nonce, StartedUnixMs: rec.StartedUnixMS, Exit: s.exit, StartedNow: s.firstWelcome,
		Restarts: rec.restarts(), Warnings: s.warnings,
	}
	w.OutputStart, w.OutputEnd = s.out.bounds()
	return w
}

func evict(old *attachment, fence uint64) {
	r := &wire.Refused{Reason: wire.Refused_EVICTED, Text: "a newer attach of the same initiator is there"}
	if fence > old.fence {
		r = &wire.Refused{Reason: wire.Refused_FENCED, Text: "a newer initiator has taken over"}
	}
	old.farewell(&wire.Frame{Kind: &wire.Frame_Refused{Refused: r}})
	_ = old.raw.Close() // its handler cleans up
}

// farewell sends a last frame to a peer that may not read any more.
func (a *attachment) farewell(f *wire.Frame) {
	_ = a.raw.SetWriteDeadline(time.Now().Add(farewellWait)) // on a closed connection Send fails as well
	_ = a.conn.Send(f)                                       // whoever is gone doesn't need it
}

// waitTold waits until the initiator has got everything, has gone, or takes too long.
func (a *attachment) waitTold() {
	select {
	case <-a.told:
	case <-a.gone:
	case <-time.After(toldWait):
	}
}

func (s *server) detach(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == a {
		s.current = nil
		s.detached = time.Now()
	}
}

// obey does what a frame asks for. It returns false where the connection is to be closed. Frames of kinds that this
// version doesn't know are ignored.
func (s *server) obey(a *attachment, f *wire.Frame) bool {
	s.mu.Lock()
	if s.current != a { // evicted: what it wants doesn't count any more, and evict closes the connection
		s.mu.Unlock()
		return true
	}
	s.lastSeen = time.Now()
	s.mu.Unlock()
	switch k := f.Kind.(type) {
	case *wire.Frame_Ping:
		s.answer(a, &wire.Frame{Kind: &wire.Frame_Pong{Pong: &wire.Pong{Id: k.Ping.Id}}})
	case *wire.Frame_Credit:
		a.raise(k.Credit.Limit)
	case *wire.Frame_Ack:
		if err := s.out.ack(k.Ack.Offset); err != nil {
			s.log.printf("forget acknowledged output: %v", err)
		}
	case *wire.Frame_Signal:
		if s.keeper != nil && k.Signal.Number > 0 {
			if err := s.keeper.signal(syscall.Signal(k.Signal.Number)); err != nil {
				s.log.printf("%v", err)
			}
		}
	case *wire.Frame_Finish:
		s.finish(k.Finish)
	case *wire.Frame_Tunnel:
		if s.ep != nil {
			s.ep.setTunnel(a.fence, k.Tunnel.Epoch, k.Tunnel.Socket)
		}
	case *wire.Frame_AckExit:
		return s.ackExit(a, k.AckExit)
	case *wire.Frame_Hello:
		s.refuse(a.conn, wire.Refused_PROTOCOL, "a second hello")
		return false
	}
	return true
}

func (s *server) answer(a *attachment, f *wire.Frame) {
	if err := a.conn.Send(f); err != nil {
		s.log.printf("answer: %v", err)
	}
}

// ackExit cleans up on request. Without, the session stays, served, until somebody wants it removed or it is an orphan.
func (s *server) ackExit(a *attachment, f *wire.AckExit) bool {
	if !f.CleanUp {
		return true
	}
	if s.exitRecord() == nil {
		s.answer(a, &wire.Frame{Kind: &wire.Frame_CleanedUp{CleanedUp: &wire.CleanedUp{Error: "the payload still runs"}}})
		return true
	}
	s.cleanUp()
	return false
}

func (a *attachment) raise(limit uint64) {
	a.mu.Lock()
	a.credit = max(a.credit, limit)
	a.mu.Unlock()
	select {
	case a.more <- struct{}{}:
	default: // the sender hasn't looked since the last one
	}
}

func (a *attachment) limit() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.credit
}

// sendOutput sends output from an offset on, as far as credit goes, what the payload says of itself as soon as it does, and
// behind all of a run's output that it was followed by another one, or Exit. It returns when the connection has ended.
func (s *server) sendOutput(a *attachment, from uint64) {
	r := logReader{log: s.out}
	defer r.close()
	exitSent, restarts := false, a.restarts
	var told seen
	for {
		changed := s.out.changed() // before looking: nothing is missed
		exit, restart := s.exitRecord(), s.lastRestart()
		if s.spec.StatusFile != "" && exit == nil {
			for _, quiet := range s.status.news(&told) {
				if err := a.conn.Send(&wire.Frame{Kind: &wire.Frame_Quiet{Quiet: &wire.Quiet{Quiet: quiet}}}); err != nil {
					return // as below
				}
			}
		}
		if restart.GetCount() > restarts && from >= restart.Exit.OutputEnd {
			// Before reading: what is read must be sent, the reader never goes back.
			if err := a.conn.Send(&wire.Frame{Kind: &wire.Frame_Restarted{Restarted: restart}}); err != nil {
				return // as below
			}
			restarts = restart.Count
			continue
		}
		c, ok, err := r.read(from, a.limit())
		if err != nil {
			s.log.printf("read the output log: %v", err)
			_ = a.raw.Close() // better luck for the next attach; this one must not wait for ever
			return
		}
		var f *wire.Frame
		switch {
		case ok && c.data == nil:
			f = &wire.Frame{Kind: &wire.Frame_Gap{Gap: &wire.Gap{From: from, To: c.gapEnd}}}
			from = c.gapEnd
		case ok:
			f = &wire.Frame{Kind: &wire.Frame_Output{Output: &wire.Output{Offset: c.offset, Stderr: c.stderr, Data: c.data}}}
			from = c.end()
		case exit != nil && !exitSent && from >= exit.OutputEnd:
			f = &wire.Frame{Kind: &wire.Frame_Exit{Exit: exit}}
			exitSent = true
		default:
			select {
			case <-changed:
			case <-a.more:
			case <-a.gone:
				return
			}
			continue
		}
		if err := a.conn.Send(f); err != nil {
			return // the reader finds the end of the connection
		}
		if f.GetExit() != nil {
			close(a.told)
		}
	}
}
