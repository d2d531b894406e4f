package sshfleet

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// Stage is a place where a host can be made to hang.
type Stage uint8

// The stages, in the order in which a client meets them.
const (
	// Accept: the TCP connection is made, but not even the version banner comes.
	Accept Stage = iota
	// KeyExchange: the banner comes, then nothing.
	KeyExchange
	// Auth: keys are exchanged, but no attempt to authenticate is answered.
	Auth
	// ChannelOpen: requests for new channels are not answered. Requests like keepalives still are.
	ChannelOpen
	// Exec: the channel opens, but the request to run a command isn't answered and the command not started.
	Exec
	// SFTPWrite: the SFTP server takes no more write requests; other SFTP requests before the first write are answered.
	SFTPWrite
	// Read: nothing is read from any connection, until the client's sends block; what the server has to say still goes out.
	Read

	stages = iota
)

var stageNames = [stages]string{"accept", "key exchange", "auth", "channel open", "exec", "sftp write", "read"}

// String returns the stage in words.
func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return fmt.Sprintf("stage(%d)", uint8(s))
}

// DefaultMaxSessions is how many session channels a connection may have open, sshd_config's default for MaxSessions.
const DefaultMaxSessions = 10

// switches is a snapshot of what is broken on a host.
type switches struct {
	refuseForward, refuseSFTP, refuseConnections, denyAuth bool

	paused      bool
	hung        [stages]bool
	maxSessions int
}

// faults holds the switches of a host. Its exported methods are part of Host's API.
type faults struct {
	bytesIn atomic.Int64

	mu       sync.Mutex
	now      switches
	changed  chan struct{} // closed and replaced at each change
	dropping bool          // DropAfter is armed
	dropLeft int64         // bytes until it drops
}

func newFaults() *faults {
	return &faults{now: switches{maxSessions: DefaultMaxSessions}, changed: make(chan struct{})}
}

func (f *faults) get() switches {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *faults) set(change func(*switches)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.now)
	close(f.changed)
	f.changed = make(chan struct{})
}

// wait returns true as soon as blocked says no, false when done is closed before.
func (f *faults) wait(done <-chan struct{}, blocked func(switches) bool) bool {
	for {
		f.mu.Lock()
		now, changed := f.now, f.changed
		f.mu.Unlock()
		select {
		case <-done:
			return false
		default:
		}
		if !blocked(now) {
			return true
		}
		select {
		case <-done:
			return false
		case <-changed:
		}
	}
}

// waitStage is wait for a hang at one stage.
func (f *faults) waitStage(done <-chan struct{}, s Stage) bool {
	return f.wait(done, func(now switches) bool { return now.hung[s] })
}

// allowance returns how many of want bytes may be read before DropAfter strikes; it is at least 1 when want is.
func (f *faults) allowance(want int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dropping && int64(want) > f.dropLeft {
		return int(max(f.dropLeft, 1))
	}
	return want
}

// received counts n bytes and reports whether it is time to drop the connections.
func (f *faults) received(n int) (drop bool) {
	f.bytesIn.Add(int64(n))
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.dropping {
		return false
	}
	f.dropLeft -= int64(n)
	if f.dropLeft > 0 {
		return false
	}
	f.dropping = false
	return true
}

// RefuseForward makes the host refuse new remote forwards, as sshd with AllowStreamLocalForwarding no. Those that
// are there stay.
func (f *faults) RefuseForward(on bool) { f.set(func(s *switches) { s.refuseForward = on }) }

// RefuseSFTP makes the host refuse the sftp subsystem, as sshd without a Subsystem line.
func (f *faults) RefuseSFTP(on bool) { f.set(func(s *switches) { s.refuseSFTP = on }) }

// RefuseConnections makes the host close new connections right after accepting them, as sshd does beyond MaxStartups.
func (f *faults) RefuseConnections(on bool) { f.set(func(s *switches) { s.refuseConnections = on }) }

// DenyAuth makes the host refuse every key and password.
func (f *faults) DenyAuth(on bool) { f.set(func(s *switches) { s.denyAuth = on }) }

// MaxSessions limits the session channels each connection may have open at the same time; the default is
// DefaultMaxSessions, 0 allows none, as in sshd_config. Sessions that are open stay.
func (f *faults) MaxSessions(n int) { f.set(func(s *switches) { s.maxSessions = n }) }

// Hang makes everything that reaches the stage from now on wait until Release. A stage that doesn't exist panics.
func (f *faults) Hang(stage Stage) { f.set(func(s *switches) { s.hung[stage] = true }) }

// Release ends the hang at a stage; what waited there goes on.
func (f *faults) Release(stage Stage) { f.set(func(s *switches) { s.hung[stage] = false }) }

// Pause freezes the bytes of all connections in both directions without closing anything, as a network that swallows
// packets. Closing isn't noticed either until Resume.
func (f *faults) Pause() { f.set(func(s *switches) { s.paused = true }) }

// Resume ends Pause; the bytes held back are delivered.
func (f *faults) Resume() { f.set(func(s *switches) { s.paused = false }) }

// DropAfter arms a switch that closes all connections, once, when n more bytes (at least 1) arrived from clients, summed over
// all connections from now on. Those n bytes are the last the server sees. A second call replaces the first, n ≤ 0 disarms.
func (f *faults) DropAfter(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropping, f.dropLeft = n > 0, n
}
