// Package supervisor is the actor of a fleet: it holds the wanted hosts against the host actors that there are.
//
// It admits hosts within the bounds that were set, hands out permits for what all hosts share, decides with the restart
// policy what follows a host's failure, makes sure that every stop has an end, and sums up the result. It never touches
// a connection and knows of a host only its name and what the host actor tells.
package supervisor

import (
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/internal/rollout"
	"github.com/mgmt-remote/mgmt-remote/internal/worker"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Patience is how long a stop of each level may take before the next level is asked for. After StopLeave's the host
// actor is ended without a further word to the host.
type Patience struct{ Finish, Now, Leave time.Duration }

// DefaultPatience lets a payload have its own deadlines (SIGINT and SIGTERM, see package host) and a slow link some time.
var DefaultPatience = Patience{Finish: 45 * time.Second, Now: 20 * time.Second, Leave: 5 * time.Second}

// Config is what a supervisor is for.
type Config struct {
	Run string
	// Host makes the props of a host's actor. It is called in the supervisor's turns.
	Host func(name string) *actor.Props
	// Converge makes the props of the converge actor; nil means that nothing watches for convergence.
	Converge func() *actor.Props
	// Observe gets every event, in the supervisor's turns: it must not block.
	Observe func(messages.Event)

	// FirstEpoch is the number of the last connection that an earlier initiator can have made to a host.
	FirstEpoch uint64

	Policy         restart.Policy
	MaxConnections int // hosts at work at the same time; 0 = all
	MaxHandshakes  int // key exchanges in flight; 0 = DefaultHandshakes
	MaxJumping     int // of these through one jump host; 0 = DefaultJumping
	MaxUploads     int // uploads in flight; 0 = DefaultUploads
	Rollout        rollout.Options
	StopOnExceeded bool          // hosts in work end, too, where more failed than the rollout tolerates
	MaxRuntime     time.Duration // of the whole run; 0 = unbounded
	Patience       Patience      // zero = DefaultPatience
	Logger         *slog.Logger
}

// The bounds of what is in flight at the same time where none are set: enough to keep an initiator busy, few enough
// that a fleet that comes back at once is taken in an orderly way.
const (
	DefaultHandshakes = 64
	DefaultJumping    = 8
	DefaultUploads    = 16
)

// Props makes the actor's props.
func Props(cfg Config) *actor.Props {
	if cfg.Patience == (Patience{}) {
		cfg.Patience = DefaultPatience
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxJumping <= 0 {
		cfg.MaxJumping = DefaultJumping
	}
	if cfg.MaxHandshakes <= 0 {
		cfg.MaxHandshakes = DefaultHandshakes
	}
	if cfg.MaxUploads <= 0 {
		cfg.MaxUploads = DefaultUploads
	}
	return actor.PropsFromProducer(func() actor.Actor { return newSupervisor(cfg) }, actor.WithReceiverMiddleware(restart.Capture))
}

type supervisor struct {
	cfg      Config
	root     *actor.RootContext // sends also where no actor.Context is at hand
	self     *actor.PID
	work     *worker.Group
	converge *actor.PID
	hosts    map[string]*host
	byPID    map[string]*host
	queue    queue // wanted, not admitted yet
	active   int
	limit    int  // of active; 0 = none
	paused   bool // nobody begins
	rollout  *rollout.Machine
	waveAt   time.Time // when the current wave started
	exceeded string    // why nobody begins any more
	permits  map[messages.PermitKind]*pool

	began     time.Time
	complete  bool // no more hosts will be added
	finished  bool // RunFinished was published
	stop      messages.StopLevel
	finish    messages.FinishReason
	converged bool
	bugs      *restart.Tracker // of the converge actor
	blind     *fault.Fault     // why there is no converge actor any more
	results   []messages.Result
}

// host is what the supervisor knows of one host.
type host struct {
	name    string
	pid     *actor.PID // nil until admitted, and once its actor is gone
	tracker *restart.Tracker
	epoch   uint64
	attempt int
	began   time.Time
	carry   messages.Carry
	state   string
	skipped bool   // it is stopped only because too many others failed
	held    uint64 // the connection that holds the payload's session; 0: none does
	member  bool   // of the group that converges
	stop    messages.StopLevel
	finish  messages.FinishReason
	ended   bool // PayloadEnded was published
	done    bool

	forgotten bool                  // the converge actor was told to forget it
	failed    *messages.Exit        // the payload ended badly, and nobody had asked it to end
	quiet     *messages.ReportQuiet // what was last reported, of payloads that don't speak etcd; nil = nothing

	definition messages.Definition // the newest
	outdated   bool                // the payload follows an older one
}

type (
	// impatient: a host's stop took longer than its level may.
	impatient struct {
		host  string
		level messages.StopLevel
	}
	runtimeEnd struct{}
	// childFailed: a child waits, suspended, for what is decided about it.
	childFailed struct {
		self  actor.Supervisor
		child *actor.PID
		fault *fault.Fault
	}
)

func newSupervisor(cfg Config) *supervisor {
	return &supervisor{
		cfg: cfg, limit: cfg.MaxConnections, rollout: rollout.NewMachine(cfg.Rollout), hosts: map[string]*host{}, byPID: map[string]*host{}, bugs: restart.NewTracker(restart.Default(0), rand.Float64),
		permits: map[messages.PermitKind]*pool{
			messages.PermitHandshake: newPool(cfg.MaxHandshakes, cfg.MaxJumping),
			messages.PermitUpload:    newPool(cfg.MaxUploads, cfg.MaxUploads),
		},
	}
}

func (s *supervisor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.started(ctx)
		return
	case *actor.Restarting, *actor.Stopping:
		s.work.Cancel()
		s.byPID, s.converge = nil, nil // what fails from here on is not restarted
		return
	case *actor.Terminated:
		s.terminated(ctx, m.Who)
		return
	case messages.GetStatus:
		ctx.Respond(s.status())
		return
	}
	message, ok := s.work.TakeOrFail(ctx.Message())
	if !ok {
		return
	}
	switch m := message.(type) {
	case messages.AddHost:
		s.add(ctx, m)
	case messages.UpdateDefinition:
		s.update(m)
	case messages.RemoveHost:
		s.ask(m.Host, messages.StopFinish)
		s.admit(ctx) // which concludes it where it still waits
		s.maybeFinish()
	case messages.RetryHost:
		s.retry(m.Host)
	case messages.PauseRun:
		s.pause("")
	case messages.ContinueRun:
		s.goOn(ctx)
	case messages.LimitConnections:
		s.limitTo(ctx, m.Limit)
	case messages.NoMoreHosts:
		s.complete = true
		s.maybeFinish()
	case messages.StopRun:
		s.stopRun(ctx, m.Level)
	case messages.HandOver:
		s.handOver(ctx)
	case messages.FinishRun:
		s.finishRun(ctx, m.Reason)
	case waveRested:
		s.roll(rollout.Rested{Wave: m.wave})
	case moved:
		s.admit(ctx)
		s.maybeFinish()
	case runtimeEnd:
		s.finishRun(ctx, messages.FinishMaxRuntime)
	case childFailed:
		s.decide(m)
	case impatient:
		s.impatient(ctx, m)
	case messages.AskPermit:
		s.askPermit(m)
	case messages.ReturnPermit:
		s.returnPermit(m.Kind, m.Host)
	case messages.Carried:
		s.carried(m)
	case noticed:
		s.noticed(m)
	case messages.HostDone:
		s.done(ctx, m.Result)
	case messages.GroupConverged:
		if s.converged || s.outdated() {
			return
		}
		s.converged = true
		s.cfg.Observe(messages.Converged{At: time.Now(), Members: m.Members, For: m.For})
		s.finishRun(ctx, messages.FinishConverged)
	case messages.HostConverged:
		if h := s.hosts[m.Host]; h == nil || h.outdated {
			return
		}
		s.cfg.Observe(messages.Converged{At: time.Now(), Host: m.Host, Members: 1, For: m.For})
		s.finishHost(m.Host, messages.FinishConverged)
	case messages.QuietChanged:
		s.cfg.Observe(messages.QuietReported{At: time.Now(), Host: m.Host, Quiet: m.Quiet})
	case messages.ReportQuiet:
		if h := s.hosts[m.Host]; h != nil && !h.done {
			h.quiet = &m
			s.tellConverge(m)
		}
	case messages.Event:
		s.event(m)
	}
}

func (s *supervisor) started(ctx actor.Context) {
	s.root, s.self, s.work, s.began = ctx.ActorSystem().Root, ctx.Self(), worker.New(ctx), time.Now()
	if s.cfg.Converge != nil {
		s.converge = ctx.Spawn(s.cfg.Converge())
	}
	s.roll(rollout.Start{})
	if s.cfg.MaxRuntime > 0 {
		s.work.After(s.cfg.MaxRuntime, runtimeEnd{})
	}
}

func (s *supervisor) tellConverge(message any) {
	if s.converge != nil {
		s.root.Send(s.converge, message)
	}
}

// event passes on what a host actor observed and takes from it what the supervisor needs itself.
func (s *supervisor) event(event messages.Event) {
	h := s.hosts[hostOf(event)]
	if h == nil || h.done {
		return // HostFinished is a host's last event
	}
	switch m := event.(type) {
	case messages.StateChanged:
		h.state = m.State
		s.tellConverge(messages.ReportState{Host: m.Host, State: m.State})
	case messages.PayloadStarted:
		h.tracker.Well(time.Now())
		// A host that was given up by the others for a while is one of them again.
		if !h.forgotten { // else its session was only found again
			s.join(h)
			h.held = m.Epoch
			s.attach(h)
		}
	case messages.PayloadEnded:
		if h.ended {
			return // a shim repeats it to whoever attaches
		}
		h.ended = true
		if !m.Exit.OK() && h.stop == messages.StopNone {
			h.failed = &m.Exit
			s.forget(h)
		}
	}
	s.cfg.Observe(event)
}

// hostOf names the host of an event that a host actor sends; "" for others.
func hostOf(event messages.Event) string {
	switch m := event.(type) {
	case messages.StateChanged:
		return m.Host
	case messages.StepStarted:
		return m.Host
	case messages.StepDone:
		return m.Host
	case messages.Progressed:
		return m.Host
	case messages.PayloadStarted:
		return m.Host
	case messages.DefinitionUpdated:
		return m.Host
	case messages.DefinitionNotUpdated:
		return m.Host
	case messages.PayloadRestarted:
		return m.Host
	case messages.PayloadRerun:
		return m.Host
	case messages.HostWarned:
		return m.Host
	case messages.HostPlanned:
		return m.Host
	case messages.PayloadEnded:
		return m.Host
	case messages.OutputDropped:
		return m.Host
	}
	return ""
}

func (s *supervisor) add(ctx actor.Context, m messages.AddHost) {
	if _, ok := s.hosts[m.Host]; ok || s.finished {
		return
	}
	h := &host{
		name: m.Host, tracker: restart.NewTracker(s.cfg.Policy, rand.Float64), stop: s.stop, finish: s.finish, definition: m.Definition,
		epoch: s.cfg.FirstEpoch, carry: messages.Carry{Trace: m.Trace},
	}
	s.hosts[h.name] = h
	s.join(h)
	s.roll(rollout.Added{Host: h.name})
	s.enqueue(h)
	s.admit(ctx)
	s.maybeFinish() // a host that comes after a stop is done already
}

// spawn starts a host's actor.
func (s *supervisor) spawn(ctx actor.Context, h *host) {
	pid, err := ctx.SpawnNamed(s.cfg.Host(h.name), "host/"+h.name)
	if err != nil {
		s.conclude(h, failed(fault.Wrap(fault.Bug, "start the host's actor", err)))
		return
	}
	h.pid, h.began = pid, time.Now()
	s.byPID[pid.Id] = h
	s.active++
	ctx.Watch(pid)
	s.begin(h, 0, nil)
	if h.stop != messages.StopNone {
		s.waitFor(h)
	}
}

// retry ends the waiting of one host, or of all.
func (s *supervisor) retry(name string) {
	for _, h := range s.inOrder() {
		if h.pid != nil && !h.done && (name == "" || name == h.name) {
			s.root.Send(h.pid, messages.RetryNow{})
		}
	}
}

// begin sends the first message of every instance, the first like all later ones.
func (s *supervisor) begin(h *host, delay time.Duration, last *fault.Fault) {
	h.epoch++
	h.attempt++
	s.root.Send(h.pid, messages.Begin{
		Epoch: h.epoch, Attempt: h.attempt, Delay: delay, Stop: h.stop, Finish: h.finish, Began: h.began, Last: last, Carry: h.carry,
		Definition: h.definition, Stay: s.cfg.Policy.Slow > 0,
	})
}

// HandleFailure implements actor.SupervisorStrategy; protoactor calls it in the supervisor's own turn. A failure
// overtakes what the child had said before, and that may matter: so it queues up behind it.
func (s *supervisor) HandleFailure(_ *actor.ActorSystem, self actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	s.root.Send(s.self, childFailed{self, child, restart.FaultOf(reason)})
}

// whileStopping bounds the delay of a host that is to end: its session waits for us.
const whileStopping = 2 * time.Second

// decide restarts or stops a child that failed.
func (s *supervisor) decide(m childFailed) {
	self, child, f := m.self, m.child, m.fault
	h := s.byPID[child.Id]
	if h == nil || h.done {
		if s.converge != nil && child.Equal(s.converge) {
			s.convergeFailed(self, child, f)
			return
		}
		self.StopChildren(child)
		return
	}
	now := time.Now()
	d := h.tracker.Failed(f.Kind, now)
	if h.stop != messages.StopNone {
		d.Delay = min(d.Delay, whileStopping)
	}
	s.cfg.Observe(messages.HostTroubled{
		At: now, Host: h.name, Epoch: h.epoch, Attempt: h.attempt, Kind: f.Kind, Reason: bare(f).Error(), Retry: d.Restart, RetryIn: d.Delay,
	})
	s.dropPermits(h.name)
	h.held = 0
	s.tellConverge(messages.HostDetached{Host: h.name})
	if !d.Restart {
		self.StopChildren(child)
		s.conclude(h, s.givenUp(h, f, d.Why))
		return
	}
	if f.Kind == fault.Unreachable {
		// The others don't wait for it; it joins again when its payload runs.
		s.leave(h)
	}
	self.RestartChildren(child)
	s.begin(h, d.Delay, f)
}

// convergeFailed restarts the converge actor and tells it its members again. One that fails again and again is given
// up: hosts are cared for all the same, but nothing says any more when they have converged.
func (s *supervisor) convergeFailed(self actor.Supervisor, child *actor.PID, f *fault.Fault) {
	if d := s.bugs.Failed(fault.Bug, time.Now()); !d.Restart {
		s.cfg.Logger.Error("the converge actor is given up; the run ends", "error", f, "why", d.Why)
		s.converge, s.blind = nil, f
		self.StopChildren(child)
		s.root.Send(s.self, messages.StopRun{Level: messages.StopFinish})
		return
	}
	s.cfg.Logger.Error("the converge actor failed and is restarted", "error", f)
	self.RestartChildren(child)
	for _, h := range s.hosts {
		if h.forgotten {
			s.root.Send(child, messages.ForgetHost{Host: h.name})
		} else if !h.done {
			if h.member {
				s.join(h)
			}
			if h.quiet != nil {
				s.root.Send(child, *h.quiet)
			}
			s.attach(h)
		}
	}
}
