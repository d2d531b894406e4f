package messages

import "time"

// StartPayload asks the exec actor for step 5 on a host without a session: start, or attach if one is there after all.
type StartPayload struct{}

// AttachPayload asks the exec actor to claim the session that is there; it never starts anything.
type AttachPayload struct{}

// Attached answers StartPayload and AttachPayload.
type Attached struct {
	PayloadPID int  // on the host; 0 when the payload could not be started
	StartedNow bool // this attach started the payload
	Ended      bool // the payload had ended before; PayloadExited follows
	Restarts   int  // how often it was started again by then
	Warnings   []string
}

// UseTunnel tells the exec actor (and it the shim) which tunnel socket is the current one.
type UseTunnel struct {
	Number uint64
	Socket string
}

// FinishPayload asks for step 6: SIGINT, after Interrupt SIGTERM, after Terminate SIGKILL, to the payload's process
// group. PayloadExited follows, or came already.
type FinishPayload struct{ Interrupt, Terminate time.Duration }

// LeaveSession tells the shim to end the payload and clean up by itself; SessionLeft answers once that is sent.
type LeaveSession struct{}

// SessionLeft answers LeaveSession.
type SessionLeft struct{}

// PayloadExited tells that the payload ended and that its output and exit record are durable at the initiator.
type PayloadExited struct{ Exit Exit }

// PayloadStartedAgain tells that the payload ended and that its restart policy started it again.
type PayloadStartedAgain struct {
	Count int  // how often that happened
	PID   int  // on the host
	Exit  Exit // of the run before
}

// PayloadQuiet is what the payload says of itself where the shim can know.
type PayloadQuiet struct{ Quiet bool }

// OutputLost tells that output was dropped on the host because its cap was exceeded while nobody took it.
type OutputLost struct{ From, To uint64 }

// CleanUpSession asks for step 8: the shim removes its session directory and ends.
type CleanUpSession struct{}

// SessionCleanedUp answers CleanUpSession.
type SessionCleanedUp struct{}
