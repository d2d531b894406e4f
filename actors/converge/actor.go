// Package converge is the actor that says when the group, or one host, has converged.
//
// Hosts say "quiet now" in the run's etcd; this actor watches those keys and runs the one clock of the group: when every
// member has been quiet and attached without a break for the whole time, it tells the supervisor. It is also the one
// writer of the run's keys on this side: those below hosts/, the quiet keys of payloads that don't speak etcd, and the
// removal of what a host exported whose payload failed. It never ends anything itself.
package converge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
	"github.com/mgmt-remote/mgmt-remote/internal/quiet"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/internal/worker"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Mode says what converges.
type Mode uint8

const (
	// Group: all members together.
	Group Mode = iota
	// Host: each host on its own, where not all run at the same time.
	Host
)

// Store is what the actor needs of the run's etcd; quiet.Store is one.
type Store interface {
	// Watch tells everything that the quiet keys say, first all of them and then each change, until ctx ends.
	Watch(ctx context.Context, emit func(quiet.Change)) error
	// Revisions returns the revision of a host's quiet key, or where host is "" those of all there are, as the whole etcd
	// cluster sees them now.
	Revisions(ctx context.Context, host string) (map[string]int64, error)
	// Put writes keys; an empty value deletes one.
	Put(ctx context.Context, values map[string]string) error
	// DeletePrefix deletes all keys that begin with a prefix and returns how many there were.
	DeletePrefix(ctx context.Context, prefix string) (int64, error)
}

// Config is what the actor is for.
type Config struct {
	Run     string
	Mode    Mode
	Timeout time.Duration // how long without a break; <= 0: never decide, only watch
	Store   Store
	Logger  *slog.Logger
}

// Props makes the actor's props. A restarted instance has forgotten its members; the supervisor tells them again.
func Props(cfg Config) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return &convergeActor{cfg: cfg} }, actor.WithReceiverMiddleware(restart.Capture))
}

const (
	// retryStore is how long to wait after the store failed. etcd's client retries by itself; this is for what it gives
	// up on.
	retryStore = time.Second
	// confirmLimit is how long the etcd may take to confirm. Its client makes a question wait while the connection is away,
	// and a longer answer would hide that it was.
	confirmLimit = time.Second
	// retryConfirm is how long to wait for a change that is there and was not heard of yet.
	retryConfirm = 100 * time.Millisecond
)

type convergeActor struct {
	cfg     Config
	work    *worker.Group
	clock   clock
	timers  map[string]timer // running clocks by host; "" is the group's
	started uint64           // counts the clocks that were started
	pending batch            // to be written
	writing bool             // one write at a time, so that they stay in order
	doomed  map[string]bool  // hosts whose exports are to go, and may still be there
	away    bool             // the etcd could not be asked; until it can, no clock runs
	told    map[string]bool  // who was told already; convergence is said once
}

type (
	elapsed struct {
		host  string // "" is the group
		clock uint64
	}
	// confirmed is what the etcd has at the end of a clock.
	confirmed struct {
		end       elapsed
		revisions map[string]int64
		err       error
	}
	timer struct {
		clock  uint64
		cancel context.CancelFunc
	}
	// batch is a write: keys and their values, and hosts whose exports are to go.
	batch struct {
		keys   map[string]string
		forget map[string]bool
	}
	// wrote is the end of a write; where it failed, batch is still to be written.
	wrote struct {
		batch   batch
		deleted int64 // exports
		err     error
	}
	watchEnded struct{ err error }
	retryWatch struct{}
	retryWrite struct{}
	askAgain   struct{}
	// answered tells whether the etcd could be asked again.
	answered struct{ err error }
)

func (a *convergeActor) Receive(ctx actor.Context) {
	switch ctx.Message().(type) {
	case *actor.Started:
		a.work = worker.New(ctx)
		a.clock = newClock()
		a.timers, a.pending, a.told, a.doomed = map[string]timer{}, newBatch(), map[string]bool{}, map[string]bool{}
		a.watch()
		return
	case *actor.Restarting, *actor.Stopping:
		a.work.Cancel()
		return
	}
	message, ok := a.work.Take(ctx.Message())
	if !ok {
		return
	}
	switch m := message.(type) {
	case messages.JoinGroup:
		if a.clock.join(m.Host) {
			a.look(m.Host) // one that is not attached yet
		}
	case messages.LeaveGroup:
		if a.clock.leave(m.Host) {
			a.stop(m.Host)
			a.look(m.Host)
		}
	case messages.HostAttached:
		if a.clock.members[m.Host] != m.Epoch {
			a.clock.attach(m.Host, 0) // another connection: there was a break
			a.look(m.Host)
		}
		a.clock.attach(m.Host, m.Epoch)
		a.look(m.Host)
	case messages.HostDetached:
		a.clock.attach(m.Host, 0)
		a.look(m.Host)
	case messages.HostOutdated:
		a.clock.attach(m.Host, 0)
		delete(a.told, "") // what was said before is not true any more, and the supervisor does not take it
		delete(a.told, m.Host)
		a.look(m.Host)
	case quiet.Change:
		if a.clock.say(m.Host, m.Quiet, m.Revision) {
			a.look(m.Host)
			ctx.Send(ctx.Parent(), messages.QuietChanged{Host: m.Host, Quiet: m.Quiet})
		}
	case messages.ReportQuiet:
		a.clock.report(m.Host, m.Quiet)
		a.look(m.Host)
		a.put(keys.Quiet(a.cfg.Run, m.Host), fmt.Sprint(m.Quiet))
	case messages.ReportState:
		a.put(keys.State(a.cfg.Run, m.Host), m.State)
	case messages.ForgetHost:
		a.doomed[m.Host], a.pending.forget[m.Host] = true, true
		a.write()
	case elapsed:
		a.elapsed(m)
	case confirmed:
		a.confirmed(ctx, m)
	case wrote:
		a.wrote(m)
	case retryWrite:
		a.write()
	case watchEnded:
		a.cfg.Logger.Warn("the watch of the quiet keys ended; it begins again", "error", m.err)
		a.unsure()
		a.work.After(retryStore, retryWatch{})
	case retryWatch:
		a.watch()
	case askAgain:
		a.work.Go(func(ctx context.Context) any {
			_, err := a.revisions(ctx, "")
			return answered{err}
		})
	case answered:
		if m.err != nil {
			a.work.After(retryStore, askAgain{})
			return
		}
		a.away = false
		a.lookAtAll()
	case error:
		panic(restart.FaultOf(m))
	}
}

func (a *convergeActor) watch() {
	group, epoch := a.work, a.work.Epoch()
	a.work.Go(func(ctx context.Context) any {
		err := a.cfg.Store.Watch(ctx, func(c quiet.Change) { group.Tell(epoch, c) })
		if ctx.Err() != nil {
			return nil
		}
		return watchEnded{err}
	})
}

// unsure forgets what hosts said: while nothing is watched, nobody would say that it is no longer so. The next watch
// begins with a list.
func (a *convergeActor) unsure() {
	clear(a.clock.quiet)
	a.stopAll()
}

// look starts or stops the clock that the host's change is about.
func (a *convergeActor) look(host string) {
	if a.cfg.Timeout <= 0 {
		return
	}
	who, settled := "", a.clock.settled()
	if a.cfg.Mode == Host {
		who, settled = host, a.clock.settledAt(host)
	}
	if !settled {
		a.stop(who)
		return
	}
	if _, running := a.timers[who]; running || a.told[who] {
		return
	}
	over, cancel := context.WithCancel(a.work.Context())
	a.started++
	end := elapsed{who, a.started}
	a.timers[who] = timer{end.clock, cancel}
	a.work.Go(func(context.Context) any {
		t := time.NewTimer(a.cfg.Timeout)
		defer t.Stop()
		select {
		case <-t.C:
			return end
		case <-over.Done():
			return nil
		}
	})
}

func (a *convergeActor) stop(who string) {
	if t, ok := a.timers[who]; ok {
		t.cancel()
		delete(a.timers, who)
	}
}

func (a *convergeActor) stopAll() {
	for who := range a.timers {
		a.stop(who)
	}
}

// elapsed is the end of a clock. One that was stopped when its message was on the way already is no end. Nothing that
// matters was heard while it ran; now the etcd is asked whether there was nothing to hear.
func (a *convergeActor) elapsed(end elapsed) {
	if a.timers[end.host].clock != end.clock {
		return
	}
	a.work.Go(func(ctx context.Context) any {
		revisions, err := a.revisions(ctx, end.host) // of a large fleet, all for each would be too many
		return confirmed{end, revisions, err}
	})
}

func (a *convergeActor) revisions(ctx context.Context, host string) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, confirmLimit)
	defer cancel()
	return a.cfg.Store.Revisions(ctx, host)
}

// confirmed is the end of a clock, or the beginning of the next one: while the etcd could not be asked, hosts could not
// say anything either, and while something is to be deleted, the others don't know yet that it goes.
func (a *convergeActor) confirmed(ctx actor.Context, m confirmed) {
	who := m.end.host
	if a.timers[who].clock != m.end.clock {
		return
	}
	hosts := []string{who}
	if who == "" {
		hosts = a.clock.hosts()
	}
	switch {
	case m.err != nil:
		a.cfg.Logger.Warn("whether all is quiet can't be confirmed; the time begins anew once it can", "error", m.err)
		a.away = true
		a.stopAll()
		a.work.After(retryStore, askAgain{})
		return
	case len(a.doomed) > 0:
		a.stop(who) // what follows the deletion looks again
		return
	case !a.clock.current(hosts, m.revisions):
		a.work.After(retryConfirm, m.end)
		return
	}
	a.stop(who)
	a.told[who] = true
	if who == "" {
		ctx.Send(ctx.Parent(), messages.GroupConverged{Members: len(hosts), For: a.cfg.Timeout})
	} else {
		ctx.Send(ctx.Parent(), messages.HostConverged{Host: who, For: a.cfg.Timeout})
	}
	for _, host := range hosts {
		a.put(keys.Converged(a.cfg.Run, host), "true")
	}
}

// put queues a key. Later values of the same key replace earlier ones that are not written yet.
func (a *convergeActor) put(key, value string) {
	a.pending.keys[key] = value
	a.write()
}

func newBatch() batch { return batch{keys: map[string]string{}, forget: map[string]bool{}} }

func (a *convergeActor) write() {
	if a.writing || len(a.pending.keys)+len(a.pending.forget) == 0 {
		return
	}
	next := a.pending
	a.pending, a.writing = newBatch(), true
	a.work.Go(func(ctx context.Context) any {
		done := wrote{batch: next, err: a.cfg.Store.Put(ctx, next.keys)}
		for host := range next.forget {
			n, err := a.cfg.Store.DeletePrefix(ctx, keys.Exports(a.cfg.Run, host))
			done.deleted += n
			done.err = errors.Join(done.err, err)
		}
		return done
	})
}

func (a *convergeActor) wrote(m wrote) {
	a.writing = false
	if m.err != nil {
		maps.Copy(m.batch.keys, a.pending.keys) // newer values win
		maps.Copy(m.batch.forget, a.pending.forget)
		a.pending = m.batch
		a.cfg.Logger.Warn("writing the run's keys failed; it is tried again", "error", m.err)
		a.work.After(retryStore, retryWrite{})
	}
	if m.err == nil {
		for host := range m.batch.forget {
			delete(a.doomed, host)
		}
	}
	if len(m.batch.forget) > 0 {
		if m.deleted > 0 {
			// What others may have used is gone, and they still have to say that they have something to do.
			a.stopAll()
		}
		a.lookAtAll()
	}
	if m.err == nil {
		a.write()
	}
}

// lookAtAll starts the clocks that should run and don't.
func (a *convergeActor) lookAtAll() {
	for _, host := range a.clock.hosts() {
		a.look(host)
	}
}
