// Package lifecycle is what happens to one host, as a pure state machine: state and event in, next state and effects
// out. It knows no actor, no network and no clock; the host actor around it carries the effects out and reports what
// came of them as events.
//
// There is no second path for recovery: a first run, a reconnect and a stop walk the same states and differ only in
// what the probe finds and in what was asked for meanwhile. docs/protocol.md draws the machine.
package lifecycle

import "fmt"

// State is where a host actor is. A restart always begins in New.
type State uint8

// The states, in the order in which a host that meets no trouble passes them.
const (
	New             State = iota // waits for Begun
	Waiting                      // for the delay before the next attempt
	Admitting                    // for a handshake permit
	Connecting                   // step 1: dial, host key, authentication
	Probing                      // step 1: what is there?
	MakingDirectory              // step 2
	AwaitingUpload               // step 3: for an upload permit
	Copying                      // step 3
	OpeningTunnel                // step 4, before the first start
	Starting                     // step 5: start or attach
	Attaching                    // step 5: claim the session that is there
	Rejoining                    // step 4, after the claim
	Running                      // step 5
	Finishing                    // step 6
	ClosingTunnel                // step 7
	CleaningUp                   // step 8
	Disconnecting                // step 9
	Done
)

var stateNames = [...]string{
	"New", "Waiting", "Admitting", "Connecting", "Probing", "MakingDirectory", "AwaitingUpload", "Copying", "OpeningTunnel",
	"Starting", "Attaching", "Rejoining", "Running", "Finishing", "ClosingTunnel", "CleaningUp", "Disconnecting", "Done",
}

// String returns the state's name as events and the documentation spell it.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// States lists all of them, for the tests that hold the documentation and the tables against the code.
func States() []State {
	all := make([]State, len(stateNames))
	for i := range all {
		all[i] = State(i)
	}
	return all
}

// Found is what the probe says about this run's session, read together with what the initiator had recorded.
type Found uint8

const (
	// FoundNothing: no session directory, and none was expected.
	FoundNothing Found = iota
	// FoundDirectory: a session directory in which nothing was started.
	FoundDirectory
	// FoundSession: a session was started there; alive or dead, attaching tells.
	FoundSession
	// FoundMissing: we had started a session and there is none, and nothing says that the host was rebooted: it was cleaned, or an
	// orphan that ended.
	FoundMissing
	// FoundRemains: a session that we had started is there, and the host was rebooted since; what the payload had said by then
	// can still be had.
	FoundRemains
	// FoundRebooted: we had started a session, and nothing is left of it since the host was rebooted.
	FoundRebooted
	// FoundForeign: a session of this run that we have no record and so no token of.
	FoundForeign
)

// OnReboot is what is done where the reboot of its host ended a payload.
type OnReboot uint8

const (
	// RebootFails: the host failed.
	RebootFails OnReboot = iota
	// RebootReruns: the payload is started again, from its beginning.
	RebootReruns
)
