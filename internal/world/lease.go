package world

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var errLeaseOver = errors.New("the lease ran out")

// lease takes leases of one length, one after the other. One goroutine uses it at a time.
type lease struct {
	client *clientv3.Client
	ttl    int64  // seconds
	what   string // hangs on it
	id     clientv3.LeaseID
}

// hold takes a lease and calls work with its ID; the work's ctx ends with the lease, or with ctx. Nobody keeps the lease
// alive after that.
func (l *lease) hold(ctx context.Context, work func(context.Context, clientv3.LeaseID) error) error {
	l.id = clientv3.NoLease
	err := once(ctx, func(ctx context.Context) error {
		resp, err := l.client.Grant(ctx, l.ttl)
		if err == nil {
			l.id = resp.ID
		}
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	alive, err := l.client.KeepAlive(ctx, l.id)
	if err != nil {
		cancel(nil)
		return err
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel(nil)
	group.Go(func() {
		for range alive { // ends when the lease is gone, or was not renewed in time, or with ctx
			continue
		}
		cancel(errLeaseOver)
	})
	err = work(ctx, l.id)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// revoke ends the newest lease, and what hangs on it. The error says that it could not.
func (l *lease) revoke(ctx context.Context) error {
	if l.id == clientv3.NoLease {
		return nil
	}
	if _, err := l.client.Revoke(ctx, l.id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("remove %s: %w (the initiator's etcd does it in at most %d seconds)", l.what, err, l.ttl)
	}
	return nil
}
