package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/actors/converge"
	"github.com/mgmt-remote/mgmt-remote/actors/host"
	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/actors/supervisor"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/control"
	"github.com/mgmt-remote/mgmt-remote/internal/gateway"
	"github.com/mgmt-remote/mgmt-remote/internal/quiet"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Run does the run and returns when every host is done. The end of ctx asks for StopFinish; Stop asks for more. The
// error is about this machine (state directory, etcd); what happened to hosts is in the report. Run is called once: a
// second call is an error.
func (f *Fleet) Run(ctx context.Context) (report Report, err error) {
	f.mu.Lock()
	ran := f.ran
	f.ran = true
	f.mu.Unlock()
	if ran {
		return Report{}, errors.New("a fleet runs once: make another one")
	}
	if f.opts.DryRun {
		return f.dryRun(ctx)
	}
	run, err := f.openRun(ctx)
	if err != nil {
		return Report{}, err
	}
	r := &running{fleet: f, run: run, keep: f.opts.Run != ""}
	defer func() {
		var endErr error
		report.Kept, endErr = r.end(report)
		err = errors.Join(err, endErr)
	}()
	report.Run = run.ID()
	if err := r.open(ctx); err != nil {
		return report, err
	}
	r.listen()
	r.keep = false
	defer r.saveChanges()()
	report, err = r.drive(ctx)
	used := r.gateway.Total()
	report.Etcd = EtcdUse{Requests: used.Requests, Events: used.Events, Written: used.Written}
	return report, err
}

// leaveFor bounds how long another initiator may take to leave.
const leaveFor = time.Minute

// openRun opens the state of a new run, or of the one to continue. An initiator that is to be relieved is asked to leave first;
// its lock says when it has.
func (f *Fleet) openRun(ctx context.Context) (*store.Run, error) {
	o := store.RunOptions{Root: f.opts.StateDir, ID: f.opts.Run, TakeOver: f.opts.TakeOver}
	run, err := store.OpenRun(o)
	if !f.opts.TakeOver || !errors.Is(err, store.ErrLocked) {
		return run, err
	}
	peek, err := store.PeekRun(f.opts.StateDir, f.opts.Run)
	if err != nil {
		return nil, err
	}
	if _, err := control.Ask(ctx, peek.Dir, control.Request{Op: control.OpLeave}); err != nil && !errors.Is(err, control.ErrNobody) {
		return nil, stubborn(peek, err)
	}
	ctx, cancel := context.WithTimeout(ctx, leaveFor)
	defer cancel()
	for {
		run, err := store.OpenRun(o)
		if !errors.Is(err, store.ErrLocked) {
			return run, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, stubborn(peek, ctx.Err())
		}
	}
}

func stubborn(p store.Peek, err error) error {
	return fault.Wrap(fault.Environment, "take the run over", fmt.Errorf("%s does not leave: %w", p.Owner, err)).
		WithRemedy("end that process, which sessions survive, and begin `mgmt-remote resume %s`", p.ID)
}

// running is what exists while a run does. Each part is closed by end, in the opposite order of their beginnings.
type running struct {
	fleet   *Fleet
	run     *store.Run
	etcd    *store.Etcd
	gateway *gateway.Gateway
	outputs *outputs
	results *results
	control *control.Server // nil where it could not be
	digest  *digest         // for those who follow the run
	events  *dispatcher
	system  *actor.ActorSystem    // only where it is our own
	ended   *messages.RunFinished // nil until it has; belongs to the goroutine of events
	crashed chan *fault.Fault     // the supervisor's own failure, if any
	alone   bool                  // each host ends on its own convergence
	keep    bool                  // the state, whatever the report says
}

// guardian ends a supervisor that panics: a new instance would know nothing of its hosts, and nobody would ever hear
// of the end of the run. It implements actor.SupervisorStrategy.
type guardian struct{ crashed chan<- *fault.Fault }

func (g *guardian) HandleFailure(_ *actor.ActorSystem, self actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	g.crashed <- restart.FaultOf(reason) // has room for the only one
	self.StopChildren(child)
}

func (r *running) open(ctx context.Context) (err error) {
	o := r.fleet.opts
	if err := r.remember(); err != nil {
		return err
	}
	if len(o.EtcdEndpoints) > 0 {
		r.etcd, err = store.DialEtcd(ctx, store.DialOptions{Endpoints: o.EtcdEndpoints, TLS: o.EtcdTLS, Logger: o.Logger})
	} else {
		r.etcd, err = store.OpenEtcd(ctx, store.EtcdOptions{Dir: r.run.EtcdDir(), Logger: o.Logger})
	}
	if err != nil {
		return err
	}
	r.gateway, err = gateway.New(gateway.Options{Etcd: r.etcd, Run: r.run.ID(), Mgmt: r.mgmtGateway(), Logger: o.Logger})
	if err != nil {
		return err
	}
	return r.deploy(ctx)
}

// remember reads what earlier initiators left, and writes what the next one would need.
func (r *running) remember() (err error) {
	if r.results, err = openResults(r.run); err != nil {
		return fault.Wrap(fault.Environment, "continue the run", err)
	}
	if r.fleet.opts.Run == "" {
		return r.fleet.saveSpec(r.run)
	}
	kept, err := r.run.Spec()
	if err != nil {
		return err
	}
	before, err := parseSpec(store.Peek{ID: r.run.ID(), Dir: r.run.Dir(), Spec: kept})
	if err != nil {
		return err
	}
	if before.EtcdTLS && r.fleet.opts.EtcdTLS == nil {
		return fault.New(fault.Environment, "continue the run", "its etcd needs TLS, and keys are not kept").
			WithRemedy("give --etcd-cacert, --etcd-cert and --etcd-key again")
	}
	return nil
}

// saveChanges keeps what the run is to do up to date on the disk, several changes at once, until the returned function
// is called.
func (r *running) saveChanges() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-r.fleet.unsaved:
				if err := r.fleet.saveSpec(r.run); err != nil { // the run itself is well
					r.fleet.opts.Logger.Error("a change of the run is not kept: an initiator that continues it would not know", "error", err)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// epochsPerInitiator is more connections than one initiator makes to a host.
const epochsPerInitiator = 1_000_000

// traceOf is what earlier initiators may have left on a host.
func (r *running) traceOf(host string) messages.Trace {
	record, recorded := r.run.Session(host)
	switch {
	case recorded && record.Phase != store.PhaseCleaned:
		return messages.TraceSession
	case !recorded && r.run.Generation() > 1:
		return messages.TraceDirectory // made before anything is recorded
	}
	return messages.TraceNone
}

// drive spawns the actors and waits for the end of the run.
func (r *running) drive(ctx context.Context) (Report, error) {
	f := r.fleet
	finished := make(chan messages.RunFinished, 1)
	r.events = newDispatcher(func(event messages.Event) {
		if e, isEnd := event.(messages.RunFinished); isEnd {
			event = r.results.complete(e)
		}
		if _, isOutput := event.(messages.OutputReceived); !isOutput {
			f.opts.Logger.Debug("event", "type", fmt.Sprintf("%T", event), "event", event)
		}
		r.publish(event)
		f.opts.Observe(event)
		switch e := event.(type) {
		case messages.HostFinished:
			r.results.keep(e.Result)
			r.outputs.done(e.Result.Host)
		case messages.RunFinished:
			r.ended = &e
			finished <- e
		}
	})
	r.outputs = &outputs{run: r.run, events: r.events, open: map[string]*output{}}
	system := f.opts.System
	if system == nil {
		system = newSystem(f.opts.Logger)
		r.system = system
	}
	r.crashed = make(chan *fault.Fault, 1)
	r.start(system)
	defer r.stop(system)
	var broken error
	select {
	case e := <-finished:
		return report(e), nil
	case why := <-r.crashed:
		return r.gone(why)
	case <-ctx.Done():
	case <-r.etcdFailed():
		broken = fault.New(fault.Environment, "etcd", "the embedded etcd ended by itself").
			WithRemedy("look for a full disk below %s", r.run.Dir())
	}
	f.Stop(messages.StopFinish)
	select {
	case e := <-finished:
		return report(e), broken
	case why := <-r.crashed:
		return r.gone(why)
	}
}

// gone is the end of a run whose supervisor failed: nothing is known but what is recorded.
func (r *running) gone(why *fault.Fault) (Report, error) {
	r.keep = true
	return Report{Run: r.run.ID()}, why.WithRemedy("sessions may be left on hosts; they end by themselves after their orphan timeout")
}

func report(e messages.RunFinished) Report {
	return Report{Run: e.Run, Took: e.Took, Converged: e.Converged, TimedOut: e.TimedOut, Exceeded: e.Exceeded, Results: e.Results}
}

// start spawns the supervisor and gives it the hosts that are known by now.
func (r *running) start(system *actor.ActorSystem) {
	f := r.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	names := slices.Sorted(slices.Values(f.order))
	r.events.post(messages.RunStarted{At: now(), Run: r.run.ID(), Hosts: names})
	waves := f.waves()
	if f.opts.DryRun {
		r.tellWaves(waves)
	}
	f.root, f.running = system.Root, r
	props := supervisor.Props(r.supervision(waves)).Configure(actor.WithGuardian(&guardian{r.crashed}))
	f.supervisor = f.root.SpawnPrefix(props, "fleet-"+r.run.ID())
	for _, name := range slices.Concat(waves...) {
		if _, done := r.results.earlier[name]; !done {
			f.root.Send(f.supervisor, messages.AddHost{Host: name, Definition: f.given[name], Trace: r.traceOf(name)})
		}
	}
	if f.pending != messages.StopNone {
		f.root.Send(f.supervisor, messages.StopRun{Level: f.pending})
	}
	if f.paused {
		f.root.Send(f.supervisor, messages.PauseRun{})
	}
	if f.handedOver {
		f.root.Send(f.supervisor, messages.HandOver{})
	}
	f.root.Send(f.supervisor, messages.NoMoreHosts{})
}

func (r *running) supervision(waves [][]string) supervisor.Config {
	o := r.fleet.opts
	o.MaxConnections = r.fleet.limit
	retry := o.RetryFor
	switch {
	case retry == 0:
		retry = DefaultRetryFor
	case retry < 0:
		retry = 0 // for ever, in the policy's words
	}
	policy := restart.Default(retry)
	if o.Stay {
		policy = restart.Stay()
	}
	mode := converge.Group
	if r.alone = o.hostsConvergeAlone(len(r.fleet.order), len(waves)); r.alone {
		mode = converge.Host
	}
	if o.DryRun {
		return supervisor.Config{
			Run: r.run.ID(), Host: r.hostProps, Observe: r.events.post, Policy: policy, MaxConnections: o.MaxConnections,
			MaxHandshakes: o.MaxHandshakes, MaxRuntime: o.MaxRuntime, Patience: o.Patience, Logger: o.Logger,
		}
	}
	return supervisor.Config{
		Run:        r.run.ID(),
		Host:       r.hostProps,
		FirstEpoch: (r.run.Generation() - 1) * epochsPerInitiator,
		Converge: func() *actor.Props {
			return converge.Props(converge.Config{
				Run: r.run.ID(), Mode: mode, Timeout: o.ConvergedTimeout, Logger: o.Logger,
				Store: quiet.Store{Client: r.etcd.Client(), Run: r.run.ID()},
			})
		},
		Observe: r.events.post, Policy: policy, MaxConnections: o.MaxConnections,
		MaxHandshakes: o.MaxHandshakes, MaxUploads: o.MaxUploads, Rollout: r.rollout(waves), StopOnExceeded: o.Rollout.StopOnExceeded,
		MaxRuntime: o.MaxRuntime, Patience: o.Patience, Logger: o.Logger,
	}
}

// hostsConvergeAlone reports whether each of so many hosts in so many waves ends on its own convergence.
func (o Options) hostsConvergeAlone(hosts, waves int) bool {
	apart := waves > 1 || o.MaxConnections > 0 && o.MaxConnections < hosts
	return o.Converge == ConvergeHost || o.Converge == ConvergeAuto && apart
}

func (r *running) hostProps(name string) *actor.Props {
	f := r.fleet
	f.mu.Lock()
	h := f.hosts[name]
	f.mu.Unlock()
	onReboot := lifecycle.RebootFails
	if f.opts.OnReboot == RebootRerun {
		onReboot = lifecycle.RebootReruns
	}
	return host.Props(host.Config{
		Run: r.run.ID(), Host: inventoryHost(h), File: h.file(), Vars: h.Vars, Payload: f.payload, Dialer: f.dialer, Become: h.becomes(), Password: f.become.password(h),
		Gateway: r.gateway, Ledger: r.run, Output: r.outputs.of(name), OnReboot: onReboot, Deadlines: f.opts.Deadlines, DryRun: f.opts.DryRun,
	})
}

// stop ends the supervisor and with it all actors, and waits for that.
func (r *running) stop(system *actor.ActorSystem) {
	f := r.fleet
	f.mu.Lock()
	pid := f.supervisor
	f.supervisor = nil
	f.mu.Unlock()
	// Poisoning can only fail by its own time-out; the actors end with the process then.
	_ = system.Root.StopFuture(pid).Wait()
}

// saveEnd keeps how the run ended for those who ask later.
func (r *running) saveEnd() error {
	if r.ended == nil {
		return nil
	}
	line, err := messages.EncodeEvent(*r.ended)
	if err != nil {
		return err
	}
	return r.run.SaveEnd(line)
}

// end closes what was opened. The state of a run that left nothing anywhere is removed, unless it is to be kept.
func (r *running) end(report Report) (Kept, error) {
	err := r.closeParts()
	left := slices.ContainsFunc(report.Results, func(m messages.Result) bool { return !final(m) })
	switch retry := isForRetry(report); {
	case left || r.keep:
		return KeptForResume, errors.Join(err, r.saveEnd(), r.run.Close())
	case r.fleet.opts.KeepState && retry:
		return KeptForRetry, errors.Join(err, r.saveEnd(), r.run.Close())
	case r.fleet.opts.KeepState:
		return KeptToLookAt, errors.Join(err, r.saveEnd(), r.run.Close())
	case retry:
		return KeptForRetry, errors.Join(err, r.keepForRetry())
	}
	removed := r.run.Remove()
	if errors.Is(removed, store.ErrUnfinished) {
		return KeptForResume, errors.Join(err, removed, r.run.Close()) // what is not forgotten is still to be unlocked
	}
	return KeptNothing, errors.Join(err, removed)
}

// closeParts closes everything but the run's state.
func (r *running) closeParts() error {
	var errs []error
	if r.control != nil {
		errs = append(errs, r.control.Close())
	}
	if r.system != nil {
		r.system.Shutdown()
	}
	if r.events != nil {
		r.events.close()
	}
	if r.outputs != nil {
		errs = append(errs, r.outputs.close())
	}
	if r.results != nil {
		errs = append(errs, r.results.close())
	}
	if r.gateway != nil {
		errs = append(errs, r.gateway.Close())
	}
	if r.etcd != nil {
		errs = append(errs, r.etcd.Close())
	}
	return errors.Join(errs...)
}
