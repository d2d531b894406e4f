package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/control"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Status is how a run stands.
type Status struct {
	Run   string   `json:"run"`
	State RunState `json:"state"`
	Owner string   `json:"owner"` // its initiator, or the last one, for people
	Stop  string   `json:"stop"`  // how hard a stop was asked for: none, finish, now or leave

	Paused         bool `json:"paused"`          // no more hosts begin
	MaxConnections int  `json:"max_connections"` // hosts in work at the same time; 0 = all

	Wave     int    `json:"wave,omitempty"`     // the current one, from 1; 0 where the run has no waves
	Waves    int    `json:"waves,omitempty"`    // how many there are
	Exceeded string `json:"exceeded,omitempty"` // why no more hosts begin, ever

	Hosts []HostStatus `json:"hosts"` // in the order of their names
}

// HostStatus is how a host of a run stands.
type HostStatus struct {
	Host   string           `json:"host"`
	State  string           `json:"state,omitempty"`  // as in the event state_changed; empty where it has not begun
	Result *messages.Result `json:"result,omitempty"` // where it is done
}

// askFor bounds how long the supervisor may take for an answer.
const askFor = 5 * time.Second

// Status returns how the run stands. Before and after Run there is nothing to tell, which is an error.
func (f *Fleet) Status() (Status, error) {
	f.mu.Lock()
	root, supervisor, run := f.root, f.supervisor, f.running
	f.mu.Unlock()
	if supervisor == nil {
		return Status{}, errors.New("the run is not going on")
	}
	answer, err := root.RequestFuture(supervisor, messages.GetStatus{}, askFor).Result()
	if err != nil {
		return Status{}, fmt.Errorf("ask for the status: %w", err)
	}
	now, ok := answer.(messages.Status)
	if !ok {
		return Status{}, fmt.Errorf("ask for the status: the answer is a %T", answer)
	}
	hosts := map[string]HostStatus{}
	for name, state := range now.Hosts {
		hosts[name] = HostStatus{Host: name, State: state}
	}
	results := slices.AppendSeq(now.Results, maps.Values(run.results.earlier))
	for _, r := range results {
		hosts[r.Host] = HostStatus{Host: r.Host, State: hosts[r.Host].State, Result: &r}
	}
	s := Status{Run: run.run.ID(), State: RunLive, Owner: run.run.Owner().String(), Stop: now.Stop.String(), Paused: now.Paused, MaxConnections: now.Limit, Wave: now.Wave, Waves: now.Waves, Exceeded: now.Exceeded, Hosts: []HostStatus{}}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		s.Hosts = append(s.Hosts, hosts[name])
	}
	return s, nil
}

// StatusOf returns how a run of this machine stands, whoever drives it: its initiator is asked, and where there is none,
// the disk. Where there is no such run, errors.Is(err, fs.ErrNotExist).
func StatusOf(ctx context.Context, stateDir, run string) (Status, error) {
	peek, err := store.PeekRun(stateDir, run)
	if err != nil {
		return Status{}, err
	}
	answer, err := control.Ask(ctx, peek.Dir, control.Request{Op: control.OpStatus})
	if err == nil {
		var s Status
		return s, json.Unmarshal(answer, &s)
	}
	if !errors.Is(err, control.ErrNobody) {
		return Status{}, fmt.Errorf("ask %s: %w", peek.Owner, err)
	}
	saved, err := savedRun(peek)
	if err != nil {
		return Status{}, err
	}
	s := Status{Run: run, State: saved.State, Owner: saved.Owner, Stop: messages.StopNone.String(), Hosts: []HostStatus{}}
	for _, name := range saved.Hosts {
		h := HostStatus{Host: name}
		if i := slices.IndexFunc(saved.Results, func(r messages.Result) bool { return r.Host == name }); i >= 0 {
			h.Result = &saved.Results[i]
		}
		s.Hosts = append(s.Hosts, h)
	}
	return s, nil
}

// ErrNoInitiator tells that nobody drives a run.
var ErrNoInitiator = control.ErrNobody

// StopOf asks the initiator of a run of this machine to stop, as Fleet.Stop does. Where nobody drives the run,
// errors.Is(err, ErrNoInitiator).
func StopOf(ctx context.Context, stateDir, run string, level messages.StopLevel) error {
	return ask(ctx, stateDir, run, control.Request{Op: control.OpStop, Level: int(level)})
}

// controlled lets other processes of the user look at the run and stop it. It implements control.Handler.
type controlled struct{ *Fleet }

// Status implements control.Handler.
func (c controlled) Status(context.Context) (json.RawMessage, error) {
	s, err := c.Fleet.Status()
	if err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// Stop implements control.Handler.
func (c controlled) Stop(level int) error {
	if level < int(messages.StopFinish) || level > int(messages.StopLeave) {
		return fmt.Errorf("there is no stop of level %d", level)
	}
	c.Fleet.Stop(messages.StopLevel(level))
	return nil
}

// Retry implements control.Handler.
func (c controlled) Retry(host string) error {
	if host != "" {
		if err := c.has(host); err != nil {
			return err
		}
	}
	c.Fleet.Retry(host)
	return nil
}

// Leave implements control.Handler.
func (c controlled) Leave() error {
	c.HandOver()
	return nil
}

// RetryOf ends the waiting of a host of a run for its next attempt to connect, or of all its hosts where none is named.
// Where nobody drives the run, errors.Is(err, ErrNoInitiator).
func RetryOf(ctx context.Context, stateDir, run, host string) error {
	return ask(ctx, stateDir, run, control.Request{Op: control.OpRetry, Host: host})
}
