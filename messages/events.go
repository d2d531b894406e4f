package messages

import (
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// Event is what observers of a run get, in the order in which the supervisor saw it. The set is closed:
// the types of this file and no others.
type Event interface{ event() }

// RunStarted is the first event.
type RunStarted struct {
	At    time.Time `json:"at"`
	Run   string    `json:"run"`
	Hosts []string  `json:"hosts"`
}

// StateChanged tells that a host's actor entered a state (see docs/protocol.md for the names).
type StateChanged struct {
	At    time.Time `json:"at"`
	Host  string    `json:"host"`
	Epoch uint64    `json:"epoch"`
	State string    `json:"state"`
}

// StepStarted tells that a host began one of the nine steps.
type StepStarted struct {
	At    time.Time `json:"at"`
	Host  string    `json:"host"`
	Epoch uint64    `json:"epoch"`
	Step  Step      `json:"step"`
}

// StepDone tells that it ended well.
type StepDone struct {
	At     time.Time     `json:"at"`
	Host   string        `json:"host"`
	Epoch  uint64        `json:"epoch"`
	Step   Step          `json:"step"`
	Took   time.Duration `json:"took_ns"`
	Detail string        `json:"detail,omitempty"` // for people: "cached", "12.4 MB", "pid 4711"
}

// HostTroubled tells that an attempt failed and what follows.
type HostTroubled struct {
	At      time.Time     `json:"at"`
	Host    string        `json:"host"`
	Epoch   uint64        `json:"epoch"`
	Attempt int           `json:"attempt"`
	Kind    fault.Kind    `json:"kind"`
	Reason  string        `json:"reason"`
	Retry   bool          `json:"retry"`       // false: the host is given up
	RetryIn time.Duration `json:"retry_in_ns"` // where Retry
}

// Progressed tells how far a copy is, in bytes on the wire.
type Progressed struct {
	At    time.Time `json:"at"`
	Host  string    `json:"host"`
	Sent  int64     `json:"sent"`
	Total int64     `json:"total"`
}

// PayloadStarted tells that the payload runs (or that a running one was found again).
type PayloadStarted struct {
	At         time.Time `json:"at"`
	Host       string    `json:"host"`
	Epoch      uint64    `json:"epoch"`
	PID        int       `json:"pid"`
	Reattached bool      `json:"reattached"`
	Restarts   int       `json:"restarts,omitempty"` // how often it was started again by then
}

// PayloadRestarted tells that the payload ended and was started again on the host.
type PayloadRestarted struct {
	At    time.Time `json:"at"`
	Host  string    `json:"host"`
	Epoch uint64    `json:"epoch"`
	Count int       `json:"count"` // how often that happened in this session
	PID   int       `json:"pid"`
	Exit  Exit      `json:"exit"` // of the run before
}

// PayloadRerun tells that the host was rebooted and that its payload is about to be started again, from its beginning.
type PayloadRerun struct {
	At    time.Time `json:"at"`
	Host  string    `json:"host"`
	Epoch uint64    `json:"epoch"`
	Count int       `json:"count"` // how often that happened in this run
}

// HostWarned tells about something on a host that may end its session although nobody wants that, or about what was lost.
type HostWarned struct {
	At   time.Time `json:"at"`
	Host string    `json:"host"`
	Text string    `json:"text"` // for people: what, and what to do about it
}

// HostPlanned tells what a run would do on a host. Nothing was changed there.
type HostPlanned struct {
	At       time.Time     `json:"at"`
	Host     string        `json:"host"`
	Platform string        `json:"platform"` // as in "linux/amd64"
	User     string        `json:"user"`     // the effective one
	Action   string        `json:"action"`   // start, attach, clean up or nothing
	Base     string        `json:"base"`     // the base directory
	Exists   bool          `json:"exists"`   // it is there
	Copies   []PlannedCopy `json:"copies"`
	Tunnel   string        `json:"tunnel"`  // forward (stdio where the server refuses that) or stdio; empty where there is none
	Command  []string      `json:"command"` // what the payload would be
	Cache    bool          `json:"cache"`   // copies of programs stay
}

// PlannedCopy is a file that a host would have.
type PlannedCopy struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`  // before compression
	Cached bool   `json:"cached"` // it is there, and would not be sent
}

// DefinitionUpdated tells that a changed definition is on the host, where the running payload finds it.
type DefinitionUpdated struct {
	At      time.Time `json:"at"`
	Host    string    `json:"host"`
	Epoch   uint64    `json:"epoch"`
	Version uint64    `json:"version"` // counts the definitions that the host was given, from 1
}

// DefinitionNotUpdated tells that a changed definition did not get there. The payload goes on with the one it has; the
// next change, and the next connection, try again.
type DefinitionNotUpdated struct {
	At      time.Time `json:"at"`
	Host    string    `json:"host"`
	Epoch   uint64    `json:"epoch"`
	Version uint64    `json:"version"`
	Reason  string    `json:"reason"`
	Remedy  string    `json:"remedy,omitempty"` // what to do about it
}

// PayloadEnded tells how it ended.
type PayloadEnded struct {
	At   time.Time `json:"at"`
	Host string    `json:"host"`
	Exit Exit      `json:"exit"`
}

// OutputReceived is payload output that is durable at the initiator. It does not pass through any mailbox: the
// receiver's pace is what the host's credit follows.
type OutputReceived struct {
	At     time.Time `json:"at"`
	Host   string    `json:"host"`
	Offset uint64    `json:"offset"` // of the first byte, stdout and stderr together
	Stderr bool      `json:"stderr"`
	Data   []byte    `json:"data"` // base64 in JSON; see also text
}

// OutputDropped tells that output between the offsets is gone: the cap was exceeded.
type OutputDropped struct {
	At   time.Time `json:"at"`
	Host string    `json:"host"`
	From uint64    `json:"from"`
	To   uint64    `json:"to"`
}

// QuietReported tells what a host says of itself.
type QuietReported struct {
	At    time.Time `json:"at"`
	Host  string    `json:"host"`
	Quiet bool      `json:"quiet"`
}

// Converged tells that the group did, or one host where hosts converge one by one.
type Converged struct {
	At      time.Time     `json:"at"`
	Host    string        `json:"host,omitempty"` // empty: the whole group
	Members int           `json:"members"`
	For     time.Duration `json:"for_ns"`
}

// WaveStarted tells that the hosts of a wave may begin. Runs without waves have none of these events.
type WaveStarted struct {
	At    time.Time `json:"at"`
	Wave  int       `json:"wave"` // from 1
	Waves int       `json:"waves"`
	Hosts []string  `json:"hosts"`
}

// WaveFinished tells that all hosts of a wave are done.
type WaveFinished struct {
	At          time.Time     `json:"at"`
	Wave        int           `json:"wave"`
	Waves       int           `json:"waves"`
	Hosts       int           `json:"hosts"`
	Succeeded   int           `json:"succeeded"`
	Failed      int           `json:"failed"`
	Unreachable int           `json:"unreachable"`
	Canceled    int           `json:"canceled"`
	Took        time.Duration `json:"took_ns"`
	NextIn      time.Duration `json:"next_in_ns"` // the pause before the next wave
}

// RunExceeded tells that more hosts failed than the run tolerates: no more hosts begin.
type RunExceeded struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// RunPaused tells that no more hosts begin until the run is continued.
type RunPaused struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"` // for people; empty where somebody asked for it
}

// RunContinued tells that hosts begin again.
type RunContinued struct {
	At time.Time `json:"at"`
}

// ConnectionsLimited tells that another number of hosts may be in work at the same time.
type ConnectionsLimited struct {
	At    time.Time `json:"at"`
	Limit int       `json:"limit"` // 0 = all
}

// HostFinished is the last event of a host.
type HostFinished struct {
	At     time.Time `json:"at"`
	Result Result    `json:"result"`
}

// RunFinished is the last event of all.
type RunFinished struct {
	At        time.Time     `json:"at"`
	Run       string        `json:"run"`
	Took      time.Duration `json:"took_ns"`
	Converged bool          `json:"converged"`
	TimedOut  bool          `json:"timed_out"`          // the maximum run time was over first
	Exceeded  string        `json:"exceeded,omitempty"` // why hosts were skipped: more failed than the run tolerates
	Results   []Result      `json:"results"`
}

func (RunStarted) event()           {}
func (StateChanged) event()         {}
func (StepStarted) event()          {}
func (StepDone) event()             {}
func (HostTroubled) event()         {}
func (Progressed) event()           {}
func (PayloadStarted) event()       {}
func (DefinitionUpdated) event()    {}
func (DefinitionNotUpdated) event() {}
func (PayloadEnded) event()         {}
func (OutputReceived) event()       {}
func (OutputDropped) event()        {}
func (QuietReported) event()        {}
func (Converged) event()            {}
func (HostFinished) event()         {}
func (RunFinished) event()          {}
func (PayloadRestarted) event()     {}
func (PayloadRerun) event()         {}
func (HostWarned) event()           {}
func (HostPlanned) event()          {}
func (WaveStarted) event()          {}
func (WaveFinished) event()         {}
func (RunExceeded) event()          {}
func (RunPaused) event()            {}
func (RunContinued) event()         {}
func (ConnectionsLimited) event()   {}
