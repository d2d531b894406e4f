package lifecycle_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	. "github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

var (
	good  = messages.Exit{}
	bad   = messages.Exit{Code: 1}
	lost  = fault.New(fault.Lost, "connection", "EOF")
	full  = fault.New(fault.Environment, "copy", "disk full")
	taken = fault.New(fault.Canceled, "run", "%w", fault.ErrTakenOver)
	bug   = fault.New(fault.Bug, "work", "panic")
)

// events are one of each sort that matters; the table below has a column for each.
var events = map[string]Event{
	"Begun":         Begun{},
	"Begun.Wait":    Begun{Wait: true},
	"DelayOver":     DelayOver{},
	"Handshake":     Permitted{messages.PermitHandshake},
	"Upload":        Permitted{messages.PermitUpload},
	"Connected":     Connected{},
	"Nothing":       Probed{Found: FoundNothing},
	"Directory":     Probed{Found: FoundDirectory},
	"Session":       Probed{Found: FoundSession},
	"Missing":       Probed{Found: FoundMissing},
	"Foreign":       Probed{Found: FoundForeign},
	"Remains":       Probed{Found: FoundRemains},
	"Rebooted":      Probed{Found: FoundRebooted},
	"Done before":   Probed{Found: FoundNothing, Exit: &good},
	"DirectoryMade": DirectoryMade{},
	"Copied":        Copied{},
	"TunnelOpened":  TunnelOpened{},
	"Attached":      Attached{},
	"Exited":        PayloadExited{bad},
	"Changed":       DefinitionChanged{2},
	"NowThere":      DefinitionCopied{2},
	"NotThere":      DefinitionNotCopied{2},
	"Left":          Left{},
	"TunnelClosed":  TunnelClosed{},
	"CleanedUp":     CleanedUp{},
	"Disconnected":  Disconnected{},
	"Finish":        Finish{messages.FinishConverged},
	"Stop.Finish":   Stop{messages.StopFinish},
	"Stop.Now":      Stop{messages.StopNow},
	"Stop.Leave":    Stop{messages.StopLeave},
	"Lost":          Failed{lost},
	"Environment":   Failed{full},
	"TakenOver":     Failed{taken},
	"Bug":           Failed{bug},
	"Defeated":      Defeated{Fault: bug},
	"Defeated.Exec": Defeated{Fault: bug, Exec: true},
}

// paths lead a new machine into each state, with uploads and a session on the host where that can be.
var paths = func() map[State][]Event {
	p := map[State][]Event{New: nil}
	grow := func(s, from State, more ...Event) { p[s] = append(slices.Clone(p[from]), more...) }
	grow(Waiting, New, Begun{Wait: true})
	grow(Admitting, New, Begun{})
	grow(Connecting, Admitting, Permitted{messages.PermitHandshake})
	grow(Probing, Connecting, Connected{})
	grow(MakingDirectory, Probing, Probed{Found: FoundNothing, Upload: true})
	grow(AwaitingUpload, MakingDirectory, DirectoryMade{})
	grow(Copying, AwaitingUpload, Permitted{messages.PermitUpload})
	grow(OpeningTunnel, Copying, Copied{})
	grow(Starting, OpeningTunnel, TunnelOpened{})
	grow(Attaching, Probing, Probed{Found: FoundSession})
	grow(Rejoining, Attaching, Attached{})
	grow(Running, Starting, Attached{})
	grow(Finishing, Running, Stop{messages.StopFinish})
	grow(ClosingTunnel, Running, PayloadExited{good})
	grow(CleaningUp, ClosingTunnel, TunnelClosed{})
	grow(Disconnecting, CleaningUp, CleanedUp{})
	grow(Done, Disconnecting, Disconnected{})
	return p
}()

func in(t interface{ Fatalf(string, ...any) }, s State) *Machine {
	var m Machine
	for _, e := range paths[s] {
		m.Step(e)
	}
	if m.State() != s {
		t.Fatalf("the path to %v leads to %v", s, m.State())
	}
	return &m
}

// words writes effects down: names, and what is in them where it is short.
func words(effects []Effect) string {
	var all []string
	for _, e := range effects {
		switch e := e.(type) {
		case Enter:
			continue
		case Fail:
			all = append(all, "Fail "+e.Fault.Kind.String())
		case FinishPayload:
			all = append(all, "FinishPayload "+e.Level.String())
		case AskPermit:
			all = append(all, fmt.Sprintf("AskPermit %d", e.Kind))
		case ReturnPermit:
			all = append(all, fmt.Sprintf("ReturnPermit %d", e.Kind))
		default:
			all = append(all, strings.TrimPrefix(fmt.Sprintf("%T", e), "lifecycle."))
		}
	}
	return strings.Join(all, ", ")
}

// cell is what an event does: the state after it, and the effects. An event that is not in a state's row does nothing.
type cell struct {
	after   State
	effects string
}

func with(row map[string]cell, more ...map[string]cell) map[string]cell {
	for _, m := range more {
		for k, v := range m {
			if _, ok := row[k]; !ok {
				row[k] = v
			}
		}
	}
	return row
}

func failing(s State) map[string]cell {
	return map[string]cell{"Lost": {s, "Fail lost"}, "Bug": {s, "Fail bug"}}
}

// unconnected: nothing to tear down, so every fault ends the instance.
func unconnected(s State) map[string]cell {
	return with(failing(s), map[string]cell{
		"Environment": {s, "Fail environment"}, "TakenOver": {s, "Fail canceled"}, "Defeated": {s, "Fail bug"},
		"Defeated.Exec": {s, "Fail bug"},
	})
}

func stops(c cell) map[string]cell {
	return map[string]cell{"Stop.Finish": c, "Stop.Now": c, "Stop.Leave": c, "Finish": c}
}

// deaf: the exec actor is no more, and with it the way to the shim.
var deaf = map[string]cell{"Defeated.Exec": {Disconnecting, "Disconnect"}}

// tornDown by any fault that is not about the connection.
func tornDown(c cell) map[string]cell {
	return map[string]cell{"Environment": c, "TakenOver": c, "Defeated": c, "Defeated.Exec": c}
}

var table = map[State]map[string]cell{
	New: with(map[string]cell{
		"Begun": {Admitting, "AskPermit 1"}, "Begun.Wait": {Waiting, "Wait"},
	}, unconnected(New)),
	Waiting: with(map[string]cell{
		"DelayOver": {Admitting, "AskPermit 1"},
	}, stops(cell{Done, "Conclude"}), unconnected(Waiting)),
	Admitting: with(map[string]cell{
		"Handshake": {Connecting, "Connect"},
	}, stops(cell{Done, "ReturnPermit 1, Conclude"}), unconnected(Admitting)),
	Connecting: with(map[string]cell{
		"Connected": {Probing, "ReturnPermit 1, Probe"},
	}, stops(cell{Done, "CancelConnect, ReturnPermit 1, Conclude"}), unconnected(Connecting)),
	Probing: with(map[string]cell{
		"Nothing": {MakingDirectory, "MakeDirectory"}, "Directory": {MakingDirectory, "MakeDirectory"}, "Session": {Attaching, "Attach"},
		"Missing": {Disconnecting, "Disconnect"}, "Foreign": {Disconnecting, "Disconnect"}, "Remains": {Attaching, "Attach"}, "Rebooted": {Disconnecting, "Disconnect"}, "Done before": {Disconnecting, "Disconnect"},
		"Stop.Leave": {Disconnecting, "Disconnect"},
	}, failing(Probing), tornDown(cell{Disconnecting, "Disconnect"})),
	MakingDirectory: with(map[string]cell{
		"DirectoryMade": {AwaitingUpload, "AskPermit 2"},
	}, stops(cell{CleaningUp, "RemoveSession"}), failing(MakingDirectory), tornDown(cell{CleaningUp, "RemoveSession"})),
	AwaitingUpload: with(map[string]cell{
		"Upload": {Copying, "Copy"},
	}, stops(cell{CleaningUp, "ReturnPermit 2, RemoveSession"}), failing(AwaitingUpload), tornDown(cell{CleaningUp, "ReturnPermit 2, RemoveSession"})),
	Copying: with(map[string]cell{
		"Copied": {OpeningTunnel, "ReturnPermit 2, OpenTunnel"},
	}, stops(cell{CleaningUp, "ReturnPermit 2, RemoveSession"}), failing(Copying), tornDown(cell{CleaningUp, "ReturnPermit 2, RemoveSession"})),
	OpeningTunnel: with(map[string]cell{
		"TunnelOpened": {Starting, "Start"},
	}, stops(cell{ClosingTunnel, "CloseTunnel"}), failing(OpeningTunnel), tornDown(cell{ClosingTunnel, "CloseTunnel"})),
	Starting: with(map[string]cell{
		"Attached": {Running, "UseTunnel"}, "TakenOver": {Disconnecting, "Disconnect"},
	}, failing(Starting), deaf, tornDown(cell{ClosingTunnel, "CloseTunnel"})),
	Attaching: with(map[string]cell{
		"Attached": {Rejoining, "OpenTunnel"},
	}, failing(Attaching), tornDown(cell{Disconnecting, "Disconnect"})),
	Rejoining: with(map[string]cell{
		"TunnelOpened": {Running, "UseTunnel"}, "Exited": {ClosingTunnel, "CloseTunnel"}, "TakenOver": {Disconnecting, "Disconnect"},
		"Stop.Now": {Finishing, "FinishPayload now"}, "Stop.Leave": {Finishing, "Leave"},
	}, stops(cell{Finishing, "FinishPayload finish"}), failing(Rejoining), deaf, tornDown(cell{Finishing, "FinishPayload finish"})),
	Running: with(map[string]cell{
		"TunnelOpened": {Running, "UseTunnel"}, "Attached": {Running, "UseTunnel"}, "Exited": {ClosingTunnel, "CloseTunnel"},
		"TakenOver": {Disconnecting, "Disconnect"}, "Stop.Now": {Finishing, "FinishPayload now"}, "Stop.Leave": {Finishing, "Leave"},
		"Changed": {Running, "CopyDefinition"},
	}, stops(cell{Finishing, "FinishPayload finish"}), failing(Running), deaf, tornDown(cell{Finishing, "FinishPayload finish"})),
	Finishing: with(map[string]cell{
		"TunnelOpened": {Finishing, "UseTunnel"}, "Attached": {Finishing, "FinishPayload finish"}, "Exited": {ClosingTunnel, "CloseTunnel"},
		"Left": {Disconnecting, "Disconnect"}, "Stop.Now": {Finishing, "FinishPayload now"}, "Stop.Leave": {Finishing, "Leave"},
	}, failing(Finishing), tornDown(cell{Disconnecting, "Disconnect"})),
	ClosingTunnel: with(map[string]cell{
		"TunnelClosed": {CleaningUp, "CleanUpSession"},
	}, failing(ClosingTunnel), tornDown(cell{CleaningUp, "CleanUpSession"})),
	CleaningUp: with(map[string]cell{
		"CleanedUp": {Disconnecting, "Disconnect"}, "Attached": {CleaningUp, "CleanUpSession"},
	}, failing(CleaningUp), tornDown(cell{Disconnecting, "Disconnect"})),
	Disconnecting: {
		"Disconnected": {Done, "Conclude"}, "Lost": {Done, "Conclude"}, "Bug": {Done, "Conclude"},
		"Environment": {Done, "Conclude"}, "TakenOver": {Done, "Conclude"},
	},
	Done: {},
}

func TestEveryStateAndEvent(t *testing.T) {
	for _, s := range States() {
		row, ok := table[s]
		if !ok {
			t.Errorf("%v is not in the table", s)
		}
		if _, ok := paths[s]; !ok {
			t.Errorf("no path leads to %v", s)
		}
		for name, event := range events {
			m := in(t, s)
			want, ok := row[name]
			if !ok {
				want = cell{s, ""}
			}
			effects := m.Step(event)
			if got := (cell{m.State(), words(effects)}); got != want {
				t.Errorf("%v + %s: %+v, want %+v", s, name, got, want)
			}
			entered := s
			for _, e := range effects {
				if e, ok := e.(Enter); ok {
					entered = e.State
				}
			}
			if entered != m.State() {
				t.Errorf("%v + %s: the effects enter %v, the machine is in %v", s, name, entered, m.State())
			}
		}
		for name := range row {
			if _, ok := events[name]; !ok {
				t.Errorf("%v: no event is called %s", s, name)
			}
		}
	}
}

// world is the other end of a machine in a random test: it counts what must balance.
type world struct {
	t        *rapid.T
	m        Machine
	permits  map[messages.PermitKind]int
	tunnel   bool
	exited   bool // the machine was told of an exit
	found    bool // a session, or the record of one
	started  int
	finished bool // Conclude
	failed   bool
}

func (w *world) step(e Event) []Effect {
	switch e := e.(type) {
	case PayloadExited:
		switch w.m.State() {
		case Rejoining, Running, Finishing:
			w.exited = true
		}
	case Probed:
		if w.m.State() == Probing {
			w.found = w.found || e.Found != FoundNothing && e.Found != FoundDirectory || e.Exit != nil
		}
	}
	before := w.m.State()
	effects := w.m.Step(e)
	if before == Done && (len(effects) > 0 || w.m.State() != Done) {
		w.t.Fatalf("%T brought the machine out of Done: %v", e, effects)
	}
	for i, effect := range effects {
		switch x := effect.(type) {
		case AskPermit:
			w.permits[x.Kind]++
		case ReturnPermit:
			w.permits[x.Kind]--
			if w.permits[x.Kind] < 0 {
				w.t.Fatalf("permit %v returned without having been asked for", x.Kind)
			}
		case OpenTunnel:
			if w.tunnel {
				w.t.Fatal("a second tunnel")
			}
			w.tunnel = true
		case CloseTunnel:
			if !w.tunnel {
				w.t.Fatal("a tunnel is closed that was never opened")
			}
			w.tunnel = false
		case Start:
			w.started++
			if w.exited || w.found || w.started > 1 {
				w.t.Fatalf("Start, although exited=%v found=%v started=%d", w.exited, w.found, w.started)
			}
		case Disconnect:
			w.tunnel = false // it goes with the connection
		case Conclude:
			if w.finished || i != len(effects)-1 || w.m.State() != Done {
				w.t.Fatalf("Conclude out of order: %v", effects)
			}
			w.finished = true
		case Fail:
			if i != len(effects)-1 {
				w.t.Fatalf("effects after Fail: %v", effects)
			}
			w.failed = true
		}
	}
	return effects
}

// answer is what a world without trouble says to an effect; nil for nothing.
func answer(e Effect) Event {
	switch e := e.(type) {
	case Wait:
		return DelayOver{}
	case AskPermit:
		return Permitted(e)
	case Connect:
		return Connected{}
	case Probe:
		return Probed{Found: FoundSession}
	case MakeDirectory:
		return DirectoryMade{}
	case Copy:
		return Copied{}
	case OpenTunnel:
		return TunnelOpened{}
	case Start, Attach:
		return Attached{}
	case FinishPayload:
		return PayloadExited{Exit: bad}
	case Leave:
		return Left{}
	case CloseTunnel:
		return TunnelClosed{}
	case CleanUpSession, RemoveSession:
		return CleanedUp{}
	case Disconnect:
		return Disconnected{}
	}
	return nil
}

func TestRandomEvents(t *testing.T) {
	names := make([]string, 0, len(events))
	for name := range events {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, permits: map[messages.PermitKind]int{}}
		upload := rapid.Bool().Draw(t, "upload")
		for range rapid.IntRange(0, 80).Draw(t, "length") {
			e := events[rapid.SampledFrom(names).Draw(t, "event")]
			// A way forward is likelier than chance would make it.
			if rapid.Bool().Draw(t, "forward") {
				e = forward(w.m.State(), upload)
			}
			if p, ok := e.(Probed); ok {
				p.Upload = upload
				e = p
			}
			if w.step(e); w.failed {
				return // the instance ends here; its permits are taken back
			}
		}
		// From anywhere: a stop, and a world that answers.
		level := rapid.SampledFrom([]messages.StopLevel{messages.StopFinish, messages.StopNow, messages.StopLeave}).Draw(t, "level")
		todo := []Event{Begun{}, Stop{level}, nudge(w.m.State())}
		for n := 0; len(todo) > 0; n++ {
			if n > 100 {
				t.Fatalf("no end: %v", w.m.State())
			}
			e := todo[0]
			todo = todo[1:]
			if e == nil {
				continue
			}
			for _, effect := range w.step(e) {
				todo = append(todo, answer(effect))
			}
			if len(todo) == 0 && w.m.State() != Done {
				todo = append(todo, nudge(w.m.State()))
			}
		}
		if w.m.State() != Done || !w.finished {
			t.Fatalf("stopped in %v", w.m.State())
		}
		for kind, n := range w.permits {
			if n != 0 {
				t.Fatalf("%d permits of kind %v are lost", n, kind)
			}
		}
		r := w.m.Result()
		if w.m.Trace() != messages.TraceNone && r.LeftBehind == "" {
			t.Fatalf("something is left and the result does not say so: %+v", r)
		}
		if r.Outcome == messages.OutcomeFailed && r.Fault == nil {
			t.Fatalf("failed without a fault: %+v", r)
		}
	})
}

// forward is the event that a state waits for.
func forward(s State, upload bool) Event {
	switch s {
	case New:
		return Begun{}
	case Waiting:
		return DelayOver{}
	case Admitting:
		return Permitted{messages.PermitHandshake}
	case Connecting:
		return Connected{}
	case Probing:
		return Probed{Found: FoundNothing, Upload: upload}
	case MakingDirectory:
		return DirectoryMade{}
	case AwaitingUpload:
		return Permitted{messages.PermitUpload}
	case Copying:
		return Copied{}
	case OpeningTunnel, Rejoining:
		return TunnelOpened{}
	case Starting, Attaching:
		return Attached{}
	case Running, Finishing:
		return PayloadExited{bad}
	case ClosingTunnel:
		return TunnelClosed{}
	case CleaningUp:
		return CleanedUp{}
	default:
		return Disconnected{}
	}
}

// nudge answers what was asked for before a stop, and is still on its way.
func nudge(s State) Event { return forward(s, false) }

func TestAStopWithAWorldThatAnswersLeavesNothing(t *testing.T) {
	for _, s := range States() {
		if s == Done || s == Probing {
			continue // see below
		}
		for _, level := range []messages.StopLevel{messages.StopFinish, messages.StopNow} {
			m := in(t, s)
			for e := range flow(m, Begun{}, Stop{level}) {
				m.Step(e)
			}
			if r := m.Result(); m.State() != Done || m.Trace() != messages.TraceNone || r.LeftBehind != "" {
				t.Errorf("%v, %v: ends in %v with trace %v: %+v", s, level, m.State(), m.Trace(), r)
			}
		}
	}
}

// flow yields events and then what each state waits for, until the machine is done.
func flow(m *Machine, first ...Event) func(func(Event) bool) {
	return func(yield func(Event) bool) {
		for _, e := range first {
			if !yield(e) {
				return
			}
		}
		for range 50 {
			if m.State() == Done || !yield(nudge(m.State())) {
				return
			}
		}
	}
}

func TestWhatWasThereIsSoughtBeforeAStopEnds(t *testing.T) {
	for _, wait := range []bool{false, true} {
		var m Machine
		m.Step(Begun{Wait: wait, Trace: messages.TraceSession, Stop: messages.StopFinish})
		if m.State() == Done {
			t.Error("a stopped host with a session on it does not connect")
		}
		var none Machine
		none.Step(Begun{Wait: wait, Stop: messages.StopFinish})
		if none.State() != Done {
			t.Errorf("a stopped host with nothing on it goes to %v", none.State())
		}
	}
}

func TestResults(t *testing.T) {
	for name, c := range map[string]struct {
		events  []Event
		outcome messages.Outcome
	}{
		"ended well":         {[]Event{PayloadExited{good}}, messages.OutcomeSucceeded},
		"ended badly":        {[]Event{PayloadExited{bad}}, messages.OutcomePayloadFailed},
		"stopped":            {[]Event{Stop{messages.StopFinish}, PayloadExited{bad}}, messages.OutcomeCanceled},
		"converged":          {[]Event{Finish{messages.FinishConverged}, PayloadExited{bad}}, messages.OutcomeSucceeded},
		"time over":          {[]Event{Finish{messages.FinishMaxRuntime}, PayloadExited{bad}}, messages.OutcomeCanceled},
		"stop, then goal":    {[]Event{Stop{messages.StopFinish}, Finish{messages.FinishConverged}, PayloadExited{bad}}, messages.OutcomeCanceled},
		"goal, then stop":    {[]Event{Finish{messages.FinishConverged}, Stop{messages.StopNow}, PayloadExited{bad}}, messages.OutcomeSucceeded},
		"environment":        {[]Event{Failed{full}, PayloadExited{good}}, messages.OutcomeFailed},
		"taken over":         {[]Event{Failed{taken}}, messages.OutcomeTakenOver},
		"failed, then goal":  {[]Event{Failed{full}, Finish{messages.FinishConverged}, PayloadExited{good}}, messages.OutcomeFailed},
		"exit and then stop": {[]Event{PayloadExited{bad}, Stop{messages.StopNow}}, messages.OutcomePayloadFailed},
	} {
		m := in(t, Running)
		for e := range flow(m, c.events...) {
			m.Step(e)
		}
		r := m.Result()
		if r.Outcome != c.outcome || m.State() != Done {
			t.Errorf("%s: %v in %v, want %v", name, r.Outcome, m.State(), c.outcome)
		}
		if name == "time over" && r.Reason == "" {
			t.Errorf("%s: no reason", name)
		}
		if name == "taken over" && (m.Trace() != messages.TraceSession || r.LeftBehind == "") {
			t.Errorf("%s: trace %v", name, m.Trace())
		}
	}
}

func TestStateNames(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range States() {
		if seen[s.String()] || strings.HasPrefix(s.String(), "State(") {
			t.Errorf("state %d is called %v", s, s)
		}
		seen[s.String()] = true
	}
	if State(200).String() != "State(200)" {
		t.Error(State(200))
	}
}

// A run that stays leaves a live session alone whatever its host can't do for us; the next instance tries again. Somebody
// who asked for the end of it, or who took it over, is heard all the same.
func TestStayingLeavesALiveSessionAlone(t *testing.T) {
	for _, s := range []State{Attaching, Rejoining} {
		stay := given(t, s, Begun{Stay: true, Trace: messages.TraceSession})
		if got := stay.Step(Failed{full}); len(got) != 1 || got[0] != (Fail{full}) || stay.State() != s {
			t.Errorf("%v: %v, now %v", s, got, stay.State())
		}
		batch := given(t, s, Begun{Trace: messages.TraceSession})
		if batch.Step(Failed{full}); batch.State() == s {
			t.Errorf("%v: a batch run stays", s)
		}
		taken := given(t, s, Begun{Stay: true, Trace: messages.TraceSession})
		if taken.Step(Failed{fault.New(fault.Canceled, "run", "%w", fault.ErrTakenOver)}); taken.State() != Disconnecting {
			t.Errorf("%v: taken over, and now %v", s, taken.State())
		}
	}
	asked := given(t, Attaching, Begun{Stay: true, Trace: messages.TraceSession})
	asked.Step(Stop{messages.StopFinish})
	if asked.Step(Failed{full}); asked.State() != Disconnecting {
		t.Errorf("asked to stop, and now %v", asked.State())
	}
}
