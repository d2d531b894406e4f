package fleet

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/mgmt-remote/mgmt-remote/internal/control"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Follower follows a run that another process of the user drives on this machine.
type Follower struct {
	StateDir string // "" as in Options
	Run      string
	// Observe gets the events, one at a time. It begins with a digest of what was before: the run's beginning, and of each
	// host its state, its payload and its result; what it said before is in the run's directory only.
	Observe func(messages.Event) error
	// Missed is told that the follower was too slow for some events, before Observe gets what came after them.
	Missed func()

	finished map[string]bool // hosts that Observe knows to be done
	behind   bool            // not the first time that we ask
}

// Follow returns nil when the run is over; that was the last event. Where nobody drives the run, or nobody does any more,
// errors.Is(err, ErrNoInitiator); where there is no such run, errors.Is(err, fs.ErrNotExist). It ends with ctx and where Observe
// fails, too. A Follower is used once.
func (w *Follower) Follow(ctx context.Context) error {
	peek, err := store.PeekRun(w.StateDir, w.Run)
	if err != nil {
		return err
	}
	w.finished = map[string]bool{}
	for {
		err := control.Follow(ctx, peek.Dir, w.take)
		switch {
		case errors.Is(err, errOver):
			return nil
		case err != nil:
			return err
		}
		w.behind = true // or the initiator is gone, which the next turn finds out
	}
}

// errOver ends the following: Observe got the last event.
var errOver = errors.New("the run is over")

// take gives one line to the observer. What one knows already is not told again after it fell behind.
func (w *Follower) take(line []byte, past bool) error {
	event, err := messages.DecodeEvent(line)
	if errors.Is(err, messages.ErrUnknownEvent) {
		return nil // the initiator is newer than we are
	}
	if err != nil {
		return err
	}
	switch e := event.(type) {
	case messages.RunStarted:
		if w.behind {
			w.Missed()
		}
	case messages.HostFinished:
		if w.finished[e.Result.Host] {
			return nil
		}
		w.finished[e.Result.Host] = true
		return w.Observe(event)
	case messages.RunFinished:
		if err := w.Observe(event); err != nil {
			return err
		}
		return errOver
	}
	if past && w.behind {
		return nil
	}
	return w.Observe(event)
}

// digest is what somebody is told of a run who begins to follow it late. The control server keeps calls apart.
type digest struct {
	started   messages.RunStarted
	hosts     map[string]*hostDigest
	paused    *messages.RunPaused // nil where it goes on
	wave      *messages.WaveStarted
	exceeded  *messages.RunExceeded
	limited   *messages.ConnectionsLimited
	converged *messages.Converged // of the group
}

// hostDigest has the last event of each type, nil where there was none.
type hostDigest struct{ state, payload, quiet, finished messages.Event }

func (d *digest) note(event messages.Event) {
	switch e := event.(type) {
	case messages.RunStarted:
		d.started = e
	case messages.StateChanged:
		d.host(e.Host).state = e
	case messages.PayloadStarted:
		d.host(e.Host).payload = e
	case messages.PayloadEnded:
		d.host(e.Host).payload = e
	case messages.QuietReported:
		d.host(e.Host).quiet = e
	case messages.HostFinished:
		d.host(e.Result.Host).finished = e
	case messages.WaveStarted:
		d.wave = &e
	case messages.RunExceeded:
		d.exceeded = &e
	case messages.RunPaused:
		d.paused = &e
	case messages.RunContinued:
		d.paused = nil
	case messages.ConnectionsLimited:
		d.limited = &e
	case messages.Converged:
		if e.Host == "" {
			d.converged = &e
		}
	}
}

func (d *digest) host(name string) *hostDigest {
	if d.hosts[name] == nil {
		d.hosts[name] = &hostDigest{}
	}
	return d.hosts[name]
}

// events returns what was before, in an order that could have been.
func (d *digest) events() []messages.Event {
	if d.started.Run == "" {
		return nil
	}
	all := []messages.Event{d.started}
	if d.limited != nil {
		all = append(all, *d.limited)
	}
	if d.wave != nil {
		all = append(all, *d.wave)
	}
	if d.exceeded != nil {
		all = append(all, *d.exceeded)
	}
	if d.paused != nil {
		all = append(all, *d.paused)
	}
	for _, name := range slices.Sorted(maps.Keys(d.hosts)) {
		h := d.hosts[name]
		for _, e := range []messages.Event{h.state, h.payload, h.quiet, h.finished} {
			if e != nil {
				all = append(all, e)
			}
		}
	}
	if d.converged != nil {
		all = append(all, *d.converged)
	}
	return all
}

// listen answers other processes of the user. A run goes on as well without that.
func (r *running) listen() {
	logger := r.fleet.opts.Logger
	r.digest = &digest{hosts: map[string]*hostDigest{}}
	snapshot := func() [][]byte {
		var lines [][]byte
		for _, e := range r.digest.events() {
			line, err := messages.EncodeEvent(e)
			if err != nil {
				logger.Error("those who follow the run miss an event", "error", err)
				continue
			}
			lines = append(lines, line)
		}
		return lines
	}
	server, err := control.Listen(r.run.Dir(), controlled{r.fleet}, snapshot, logger)
	if err != nil {
		logger.Warn("other processes can't follow this run, ask for its status or stop it", "error", err)
		return
	}
	r.control = server
}

// publish tells those who follow the run.
func (r *running) publish(event messages.Event) {
	if r.control != nil {
		r.control.Publish(func() { r.digest.note(event) }, func() ([]byte, error) { return messages.EncodeEvent(event) })
	}
}
