package messages

import (
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// AddHost asks the supervisor to bring a host into the run. The host's connection data is not in the message (it may
// hold secrets): the supervisor's options know how to make the host actor of a name. A name that is there is left alone.
type AddHost struct {
	Host       string
	Definition Definition
	Trace      Trace // what an earlier initiator may have left on the host
}

// Definition is what a host's payload is to keep applied, where the payload is a graph. Nobody changes its bytes.
type Definition struct {
	Version uint64 // counts what one host was given, from 1; 0: the payload has no definition
	Source  []byte // as it was written: a template becomes the host's own only when the host is known
}

// UpdateDefinition gives a host another definition, on the way from the fleet to the supervisor and from there to the
// host actor. One that is older than what the receiver has is left alone.
type UpdateDefinition struct {
	Host       string
	Definition Definition
}

// RemoveHost asks the supervisor to take a host out: its payload is finished and everything cleaned up.
type RemoveHost struct{ Host string }

// NoMoreHosts tells the supervisor that the fleet is complete: when every host is done, the run is.
type NoMoreHosts struct{}

// StopRun asks the supervisor to stop every host. Sent again with a higher level, it asks harder.
type StopRun struct{ Level StopLevel }

// HandOver asks the supervisor to let go of every host that is not done, and to touch nothing: another initiator goes on with
// their sessions. Connections end, and those hosts' outcome is OutcomeTakenOver.
type HandOver struct{}

// FinishRun asks the supervisor to end all payloads because the run reached its goal or its time is over.
type FinishRun struct{ Reason FinishReason }

// FinishReason says why a payload that still runs is ended without anybody having asked for a stop.
type FinishReason uint8

const (
	// FinishNone: it is not.
	FinishNone FinishReason = iota
	// FinishConverged: host or group converged; a success.
	FinishConverged
	// FinishMaxRuntime: --max-runtime is over before convergence; not a success.
	FinishMaxRuntime
)

// Begin is the first message a host actor gets, on the first start and after each restart alike.
type Begin struct {
	Epoch      uint64        // the number of the connection to make; only grows
	Attempt    int           // 1 for the first connection of the run, counting on
	Delay      time.Duration // how long to stay in Waiting first
	Stop       StopLevel     // what has been asked for so far
	Finish     FinishReason  // the same
	Began      time.Time     // when the first instance began, for the result
	Last       *fault.Fault  // why the previous instance failed; nil for the first
	Carry      Carry         // what earlier instances had counted
	Definition Definition    // the newest; UpdateDefinition brings newer ones
	Stay       bool          // the run never gives up: a live session is not ended because of its host's troubles
}

// Carry is what an instance of a host actor leaves to the next one, beside what the initiator recorded durably.
type Carry struct {
	BytesSent, BytesSkipped int64  // summed up over all connections
	Trace                   Trace  // what of ours is on the host
	Reruns                  int    // how often the payload was started again because its host was rebooted
	Definition              uint64 // version of the definition that is on the host; 0: none
}

// Trace is what of ours is on a host, as far as we know.
type Trace uint8

const (
	// TraceNone: nothing but, perhaps, the cache.
	TraceNone Trace = iota
	// TraceDirectory: a session directory in which nothing was started.
	TraceDirectory
	// TraceSession: a shim may be alive.
	TraceSession
)

// LeftBehind says in words what stays on a host that is given up with this trace on it; "" for nothing.
func (t Trace) LeftBehind() string {
	switch t {
	case TraceSession:
		return "a session; it ends and cleans up by itself after its orphan timeout"
	case TraceDirectory:
		return "a session directory"
	}
	return ""
}

// Carried keeps a host's Carry up to date with the supervisor, which hands it to the next instance in Begin.
type Carried struct {
	Host  string
	Carry Carry
}

// RetryNow ends Waiting at once.
type RetryNow struct{}

// RetryHost asks the supervisor to end the waiting of a host at once, or that of all hosts where none is named.
type RetryHost struct{ Host string }

// StopHost asks a host actor to stop; levels only grow.
type StopHost struct{ Level StopLevel }

// FinishHost asks a host actor to end its payload because the goal is reached or the time over.
type FinishHost struct{ Reason FinishReason }

// PermitKind names what there is a bounded number of.
type PermitKind uint8

const (
	// PermitHandshake bounds key exchanges in flight, so that a storm of reconnects is spread.
	PermitHandshake PermitKind = iota + 1
	// PermitUpload bounds uploads in flight.
	PermitUpload
)

// AskPermit asks the supervisor for a permit; PermitGranted answers when there is one.
type AskPermit struct {
	Host  string
	Epoch uint64
	Kind  PermitKind

	Through string // the way to the host's jump host, whose permits are bounded for themselves; "" = none
}

// PermitGranted gives a permit to the host actor that asked in this epoch. A host that is stopped or restarted
// loses its permits without returning them.
type PermitGranted struct {
	Epoch uint64
	Kind  PermitKind
}

// ReturnPermit gives a permit (or the place in the queue for one) back.
type ReturnPermit struct {
	Host string
	Kind PermitKind
}

// HostDone is a host actor's last word: it has released everything and may be stopped.
type HostDone struct{ Result Result }

// Exit is how a payload ended.
type Exit struct {
	Code   int    `json:"code"`            // exit status; -1 when killed by a signal or never started
	Signal int    `json:"signal"`          // 0: it exited
	Error  string `json:"error,omitempty"` // why it could not be started or watched, or what ended it early
	Cause  Cause  `json:"cause,omitempty"` // what ended it, where that was neither itself nor we
}

// Cause is what ended a payload.
type Cause string

const (
	// CauseNone: the payload itself, or whoever asked for its end.
	CauseNone Cause = ""
	// CauseShutdown: its host told the shim to end: it is shut down, or the login's sessions are ended.
	CauseShutdown Cause = "shutdown"
	// CauseReboot: its host was rebooted.
	CauseReboot Cause = "reboot"
)

// OK reports whether the payload ended well.
func (e Exit) OK() bool { return e.Code == 0 && e.Signal == 0 && e.Error == "" }

// Result is the outcome of one host.
type Result struct {
	Host         string        `json:"host"`
	Outcome      Outcome       `json:"outcome"`
	Fault        *fault.Fault  `json:"-"`                     // why not, when our part failed
	Reason       string        `json:"reason,omitempty"`      // the same for people and JSON
	Remedy       string        `json:"remedy,omitempty"`      // what to do about it
	Exit         *Exit         `json:"exit,omitempty"`        // when the payload ended
	Converged    bool          `json:"converged"`             // finished because the host or group converged
	Took         time.Duration `json:"took_ns"`               // from the first Begin
	BytesSent    int64         `json:"bytes_sent"`            // payload bytes put on the wire
	BytesSkipped int64         `json:"bytes_skipped"`         // bytes that were in the host's cache already
	Attempts     int           `json:"attempts"`              // connections tried
	Reruns       int           `json:"reruns,omitempty"`      // how often the payload was started again because its host was rebooted
	LeftBehind   string        `json:"left_behind,omitempty"` // what may still be on the host, and what ends it
}

// GetStatus asks the supervisor for a Status, as a request.
type GetStatus struct{}

// Status is a snapshot of a run.
type Status struct {
	Hosts    map[string]string // host name → state of its actor, as the last StateChanged told
	Results  []Result          // of the hosts that are done
	Stop     StopLevel
	Paused   bool
	Wave     int    // the current one, from 1; 0: the run has no waves
	Waves    int    // how many there are
	Exceeded string // why no more hosts begin; "" = they do
	Limit    int    // of hosts in work at the same time; 0 = none
	Finished bool
}
