package simhost

import (
	"crypto/subtle"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// attachment is one initiator at a session. Host.mu guards the fields below conn.
type attachment struct {
	session *session
	link    *link
	conn    *wire.Conn
	ended   chan struct{} // closed when the initiator's frames ended

	evicted  *wire.Refused
	position uint64 // offset of the next output to send
	credit   uint64
	started  bool // by this attach
}

// attach serves `start` and `attach`: the marker, then frames.
func (c *connection) attach(dir, marker string, mayStart bool, ch ssh.Channel) int {
	if !c.host.reach(c.link, StageStart) {
		return exitFailure
	}
	say(ch, "%s\n%s\n", c.host.opts.Noise, marker)
	conn := wire.NewConn(ch)
	first, err := conn.Recv()
	if err != nil {
		return exitFailure
	}
	hello := first.GetHello()
	if hello == nil {
		return c.refuse(conn, &wire.Refused{Reason: wire.Refused_PROTOCOL, Text: "the first frame is no Hello"})
	}
	version, err := wire.Negotiate(hello.GetMinVersion(), hello.GetMaxVersion())
	if err != nil {
		return c.refuse(conn, &wire.Refused{Reason: wire.Refused_VERSION, Text: err.Error()})
	}
	s, now, refused := c.host.open(dir, mayStart)
	if refused != nil {
		return c.refuse(conn, refused)
	}
	a := &attachment{session: s, link: c.link, conn: conn, ended: make(chan struct{}), started: now}
	welcome, refused := a.enter(hello)
	if refused != nil {
		return c.refuse(conn, refused)
	}
	welcome.Version = version
	c.host.event(EventAttached, dir)
	if err := conn.Send(&wire.Frame{Kind: &wire.Frame_Welcome{Welcome: welcome}}); err != nil {
		a.leave()
		return exitFailure
	}
	c.host.wg.Go(func() {
		defer close(a.ended)
		a.receive()
	})
	a.send()
	a.leave()
	return exitOK // receive ends with the channel
}

func (c *connection) refuse(conn *wire.Conn, r *wire.Refused) int {
	c.host.event(EventRefused, r.GetText())
	_ = conn.Send(&wire.Frame{Kind: &wire.Frame_Refused{Refused: r}}) // the initiator may be gone already
	return exitFailure
}

// enter makes this the session's attachment; the one before is evicted.
func (a *attachment) enter(hello *wire.Hello) (*wire.Welcome, *wire.Refused) {
	s := a.session
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case s.over():
		return nil, &wire.Refused{Reason: wire.Refused_NO_SESSION, Text: "no session: it just ended"}
	case subtle.ConstantTimeCompare([]byte(hello.GetToken()), []byte(s.spec.Token)) != 1:
		return nil, &wire.Refused{Reason: wire.Refused_BAD_TOKEN, Text: "the token is not this session's"}
	case hello.GetFence() < s.fence:
		return nil, &wire.Refused{Reason: wire.Refused_FENCED, Text: "a newer initiator has taken over"}
	}
	if old := s.attached; old != nil {
		old.evicted = &wire.Refused{Reason: wire.Refused_EVICTED, Text: "a newer attach is there"}
		if hello.GetFence() > s.fence {
			old.evicted = &wire.Refused{Reason: wire.Refused_FENCED, Text: "a newer initiator has taken over"}
		}
		h.eventLocked(EventEvicted, s.dir)
	}
	s.fence, s.epoch, s.attached = hello.GetFence(), hello.GetEpoch(), a
	a.position, a.credit = hello.GetOutputFrom(), hello.GetCredit()
	s.notify()
	return &wire.Welcome{BootId: s.bootID, ShimPid: s.shimPID, PayloadPid: s.pid, Nonce: s.spec.Nonce, OutputStart: s.start,
		OutputEnd: s.end, StartedUnixMs: s.started.UnixMilli(), Exit: s.exit, StartedNow: a.started}, nil
}

func (a *attachment) leave() {
	s := a.session
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if s.attached == a {
		s.attached = nil
	}
}

// receive handles the initiator's frames until they end.
func (a *attachment) receive() {
	for {
		f, err := a.conn.Recv()
		if err != nil {
			return
		}
		s := a.session
		switch k := f.GetKind().(type) {
		case *wire.Frame_Credit:
			s.host.mu.Lock()
			a.credit = max(a.credit, k.Credit.GetLimit())
			s.notify()
			s.host.mu.Unlock()
		case *wire.Frame_Ack:
			s.acknowledge(k.Ack.GetOffset())
		case *wire.Frame_Signal:
			if s.host.reach(a.link, StageFinish) {
				s.signal(k.Signal.GetNumber())
			}
		case *wire.Frame_Finish:
			if s.host.reach(a.link, StageFinish) { // what was read is obeyed, whatever becomes of the connection
				s.host.wg.Go(func() { a.finish(k.Finish) })
			}
		case *wire.Frame_Tunnel:
			s.setTunnel(k.Tunnel)
		case *wire.Frame_Ping:
			if a.conn.Send(&wire.Frame{Kind: &wire.Frame_Pong{Pong: &wire.Pong{Id: k.Ping.GetId()}}}) != nil {
				return
			}
		case *wire.Frame_AckExit:
			if s.host.reach(a.link, StageAckExit) && !a.acknowledgeExit(k.AckExit) {
				return
			}
		}
	}
}

// acknowledgeExit is false when this was the end.
func (a *attachment) acknowledgeExit(ack *wire.AckExit) bool {
	s := a.session
	s.host.mu.Lock()
	exited := s.exit != nil
	s.host.mu.Unlock()
	switch {
	case !exited:
		answer := &wire.CleanedUp{Error: "the payload still runs"}
		return a.conn.Send(&wire.Frame{Kind: &wire.Frame_CleanedUp{CleanedUp: answer}}) == nil
	case ack.GetCleanUp():
		s.remove()
	default:
		return true
	}
	return false
}

// finish walks through the signals of a Finish until the payload ended.
func (a *attachment) finish(f *wire.Finish) {
	s := a.session
	s.signal(int32(syscall.SIGINT))
	for _, step := range []struct {
		wait uint32
		next syscall.Signal
	}{{f.GetIntMs(), syscall.SIGTERM}, {f.GetTermMs(), syscall.SIGKILL}} {
		if s.waitExit(time.Duration(step.wait) * time.Millisecond) {
			break
		}
		s.signal(int32(step.next))
	}
	if s.waitExit(-1) && f.GetCleanUp() {
		s.remove()
	}
}

// waitExit waits so long, or without limit if negative, and says whether the payload has ended. It ends with the shim.
func (s *session) waitExit(d time.Duration) bool {
	var timeout <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timeout = t.C
	}
	for {
		s.host.mu.Lock()
		exited, changed := s.exit != nil, s.changed
		s.host.mu.Unlock()
		if exited {
			return true
		}
		select {
		case <-changed:
		case <-s.gone:
			return false
		case <-timeout:
			return false
		}
	}
}

// send sends output, the exit and the last frame, until the attachment or the session is over.
func (a *attachment) send() {
	s := a.session
	exitSent := false
	for {
		s.host.mu.Lock()
		changed, evicted := s.changed, a.evicted
		frame := s.next(a.position, a.credit)
		exit := s.exit
		complete := a.position >= s.end
		s.host.mu.Unlock()
		switch {
		case evicted != nil:
			_ = a.conn.Send(&wire.Frame{Kind: &wire.Frame_Refused{Refused: evicted}}) // it may be gone already
			return
		case s.over() && !s.removed():
			return // killed: a dead shim says nothing
		case frame != nil:
			if gap := frame.GetGap(); gap != nil {
				a.position = gap.GetTo()
			} else {
				a.position += uint64(len(frame.GetOutput().GetData()))
			}
		case exit != nil && complete && !exitSent:
			frame = &wire.Frame{Kind: &wire.Frame_Exit{Exit: exit}}
			exitSent = true
		case s.over():
			// After Finish with clean_up nobody may listen any more.
			_ = a.conn.Send(&wire.Frame{Kind: &wire.Frame_CleanedUp{CleanedUp: &wire.CleanedUp{}}})
			return
		}
		if frame != nil {
			if a.conn.Send(frame) != nil {
				return
			}
			continue
		}
		select {
		case <-changed:
		case <-s.gone:
		case <-a.ended:
			return
		}
	}
}

// removed says whether the session ended by its own clean-up.
func (s *session) removed() bool {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	return s.host.sessions[s.dir] != s
}
