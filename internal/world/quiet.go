package world

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

// quiet keeps the host's quiet key.
type quiet struct {
	client *clientv3.Client
	key    string
	logger *slog.Logger
	lease  lease
	wake   chan struct{} // has an element when want changed

	mu       sync.Mutex
	want     bool
	diverged uint64 // how often there was something to do
}

func newQuiet(client *clientv3.Client, run, host string, logger *slog.Logger) *quiet {
	key := keys.Quiet(run, host)
	return &quiet{
		client: client, key: key, logger: logger, wake: make(chan struct{}, 1),
		lease: lease{client: client, ttl: TTL, what: key},
	}
}

func (q *quiet) report(quiet bool) {
	q.mu.Lock()
	q.want = quiet
	if !quiet {
		q.diverged++
	}
	q.mu.Unlock()
	signal(q.wake)
}

// run keeps lease and key until ctx ends.
func (q *quiet) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := q.lease.hold(ctx, q.hold)
		if ctx.Err() != nil {
			return
		}
		q.logger.Debug("lost the lease of the quiet key", "key", q.key, "error", err)
		pause(ctx, retryDelay)
	}
}

// hold keeps the key on a lease until that is gone.
func (q *quiet) hold(ctx context.Context, id clientv3.LeaseID) error {
	written := ""     // what the key holds; empty = unknown
	told := uint64(0) // how many of the divergences others know of
	for ctx.Err() == nil {
		want, diverged := q.wanted(written, told)
		if want == written {
			select {
			case <-ctx.Done():
			case <-q.wake:
			}
			continue
		}
		err := once(ctx, func(ctx context.Context) error {
			_, err := q.client.Put(ctx, q.key, want, clientv3.WithLease(id))
			return err
		})
		switch {
		case err == nil:
			written, told = want, diverged
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return err
		default:
			written = "" // it may have arrived all the same
			q.logger.Debug("could not write the quiet key yet", "key", q.key, "error", err)
			pause(ctx, retryDelay)
		}
	}
	return ctx.Err()
}

// wanted is what the key should hold next, and how many divergences others know of once it does: one that is over
// already is told all the same.
func (q *quiet) wanted(written string, told uint64) (value string, diverged uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.diverged != told && written != "false" {
		return "false", q.diverged
	}
	return strconv.FormatBool(q.want), q.diverged
}

// signal makes sure that a channel with room for one element has it.
func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
