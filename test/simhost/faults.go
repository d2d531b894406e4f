package simhost

import "fmt"

// Stage is a point that a host passes while it serves an initiator; faults are switched on for stages.
type Stage uint8

// The stages in the order in which a run passes them.
const (
	StageAccept      Stage = iota // before the SSH version is sent
	StageKeyExchange              // after it
	StageAuth
	StageChannelOpen
	StageProbe
	StageSFTP
	StageInstall
	StageForward // a socket forward is asked for
	StageTunnel  // the stdio tunnel is started
	StageStart   // start or attach
	StageFinish  // Signal and Finish; hanging, the payload never hears of them
	StageAckExit
	StageRemove
	stages
)

var stageNames = [stages]string{"accept", "key exchange", "auth", "channel open", "probe", "sftp", "install", "forward", "tunnel",
	"start", "finish", "ack exit", "remove"}

// String returns the stage in words.
func (s Stage) String() string {
	if s < stages {
		return stageNames[s]
	}
	return fmt.Sprintf("stage(%d)", uint8(s))
}

// switches are the faults that are on. Host.mu guards them.
type switches struct {
	hang         [stages]chan struct{} // closed by the release
	drop         [stages]bool
	frozen       bool
	refuse       bool
	deny         bool
	wrongKey     bool
	diskFull     bool
	startFailure string
}

// Hang makes every connection stop at a stage until release is called or the connection ends.
func (h *Host) Hang(s Stage) (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	gate := make(chan struct{})
	h.faults.hang[s] = gate
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.faults.hang[s] == gate {
			h.faults.hang[s] = nil
			close(gate)
		}
	}
}

// DropWhen ends the next connection that reaches the stage, once.
func (h *Host) DropWhen(s Stage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults.drop[s] = true
}

// Drop ends all connections. Sessions live on.
func (h *Host) Drop() {
	for _, l := range h.liveLinks() {
		_ = l.Close() // it may be closed already
	}
}

// Freeze stops all bytes in both directions, in connections that are there and in new ones, until thaw is called.
func (h *Host) Freeze() (thaw func()) {
	h.set(func(f *switches) { f.frozen = true })
	for _, l := range h.liveLinks() {
		l.freeze()
	}
	return func() {
		h.set(func(f *switches) { f.frozen = false })
		for _, l := range h.liveLinks() {
			l.thaw()
		}
	}
}

// RefuseForward makes the host refuse socket forwards, as AllowStreamLocalForwarding no does.
func (h *Host) RefuseForward(on bool) { h.set(func(f *switches) { f.refuse = on }) }

// DenyAuth makes the host refuse every authentication.
func (h *Host) DenyAuth(on bool) { h.set(func(f *switches) { f.deny = on }) }

// WrongHostKey makes new connections show another host key.
func (h *Host) WrongHostKey(on bool) { h.set(func(f *switches) { f.wrongKey = on }) }

// DiskFull makes every write to a file fail.
func (h *Host) DiskFull(on bool) { h.set(func(f *switches) { f.diskFull = on }) }

// FailStart makes starts of a payload fail with this text; "" lets them succeed again.
func (h *Host) FailStart(text string) { h.set(func(f *switches) { f.startFailure = text }) }

func (h *Host) set(change func(*switches)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.faults)
}

func (h *Host) fault(look func(switches) bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return look(h.faults)
}

// reach passes a stage: it waits while the stage hangs and returns false when the connection is over.
func (h *Host) reach(l *link, s Stage) bool {
	h.mu.Lock()
	drop, hang := h.faults.drop[s], h.faults.hang[s]
	h.faults.drop[s] = false
	h.mu.Unlock()
	if drop {
		h.event(EventDropped, s.String())
		_ = l.Close() // it may be closed already
		return false
	}
	if hang != nil {
		select {
		case <-hang:
		case <-l.done:
		}
	}
	select {
	case <-l.done:
		return false
	default:
		return true
	}
}
