// Package world is how the engine, running on a host, stands in touch with the rest of the fleet: through the etcd that
// the shim's endpoint leads to.
//
// A World has three sorts of keys, and internal/keys says what they are called:
//
//   - the host's quiet key: "true" while there is nothing to do, "false" while there is, and no key at all when nobody
//     runs. It hangs on a short lease (TTL), so that a host that dies is noticed soon;
//   - what the host offers to the others. That hangs on a longer lease (ExportsTTL), so that a lost link is no reason
//     for other hosts to remove files. Only what belongs to a payload that finished cleanly stays without a lease;
//   - what all hosts of the run share, the kv keys.
//
// The engine never waits for any of this where it can work on: with the link away the keys follow when it is back.
// What others wrote is passed on as it is; whoever uses it takes it for untrusted.
package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

const (
	// TTL is the time to live of the quiet key's lease, in seconds: how long a host that died may still be called quiet.
	TTL = 10
	// ExportsTTL is that of what a host offers, in seconds: how long the others keep what a dead host exported, and how
	// long a link may be away without anybody noticing.
	ExportsTTL = 60
	// closeLimit bounds what Close does over the network.
	closeLimit = 2 * time.Second
	// finishLimit is closeLimit for a payload that finished cleanly.
	finishLimit = 5 * time.Second
	// maxBackoff is the longest pause between two attempts to connect; gRPC's own default is two minutes.
	maxBackoff = 2 * time.Second
)

// Ending says how a payload came to its end.
type Ending uint8

// The endings.
const (
	// Unfinished: what the host offers goes, with everything else.
	Unfinished Ending = iota
	// Finished: the payload did what it was asked for; what the host offers stays, until another payload of this host
	// takes it over.
	Finished
)

// World is one host's part in a run. Its methods are safe for concurrent use.
type World struct {
	client *clientv3.Client
	run    string
	host   string
	logger *slog.Logger
	quiet  *quiet
	offers *offers
	keeper *keeper
	cancel context.CancelFunc
	group  sync.WaitGroup // those who keep the keys

	closeLimit, finishLimit time.Duration
}

// Open connects and starts to keep the quiet key, as "false" until the first Report. It does not wait for a connection.
// The caller closes the World.
func Open(opts Options) (*World, error) { return start(opts, ExportsTTL) }

func start(opts Options, exportsTTL int64) (*World, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	client, err := connect(opts.Endpoints)
	if err != nil {
		return nil, err
	}
	logger := opts.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &World{
		client: client, run: opts.Run, host: opts.Host, logger: logger, cancel: cancel,
		quiet: newQuiet(client, opts.Run, opts.Host, logger), offers: newOffers(opts.Run, opts.Host),
		closeLimit: closeLimit, finishLimit: finishLimit,
	}
	w.keeper = newKeeper(client, w.offers, exportsTTL, logger)
	ctx = clientv3.WithRequireLeader(ctx)
	w.group.Go(func() { w.quiet.run(ctx) })
	w.group.Go(func() { w.keeper.keep(ctx) })
	return w, nil
}

func connect(endpoints []string) (*clientv3.Client, error) {
	params := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: callLimit}
	params.Backoff.MaxDelay = maxBackoff
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		Logger:      zap.NewNop(), // its warnings at each lost link would only confuse; we say what matters
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(params)},
	})
	if err != nil {
		return nil, fmt.Errorf("etcd client for %s: %w", strings.Join(endpoints, ","), err)
	}
	return client, nil
}

// Host is the name of this host in the run.
func (w *World) Host() string { return w.host }

// Report says whether there is nothing to do right now. It returns at once. The newest report counts; of the others
// the group hears that there was something to do, if there was, however short: quiet means without a break.
func (w *World) Report(quiet bool) { w.quiet.report(quiet) }

// Close removes the quiet key, lets go of what is offered as the ending says, and disconnects. It takes at most about
// two seconds, five for a payload that finished. Where etcd can't be reached, all keys go with their leases, and the
// error says so. Nobody may use the World any more.
func (w *World) Close(ending Ending) error {
	w.cancel()
	w.group.Wait()
	limit := w.closeLimit
	if ending == Finished && w.offers.needLease() {
		limit = w.finishLimit
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var err error
	if ending == Finished {
		err = w.keeper.leave(ctx)
	}
	return errors.Join(err, w.keeper.lease.revoke(ctx), w.quiet.lease.revoke(ctx), w.client.Close())
}
