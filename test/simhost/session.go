package simhost

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// Session is what a test sees of a session.
type Session struct {
	Dir, Run, Host string
	PayloadPID     int32
	Attached       bool
	Epoch, Fence   uint64
	Tunnel         string // socket of the newest Tunnel frame
	OutputStart    uint64 // acknowledged so far
	OutputEnd      uint64
	Exited         bool
	ExitCode       int32
}

// session is a shim and its payload. Host.mu guards it.
type session struct {
	host    *Host
	dir     string
	spec    wire.Spec
	bootID  string
	shimPID int32
	pid     int32
	started time.Time

	changed chan struct{} // closed and replaced at every change
	gone    chan struct{} // closed when the shim ended: removed, killed or rebooted
	cancel  context.CancelCauseFunc

	fence, epoch uint64
	tunnel       string
	output       []piece
	start, end   uint64
	exit         *wire.Exit
	attached     *attachment
	signalled    int
	fatal        int32 // the signal that ends the payload
}

type piece struct {
	offset uint64
	stderr bool
	data   string
}

func (s *session) snapshot() Session {
	out := Session{Dir: s.dir, Run: s.spec.Run, Host: s.spec.Host, PayloadPID: s.pid, Attached: s.attached != nil, Epoch: s.epoch,
		Fence: s.fence, Tunnel: s.tunnel, OutputStart: s.start, OutputEnd: s.end, Exited: s.exit != nil}
	if s.exit != nil {
		out.ExitCode = s.exit.GetCode()
	}
	return out
}

func (s *session) over() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

func (s *session) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// sessionState answers what a probe sees in a session directory.
func (h *Host) sessionState(dir string) probe.SessionState {
	if mode, there := h.tree.mode(dir); !there || !mode.IsDir() {
		return probe.SessionNone
	}
	if _, there := h.tree.mode(path.Join(dir, probe.RecordFile)); !there {
		return probe.SessionPrepared
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sessions[dir]; s != nil && !s.over() {
		return probe.SessionLive
	}
	return probe.SessionStarted
}

// open finds or starts the session in dir. It returns nil and a refusal where there is none.
func (h *Host) open(dir string, mayStart bool) (s *session, now bool, refused *wire.Refused) {
	none := func(text string) (*session, bool, *wire.Refused) {
		return nil, false, &wire.Refused{Reason: wire.Refused_NO_SESSION, Text: text}
	}
	data, err := h.tree.read(path.Join(dir, wire.SpecFile))
	if err != nil {
		return none("no session: " + wire.SpecFile + " is missing")
	}
	var spec wire.Spec
	if err := json.Unmarshal(data, &spec); err != nil || spec.Token == "" || len(spec.Argv) == 0 {
		return nil, false, &wire.Refused{Reason: wire.Refused_START_FAILED, Text: "not the JSON of a session"}
	}
	_, recorded := h.tree.mode(path.Join(dir, probe.RecordFile))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return none("the host is closed")
	}
	old := h.sessions[dir]
	switch {
	case old != nil && !old.over():
		return old, false, nil
	case recorded:
		s := h.newSession(dir, spec) // post mortem: the log that is left and an exit record
		if old != nil && old.spec.Nonce == spec.Nonce {
			s.output, s.start, s.end, s.pid, s.exit, s.started = old.output, old.start, old.end, old.pid, old.exit, old.started
			s.fence, s.bootID = max(s.fence, old.fence), old.bootID
		}
		if s.exit == nil {
			s.exit = &wire.Exit{Code: -1, Error: "the shim was killed", OutputEnd: s.end}
			if s.bootID != h.bootID {
				s.exit.Error = "the host was rebooted while the payload ran"
			}
		}
		return s, false, nil
	case !mayStart:
		return none("no session: nothing was started in " + dir)
	}
	s = h.newSession(dir, spec)
	h.tree.put(path.Join(dir, probe.RecordFile), []byte(fmt.Sprintf("{\"pid\":%d}\n", s.shimPID)), 0o600)
	if text := h.faults.startFailure; text != "" {
		s.finish(&wire.Exit{Code: -1, Error: text})
		return s, true, nil
	}
	h.lastPID++
	s.pid = h.lastPID
	h.starts++
	h.eventLocked(EventStarted, dir)
	ctx, cancel := context.WithCancelCause(context.Background())
	s.cancel = cancel
	h.wg.Go(func() { s.run(ctx) })
	return s, true, nil
}

func (h *Host) newSession(dir string, spec wire.Spec) *session {
	h.lastPID++
	s := &session{host: h, dir: dir, spec: spec, bootID: h.bootID, shimPID: h.lastPID, fence: spec.Fence, started: time.Now(),
		changed: make(chan struct{}), gone: make(chan struct{})}
	h.sessions[dir] = s
	return s
}

// killAll ends all shims with their payloads. What they logged stays for a post mortem.
func (h *Host) killAll(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		if !s.over() {
			s.kill(why)
		}
	}
}

// kill ends the shim without an exit record. Host.mu is held.
func (s *session) kill(why string) {
	close(s.gone)
	if s.cancel != nil {
		s.cancel(fmt.Errorf("%s", why))
	}
	s.notify()
}

// finish records the exit. Host.mu is held.
func (s *session) finish(exit *wire.Exit) {
	if s.exit != nil || s.over() {
		return
	}
	exit.OutputEnd = s.end
	s.exit = exit
	s.host.eventLocked(EventExited, fmt.Sprintf("code %d signal %d", exit.GetCode(), exit.GetSignal()))
	s.notify()
}

// signal delivers a signal to the payload, unless it ended.
func (s *session) signal(number int32) {
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.exit != nil || s.over() {
		return
	}
	h.signals = append(h.signals, int(number))
	h.eventLocked(EventSignalled, syscall.Signal(number).String())
	s.signalled++
	if number != int32(syscall.SIGKILL) && s.signalled <= h.opts.Payload.IgnoreSignals {
		return
	}
	s.fatal = number
	s.cancel(errSignalled)
}

// remove is the shim's own clean-up: the directory, the run's when empty, the base on request.
func (s *session) remove() {
	h := s.host
	h.tree.removeAll(s.dir)
	run := path.Dir(s.dir)
	h.removeEmpty(run)
	if s.spec.RemoveBase {
		h.removeEmpty(path.Dir(run))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.dir] == s {
		delete(h.sessions, s.dir)
	}
	if !s.over() {
		close(s.gone)
		s.notify()
	}
	h.eventLocked(EventCleanedUp, s.dir)
}

// setTunnel notes the newest tunnel and removes the sockets of older ones, as the shim does.
func (s *session) setTunnel(t *wire.Tunnel) {
	h := s.host
	h.mu.Lock()
	s.tunnel = t.GetSocket()
	s.notify()
	h.mu.Unlock()
	prefix := s.dir + "/etcd."
	for _, f := range h.tree.files() {
		if strings.HasPrefix(f.Path, prefix) && f.Path != t.GetSocket() {
			h.tree.removeAll(f.Path)
		}
	}
}

// Process is a running payload, for Payload.Body.
type Process struct{ session *session }

// Spec returns what the initiator asked to run.
func (p *Process) Spec() wire.Spec { return p.session.spec }

// Dial connects to the payload's etcd endpoint: through the newest tunnel, for which it waits.
func (p *Process) Dial(ctx context.Context) (net.Conn, error) { return p.session.host.DialTunnel(ctx) }

// Print adds output.
func (p *Process) Print(stderr bool, text string) { p.session.print(stderr, text) }
