package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/become"
	"github.com/mgmt-remote/mgmt-remote/internal/cleanup"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
)

// CleanOptions say what Clean removes.
type CleanOptions struct {
	Live   bool // end sessions that live, too, except those of runs that this machine drives
	Cache  bool // remove the cache of programs where no session of the user is left
	DryRun bool // only say what would be done
}

// Cleaned is what was found and done on a host.
type Cleaned = cleanup.Result

// CleanResult is how the cleaning of one host went.
type CleanResult struct {
	Host    string
	Cleaned Cleaned
	Err     *fault.Fault // nil where the host gave an answer
}

// cleanAtOnce bounds the hosts that are cleaned at the same time, cleanWithin the time of one after it was connected: ending
// what lives takes up to half a minute each.
const (
	cleanAtOnce = 32
	cleanWithin = 5 * time.Minute
)

// Clean removes what dead runs left on the hosts of the options: sessions whose shim is not alive and what their payloads left
// running. Runs that this machine drives at the moment are left alone. The results are in the order of the hosts; an error means
// that nothing was done. Of the options only Hosts (without definitions), SSH, Become, StateDir and Logger count.
func Clean(ctx context.Context, opts Options, what CleanOptions) ([]CleanResult, error) {
	// A command makes the fleet ask for no definitions. Nothing is run.
	f, err := New(Options{Hosts: opts.Hosts, Payload: Payload{Command: []string{"true"}}, SSH: opts.SSH, Become: opts.Become, Logger: opts.Logger})
	if err != nil {
		return nil, err
	}
	runs, err := store.ListRuns(opts.StateDir)
	if err != nil {
		return nil, errors.Join(err, f.Close()) // which runs are driven is not guessed
	}
	var spare []string
	for _, run := range runs {
		if run.Held {
			spare = append(spare, run.ID)
		}
	}
	results := make([]CleanResult, len(opts.Hosts))
	slots := make(chan struct{}, cleanAtOnce)
	var all sync.WaitGroup
	for i, h := range opts.Hosts {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			request := cleanup.Request{Prefix: h.Prefix, Spare: spare, Live: what.Live, Cache: what.Cache, DryRun: what.DryRun}
			results[i].Host = h.Name
			results[i].Cleaned, results[i].Err = f.clean(ctx, f.hosts[h.Name], request)
		})
	}
	all.Wait()
	return results, f.Close()
}

func (f *Fleet) clean(ctx context.Context, h Host, request cleanup.Request) (Cleaned, *fault.Fault) {
	password := f.become.password(h)
	if err := password.Ask(ctx); err != nil {
		return Cleaned{}, fault.Wrap(fault.Denied, "clean", err).WithHost(h.Name)
	}
	conn, err := f.dialer.Dial(ctx, inventoryHost(h))
	if err != nil {
		return Cleaned{}, fault.Wrap(fault.Unreachable, "connect", err).WithHost(h.Name)
	}
	defer conn.Close() //nolint:errcheck // the answer is there, or the connection is what failed
	ctx, cancel := context.WithTimeout(ctx, cleanWithin)
	defer cancel()
	way, err := become.Enter(ctx, conn, become.Options{Host: h.Name, Target: h.becomes(), Password: password})
	if err != nil {
		return Cleaned{}, fault.Wrap(fault.Environment, "clean", err).WithHost(h.Name)
	}
	result, err := cleanup.Run(ctx, way, request)
	if err != nil {
		return Cleaned{}, fault.Wrap(fault.Environment, "clean", err).WithHost(h.Name)
	}
	return result, nil
}
