package fleet

import (
	"context"
	"errors"
	"os"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// dryRun is Run where the hosts are only looked at. The same actors do that, with the same ways to fail and to try again; what they
// need of a run's state is in a directory that goes with them.
func (f *Fleet) dryRun(ctx context.Context) (report Report, err error) {
	if f.opts.Run != "" {
		return report, errors.New("a dry run is of a new run, not of one to continue")
	}
	dir, err := os.MkdirTemp("", "mgmt-remote-")
	if err != nil {
		return report, fault.Wrap(fault.Environment, "look at the hosts", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	run, err := store.OpenRun(store.RunOptions{Root: dir})
	if err != nil {
		return report, err
	}
	r := &running{fleet: f, run: run}
	if r.results, err = openResults(run); err == nil {
		report, err = r.drive(ctx)
	}
	return report, errors.Join(err, r.closeParts(), run.Close())
}

// tellWaves tells which waves there would be.
func (r *running) tellWaves(waves [][]string) {
	if len(waves) < 2 {
		return
	}
	for i, hosts := range waves {
		r.events.post(messages.WaveStarted{At: now(), Wave: i + 1, Waves: len(waves), Hosts: hosts})
	}
}

// etcdFailed is closed when the run's etcd has ended by itself. A dry run has none.
func (r *running) etcdFailed() <-chan struct{} {
	if r.etcd == nil {
		return nil
	}
	return r.etcd.Failed()
}
