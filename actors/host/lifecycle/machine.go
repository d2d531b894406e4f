package lifecycle

import (
	"errors"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Machine is the life of one host actor instance. It is a value without references to anything outside; Step is its
// only way to change. Not safe for concurrent use: it belongs to the actor's turns.
type Machine struct {
	state  State
	trace  messages.Trace
	stop   messages.StopLevel
	finish messages.FinishReason
	stay   bool // see Begun
	reboot OnReboot
	dry    bool // see Begun

	previewed bool // what would be done was told

	ended   endedBy
	tunnel  tunnelState
	defs    definitions
	upload  bool           // step 3 has more to send than small files
	exit    *messages.Exit // how the payload ended
	asked   bool           // the payload ended because we asked it to
	fault   *fault.Fault   // why we are tearing down before the payload's end
	left    *fault.Fault   // why something may be left on the host
	effects []Effect       // of the step in progress
}

// tunnelState is what there is to close in step 7.
type tunnelState uint8

const (
	tunnelNone tunnelState = iota
	tunnelRequested
)

// State returns the present one.
func (m *Machine) State() State { return m.state }

// Trace returns what may be on the host now.
func (m *Machine) Trace() messages.Trace { return m.trace }

// Stopping reports whether anybody asked to stop, or the goal is reached.
func (m *Machine) Stopping() bool { return m.stop != messages.StopNone }

// Finished reports whether the payload was to end because the goal was reached or the time was over.
func (m *Machine) Finished() bool { return m.finish != messages.FinishNone }

// Step takes one event. An event that means nothing in the present state changes nothing: answers to what was given
// up meanwhile arrive late, and that is not an error.
func (m *Machine) Step(event Event) []Effect {
	m.effects = nil
	switch e := event.(type) {
	case Stop:
		m.stepStop(e.Level)
	case Finish:
		if m.finish == messages.FinishNone && m.stop == messages.StopNone {
			m.finish = e.Reason
			m.stepStop(messages.StopFinish)
		}
	case Failed:
		m.stepFailed(e.Fault)
	case Defeated:
		m.stepDefeated(e)
	default:
		m.stepProgress(event)
	}
	return m.effects
}

// stepProgress is the way forward: each state and the event that it waits for.
func (m *Machine) stepProgress(event Event) {
	switch e := event.(type) {
	case Begun:
		if m.state == New {
			m.begin(e)
		}
	case DelayOver:
		if m.state == Waiting {
			m.becomeAdmitting()
		}
	case Permitted:
		switch {
		case m.state == Admitting && e.Kind == messages.PermitHandshake:
			m.enter(Connecting, Connect{})
		case m.state == AwaitingUpload && e.Kind == messages.PermitUpload:
			m.enter(Copying, Copy{})
		}
	case Connected:
		if m.state == Connecting {
			m.do(ReturnPermit{messages.PermitHandshake})
			m.becomeProbing()
		}
	case Probed:
		if m.state == Probing {
			if m.dry {
				m.preview(e)
				return
			}
			m.route(e)
		}
	case DirectoryMade:
		if m.state == MakingDirectory {
			m.becomeCopying()
		}
	case Copied:
		if m.state == Copying {
			m.defs.there = m.defs.planned
			m.returnUpload()
			m.becomeTunneling(OpeningTunnel)
		}
	case TunnelOpened:
		m.tunnelOpened()
	case Attached:
		m.attached(e)
	case PayloadExited:
		m.exited(e.Exit)
	case DefinitionChanged, DefinitionCopied, DefinitionNotCopied:
		m.stepDefinition(event)
	case Left:
		if m.state == Finishing {
			m.trace = messages.TraceNone
			m.becomeDisconnecting()
		}
	case TunnelClosed:
		if m.state == ClosingTunnel {
			m.becomeCleaningUp()
		}
	case CleanedUp:
		if m.state == CleaningUp {
			m.trace, m.left = messages.TraceNone, nil
			if m.rerunning() {
				m.becomeProbing()
				return
			}
			m.becomeDisconnecting()
		}
	case Disconnected:
		if m.state == Disconnecting {
			m.becomeDone()
		}
	}
}

// begin takes what the supervisor knows from earlier instances. A stop that overtook it counts, too.
func (m *Machine) begin(e Begun) {
	m.trace, m.finish, m.stay, m.reboot, m.dry = e.Trace, e.Finish, e.Stay, e.Reboot, e.Dry
	m.defs = definitions{newest: max(m.defs.newest, e.Newest), there: e.There}
	m.stop = max(m.stop, e.Stop)
	switch {
	case m.Stopping() && m.mayGiveUp():
		m.becomeDone()
	case e.Wait:
		// While stopping, the delay is kept too: a host that is gone must not be dialed in a tight loop.
		m.enter(Waiting, Wait{})
	default:
		m.becomeAdmitting()
	}
}

// mayGiveUp reports whether a stop needs no further connection: nothing is on the host, or we are to leave.
func (m *Machine) mayGiveUp() bool {
	return m.trace == messages.TraceNone || m.stop >= messages.StopLeave
}

func (m *Machine) becomeAdmitting() {
	m.enter(Admitting, AskPermit{messages.PermitHandshake})
}

func (m *Machine) becomeProbing() {
	m.defs.planned = m.defs.newest
	m.enter(Probing, Probe{})
}

// route decides after the probe which way to go.
func (m *Machine) route(e Probed) {
	m.upload, m.ended = e.Upload, endedByPayload
	if e.Exit != nil {
		// It was recorded before the connection was lost. Where a stop had been asked for, that is what ended it.
		m.exit, m.asked = e.Exit, m.Stopping() && !e.Exit.OK()
	}
	switch e.Found {
	case FoundSession:
		m.trace = messages.TraceSession
		m.enter(Attaching, Attach{})
	case FoundDirectory:
		m.trace = messages.TraceDirectory
		if m.Stopping() {
			m.becomeCleaningUp()
			return
		}
		m.enter(MakingDirectory, MakeDirectory{})
	case FoundNothing:
		m.trace = messages.TraceNone
		if m.Stopping() || m.exit != nil {
			m.becomeDisconnecting()
			return
		}
		m.trace = messages.TraceDirectory
		m.enter(MakingDirectory, MakeDirectory{})
	case FoundMissing:
		m.trace = messages.TraceNone
		if !m.Stopping() && m.exit == nil {
			m.fault = fault.New(fault.Environment, "run", "the session that was started on this host is gone, and nothing says that the host was rebooted").
				WithRemedy("its temporary files were cleaned, or nobody was attached for the orphan timeout; see whether the payload still runs there before you run it again")
		}
		m.becomeDisconnecting()
	case FoundRemains:
		m.trace, m.ended = messages.TraceSession, endedByReboot
		m.enter(Attaching, Attach{})
	case FoundRebooted:
		m.rebooted()
	case FoundForeign:
		m.trace = messages.TraceNone
		m.fault = fault.New(fault.Environment, "run", "a session of this run is on the host, but this initiator has no record of it").
			WithRemedy("continue the run where it was started, or begin a new one")
		m.becomeDisconnecting()
	}
}

func (m *Machine) becomeCopying() {
	if m.upload {
		m.enter(AwaitingUpload, AskPermit{messages.PermitUpload})
		return
	}
	m.enter(Copying, Copy{})
}

// returnUpload gives back a permit (or the place in the queue for it) that a copy with uploads holds.
func (m *Machine) returnUpload() {
	if m.upload {
		m.do(ReturnPermit{messages.PermitUpload})
	}
}

func (m *Machine) becomeTunneling(state State) {
	m.tunnel = tunnelRequested
	m.enter(state, OpenTunnel{})
}

func (m *Machine) tunnelOpened() {
	switch m.state {
	case OpeningTunnel:
		m.trace = messages.TraceSession
		m.enter(Starting, Start{})
	case Rejoining:
		m.becomeRunning()
	case Running, Finishing:
		m.do(UseTunnel{}) // a restarted tunnel actor made a new one
	}
}

// attached goes on with the session. In the later states a restarted exec actor has claimed it once more and is told
// again what its predecessor knew.
func (m *Machine) attached(e Attached) {
	switch m.state {
	case Starting, Attaching:
		if m.ended == endedByReboot && !e.Ended {
			m.ended = endedByPayload // the boot ID was wrong: it is alive
		}
		switch {
		case m.Stopping(), m.ended == endedByReboot:
			m.becomeFinishing()
		case m.state == Starting:
			m.becomeRunning()
		default:
			m.becomeTunneling(Rejoining)
		}
	case Running:
		m.do(UseTunnel{})
	case Finishing:
		m.becomeFinishing()
	case CleaningUp:
		m.do(CleanUpSession{})
	}
}

func (m *Machine) becomeRunning() {
	m.enter(Running, UseTunnel{})
	m.follow()
}

// exited goes on to the tear-down. Step 6 is passed through also where the payload ended by itself: it has only been
// short then.
func (m *Machine) exited(exit messages.Exit) {
	switch m.state {
	case Rejoining, Running, Finishing:
	default:
		return
	}
	if !m.takeExit(exit) {
		return
	}
	if m.state != Finishing {
		m.enter(Finishing)
	}
	m.becomeClosingTunnel()
}

func (m *Machine) becomeFinishing() {
	switch {
	case m.stop >= messages.StopLeave:
		m.enter(Finishing, Leave{})
	case m.Stopping():
		m.enter(Finishing, FinishPayload{m.stop})
	default:
		m.enter(Finishing) // it has ended, we only hear what it said
	}
}

func (m *Machine) becomeClosingTunnel() {
	if m.tunnel == tunnelNone {
		m.becomeCleaningUp()
		return
	}
	m.tunnel = tunnelNone
	m.enter(ClosingTunnel, CloseTunnel{})
}

// becomeCleaningUp lets the shim clean up where there is one: it knows best that nothing of it is left.
func (m *Machine) becomeCleaningUp() {
	switch m.trace {
	case messages.TraceSession:
		m.enter(CleaningUp, CleanUpSession{})
	case messages.TraceDirectory:
		m.enter(CleaningUp, RemoveSession{})
	default:
		m.becomeDisconnecting()
	}
}

func (m *Machine) becomeDisconnecting() { m.enter(Disconnecting, Disconnect{}) }

func (m *Machine) becomeDone() { m.enter(Done, Conclude{}) }

// stepStop records the level and does what it means in the present state.
func (m *Machine) stepStop(level messages.StopLevel) {
	if level <= m.stop {
		return
	}
	m.stop = level
	switch m.state {
	case New, Starting, Attaching, ClosingTunnel, CleaningUp, Disconnecting, Done:
		// New learns the rest from Begun. Starting and Attaching must know first what there is to stop. The others
		// are on the way out already.
	case Waiting:
		if m.mayGiveUp() {
			m.becomeDone()
			return
		}
		m.becomeAdmitting() // there is something to end and remove: try at once
	case Admitting, Connecting:
		if m.mayGiveUp() {
			if m.state == Connecting {
				m.do(CancelConnect{})
			}
			m.do(ReturnPermit{messages.PermitHandshake})
			m.becomeDone()
		}
	case Probing:
		if level >= messages.StopLeave {
			m.becomeDisconnecting()
		}
	case MakingDirectory:
		m.becomeCleaningUp()
	case AwaitingUpload, Copying:
		m.returnUpload()
		m.becomeCleaningUp()
	case OpeningTunnel:
		m.becomeClosingTunnel()
	case Rejoining, Running:
		m.becomeFinishing()
	case Finishing:
		if level >= messages.StopLeave {
			m.do(Leave{})
			return
		}
		m.do(FinishPayload{level})
	}
}

// stepFailed looks at the kind alone. What is about the connection, or about our right to it, ends the instance; the
// supervisor decides what follows. Everything else is torn down in order over the connection that there is.
func (m *Machine) stepFailed(f *fault.Fault) {
	if m.state == Done {
		return
	}
	switch f.Kind {
	case fault.Environment, fault.Payload, fault.Canceled:
		m.tearDown(f)
	default:
		if m.state == Disconnecting {
			m.becomeDone() // it is gone: all that was wanted
			return
		}
		m.do(Fail{f})
	}
}

// stepDefeated ends the host's part, in order where the session can still be told to end.
func (m *Machine) stepDefeated(e Defeated) {
	switch m.state {
	case Disconnecting, Done:
		return
	case Starting, Rejoining, Running, Finishing:
		if e.Exec {
			if m.fault == nil {
				m.fault = e.Fault
			}
			m.becomeDisconnecting()
			return
		}
	}
	m.tearDown(e.Fault)
}

func (m *Machine) tearDown(f *fault.Fault) {
	switch m.state {
	case ClosingTunnel:
		m.left = f
		m.becomeCleaningUp()
		return
	case CleaningUp:
		m.left = f
		if m.rerunning() {
			m.fault = f // what is left is in the way
		}
		m.becomeDisconnecting()
		return
	case Disconnecting:
		m.becomeDone()
		return
	}
	if m.lostRemains(f) {
		m.becomeCleaningUp()
		return
	}
	if m.mayStay(f) {
		m.do(Fail{f})
		return
	}
	if m.fault == nil {
		m.fault = f
	}
	switch m.state {
	case New, Waiting, Admitting, Connecting:
		m.do(Fail{f})
	case Probing:
		m.becomeDisconnecting()
	case MakingDirectory:
		m.becomeCleaningUp()
	case AwaitingUpload, Copying:
		m.returnUpload()
		m.becomeCleaningUp()
	case OpeningTunnel:
		m.becomeClosingTunnel()
	case Starting:
		if errors.Is(f, fault.ErrTakenOver) {
			m.becomeDisconnecting() // it is not ours any more: touch nothing
			return
		}
		m.trace = messages.TraceDirectory
		m.becomeClosingTunnel()
	case Attaching:
		m.becomeDisconnecting()
	case Rejoining, Running:
		if errors.Is(f, fault.ErrTakenOver) {
			m.becomeDisconnecting()
			return
		}
		m.stop = max(m.stop, messages.StopFinish)
		m.becomeFinishing()
	case Finishing:
		m.left = f
		m.becomeDisconnecting()
	}
}

// mayStay reports whether a host's trouble is no reason to end its session: the payload does not need what we could not
// get, and the next instance tries again.
func (m *Machine) mayStay(f *fault.Fault) bool {
	return m.stay && !m.Stopping() && f.Kind == fault.Environment && (m.state == Attaching || m.state == Rejoining)
}

func (m *Machine) enter(s State, effects ...Effect) {
	m.state = s
	m.do(Enter{s})
	m.abandonDefinition()
	m.do(effects...)
}

func (m *Machine) do(effects ...Effect) { m.effects = append(m.effects, effects...) }

// Result fills in what the machine knows of the host's result; the actor adds times and counts.
func (m *Machine) Result() messages.Result {
	r := messages.Result{Fault: m.fault, Exit: m.exit, Converged: m.finish == messages.FinishConverged && m.fault == nil && m.exit != nil}
	switch {
	case m.fault != nil && errors.Is(m.fault, fault.ErrTakenOver):
		r.Outcome = messages.OutcomeTakenOver
	case m.fault != nil:
		r.Outcome = messages.OutcomeFailed
	case r.Converged, m.previewed:
		r.Outcome = messages.OutcomeSucceeded
	case m.exit != nil && !m.asked && m.exit.OK():
		r.Outcome = messages.OutcomeSucceeded
	case m.exit != nil && !m.asked:
		r.Outcome = messages.OutcomePayloadFailed
	default:
		r.Outcome = messages.OutcomeCanceled
	}
	if m.finish == messages.FinishMaxRuntime && r.Outcome == messages.OutcomeCanceled {
		r.Reason = "not converged within the maximum run time"
	}
	if r.Outcome == messages.OutcomeCanceled && r.Reason == "" && m.trace != messages.TraceNone {
		r.Reason = "stopped without a connection on which to end and clean up"
	}
	r.LeftBehind = m.trace.LeftBehind()
	if m.left != nil {
		r.LeftBehind = m.left.Error()
	}
	return r
}
