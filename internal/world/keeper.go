package world

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

const (
	// inFlight is how many keys of offers are written at once. Not in transactions: before 3.6 an etcd did not survive one
	// that puts a key on a lease that is gone.
	inFlight = 16
	// refusedDelay is the pause after the initiator refused to write again what others saw before the lease was lost, as
	// when too much was written.
	refusedDelay = 30 * time.Second
)

// keeper makes etcd hold what the offers say.
type keeper struct {
	client *clientv3.Client
	offers *offers
	lease  lease
	logger *slog.Logger
}

func newKeeper(client *clientv3.Client, o *offers, ttl int64, logger *slog.Logger) *keeper {
	return &keeper{
		client: client, offers: o, logger: logger,
		lease: lease{client: client, ttl: ttl, what: "what this host exports"},
	}
}

// keep works until ctx ends. Without anything to offer it takes no lease.
func (k *keeper) keep(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		if k.offers.needLease() {
			err = k.lease.hold(ctx, k.hold)
		} else if err = k.sweep(ctx); err == nil {
			k.wait(ctx, 0)
		}
		if err != nil && ctx.Err() == nil {
			k.logger.Debug("could not keep what this host exports", "error", err)
			pause(ctx, retryDelay)
		}
	}
}

// hold keeps the offers on a lease until that is gone.
func (k *keeper) hold(ctx context.Context, id clientv3.LeaseID) error {
	for ctx.Err() == nil {
		due := k.offers.due(id, inFlight)
		err := k.write(ctx, due, id)
		if err == nil || refused(err) {
			err = cmp.Or(k.sweep(ctx), err)
		}
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return err
		case err != nil && refused(err):
			k.logger.Warn("the initiator refuses what this host exports", "error", words(err))
			k.wait(ctx, refusedDelay)
		case err != nil:
			k.logger.Debug("could not write what this host exports yet", "error", err)
			pause(ctx, retryDelay)
		case len(due) == 0:
			k.wait(ctx, 0)
		}
	}
	return ctx.Err()
}

// wait until there is something new to do, or for some time; 0 = for ever.
func (k *keeper) wait(ctx context.Context, most time.Duration) {
	var over <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-ctx.Done():
	case <-k.offers.wake:
	case <-over:
	}
}

// write puts offers on a lease. The error is the worst: that the lease is gone, else that the link is away, else a refusal
// of something that nobody waits for.
func (k *keeper) write(ctx context.Context, due map[string]*offer, id clientv3.LeaseID) error {
	var mu sync.Mutex
	var worst error
	each(due, func(key string, it *offer) {
		err := once(ctx, func(ctx context.Context) error {
			_, err := k.client.Put(ctx, key, string(it.data), clientv3.WithLease(id))
			return err
		})
		told := k.offers.settle(key, it, id, err)
		mu.Lock()
		defer mu.Unlock()
		if err != nil && !told && (worst == nil || refused(worst) || errors.Is(err, rpctypes.ErrLeaseNotFound)) {
			worst = err
		}
	})
	return worst
}

// each calls write for all offers, several at once, and returns when all calls have.
func each(list map[string]*offer, write func(string, *offer)) {
	var group errgroup.Group
	group.SetLimit(inFlight)
	for key, it := range list {
		group.Go(func() error { write(key, it); return nil })
	}
	_ = group.Wait() // always nil
}

// sweep removes what is not to be kept.
func (k *keeper) sweep(ctx context.Context) error {
	keep, is := k.offers.sweeping()
	if !is {
		return nil
	}
	err := k.remove(ctx, keep)
	if err != nil {
		k.offers.sweepAgain()
	}
	return err
}

func (k *keeper) remove(ctx context.Context, keep map[string]struct{}) error {
	var found *clientv3.GetResponse
	err := once(ctx, func(ctx context.Context) (err error) {
		found, err = k.client.Get(ctx, keys.Exports(k.offers.run, k.offers.host), clientv3.WithPrefix(), clientv3.WithKeysOnly())
		return err
	})
	if err != nil {
		return err
	}
	for _, kv := range found.Kvs {
		if _, is := keep[string(kv.Key)]; is {
			continue
		}
		err := once(ctx, func(ctx context.Context) error {
			_, err := k.client.Delete(ctx, string(kv.Key))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// leave takes what others see off the lease, so that it stays when that ends. It is called when keep has returned.
func (k *keeper) leave(ctx context.Context) error {
	var mu sync.Mutex
	var failed error
	each(k.offers.visible(), func(key string, it *offer) {
		err := persist(ctx, "keep "+key, func(ctx context.Context) error {
			_, err := k.client.Put(ctx, key, string(it.data))
			return err
		})
		mu.Lock()
		defer mu.Unlock()
		if err != nil && failed == nil {
			failed = fmt.Errorf("what this host exports goes with it: %w", err)
		}
	})
	return failed
}
