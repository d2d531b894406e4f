package lifecycle

import (
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Event is something that happened to a host. The set is closed.
type Event interface{ event() }

type (
	// Begun starts an instance. Wait says that the attempt is to be delayed. Newest is the version of the newest
	// definition, There of the one on the host; 0: there is none.
	Begun struct {
		Wait   bool
		Trace  messages.Trace
		Stop   messages.StopLevel
		Finish messages.FinishReason
		Newest uint64
		There  uint64
		Stay   bool // a live session is not ended because of its host's troubles
		Reboot OnReboot
		Dry    bool // look, say what would be done, and leave
	}
	// DelayOver ends Waiting: its time has come, or somebody asked to retry now.
	DelayOver struct{}
	// Permitted gives a permit that was asked for.
	Permitted struct{ Kind messages.PermitKind }
	// Connected ends step 1's first half.
	Connected struct{}
	// Probed ends step 1. Upload says that step 3 has more to send than small files. Exit is the recorded end of the
	// payload, where only the cleaning up was left to do.
	Probed struct {
		Found  Found
		Upload bool
		Exit   *messages.Exit
	}
	// DirectoryMade ends step 2.
	DirectoryMade struct{}
	// Copied ends step 3.
	Copied struct{}
	// TunnelOpened ends step 4.
	TunnelOpened struct{}
	// Attached tells that we hold the session. Ended: its payload has ended before, and PayloadExited follows.
	Attached struct{ Ended bool }
	// PayloadExited tells that the payload ended and that all it left us is durable here.
	PayloadExited struct{ Exit messages.Exit }
	// DefinitionChanged tells of a newer definition.
	DefinitionChanged struct{ Version uint64 }
	// DefinitionCopied ends a CopyDefinition; DefinitionNotCopied, too: that one did not succeed.
	DefinitionCopied    struct{ Version uint64 }
	DefinitionNotCopied struct{ Version uint64 }
	// Left tells that the shim knows that it is to end by itself.
	Left struct{}
	// TunnelClosed ends step 7.
	TunnelClosed struct{}
	// CleanedUp ends step 8.
	CleanedUp struct{}
	// Disconnected ends step 9.
	Disconnected struct{}
	// Stop asks to stop.
	Stop struct{ Level messages.StopLevel }
	// Finish asks to end the payload because the goal is reached or the time over.
	Finish struct{ Reason messages.FinishReason }
	// Failed tells that what the state was about did not succeed.
	Failed struct{ Fault *fault.Fault }
	// Defeated tells that a child met so many bugs of ours that it is not restarted any more. Exec: it was the exec
	// actor, so that the shim can't be told anything.
	Defeated struct {
		Fault *fault.Fault
		Exec  bool
	}
)

func (Begun) event()               {}
func (DelayOver) event()           {}
func (Permitted) event()           {}
func (Connected) event()           {}
func (Probed) event()              {}
func (DirectoryMade) event()       {}
func (Copied) event()              {}
func (TunnelOpened) event()        {}
func (Attached) event()            {}
func (PayloadExited) event()       {}
func (DefinitionChanged) event()   {}
func (DefinitionCopied) event()    {}
func (DefinitionNotCopied) event() {}
func (Left) event()                {}
func (TunnelClosed) event()        {}
func (CleanedUp) event()           {}
func (Disconnected) event()        {}
func (Stop) event()                {}
func (Finish) event()              {}
func (Failed) event()              {}
func (Defeated) event()            {}

// Effect is something the host actor is to do, in the order given. The set is closed.
type Effect interface{ effect() }

type (
	// Enter tells that a state was entered. It precedes the effects that belong to the state.
	Enter struct{ State State }
	// Wait begins the delay of Waiting.
	Wait struct{}
	// AskPermit and ReturnPermit talk to the supervisor.
	AskPermit    struct{ Kind messages.PermitKind }
	ReturnPermit struct{ Kind messages.PermitKind }
	// Connect dials; CancelConnect gives up a dial in flight.
	Connect       struct{}
	CancelConnect struct{}
	// Preview tells which state would follow the probe, where the host is only looked at.
	Preview struct{ Next State }
	// Probe asks the host what is there. What children there are from before are of no use any more.
	Probe struct{}
	// Rerun tells that the payload is about to be started again because its host was rebooted. Warn tells what was lost.
	Rerun struct{}
	Warn  struct{ Fault *fault.Fault }
	// MakeDirectory, Copy and RemoveSession are for the sftp actor. RemoveSession ends a copy in flight.
	MakeDirectory struct{}
	Copy          struct{}
	RemoveSession struct{}
	// CopyDefinition puts the newest definition, which has this version, where the running payload follows it;
	// AbandonDefinition gives that up. Both are for the sftp actor.
	CopyDefinition    struct{ Version uint64 }
	AbandonDefinition struct{}
	// OpenTunnel, CloseTunnel are for the tunnel actor; UseTunnel tells the exec actor which tunnel is the current one.
	OpenTunnel  struct{}
	CloseTunnel struct{}
	UseTunnel   struct{}
	// Start, Attach, FinishPayload, Leave and CleanUpSession are for the exec actor.
	Start          struct{}
	Attach         struct{}
	FinishPayload  struct{ Level messages.StopLevel }
	Leave          struct{}
	CleanUpSession struct{}
	// Disconnect closes the connection.
	Disconnect struct{}
	// Fail ends this instance: the actor panics with the fault and its supervisor decides.
	Fail struct{ Fault *fault.Fault }
	// Conclude reports the result; it is the last effect of all.
	Conclude struct{}
)

func (Enter) effect()             {}
func (Wait) effect()              {}
func (AskPermit) effect()         {}
func (ReturnPermit) effect()      {}
func (Connect) effect()           {}
func (CancelConnect) effect()     {}
func (Preview) effect()           {}
func (Probe) effect()             {}
func (Rerun) effect()             {}
func (Warn) effect()              {}
func (MakeDirectory) effect()     {}
func (Copy) effect()              {}
func (RemoveSession) effect()     {}
func (CopyDefinition) effect()    {}
func (AbandonDefinition) effect() {}
func (OpenTunnel) effect()        {}
func (CloseTunnel) effect()       {}
func (UseTunnel) effect()         {}
func (Start) effect()             {}
func (Attach) effect()            {}
func (FinishPayload) effect()     {}
func (Leave) effect()             {}
func (CleanUpSession) effect()    {}
func (Disconnect) effect()        {}
func (Fail) effect()              {}
func (Conclude) effect()          {}
