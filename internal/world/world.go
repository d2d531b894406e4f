// Package world is how the engine, running on a host, tells the rest of the fleet how it stands: through the etcd that
// the shim's endpoint leads to.
//
// So far that is one key, keys.Quiet(run, host): "true" while there is nothing to do, "false" while there is, and no key
// at all when nobody runs. It hangs on a lease, so that a host that dies is noticed. The engine never waits for any of
// this: with the link away it works on, and the key follows when the link is back.
package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

const (
	// TTL is the time to live of the lease, in seconds: how long a host that died may still be called quiet.
	TTL = 10
	// callLimit bounds each request, so that a link that swallows everything is noticed.
	callLimit = 5 * time.Second
	// retryDelay is the pause after a request failed.
	retryDelay = 500 * time.Millisecond
	// closeLimit bounds what Close does over the network.
	closeLimit = 2 * time.Second
	// maxBackoff is the longest pause between two attempts to connect; gRPC's own default is two minutes.
	maxBackoff = 2 * time.Second
)

// The variables in which the shim tells a payload where it is.
const (
	EnvEndpoints = "ETCDCTL_ENDPOINTS"
	EnvRun       = "MGMT_REMOTE_RUN"
	EnvHost      = "MGMT_REMOTE_HOST"
)

// Options of a World.
type Options struct {
	Endpoints []string // as etcd's client takes them; also unix:///path
	Run, Host string   // whose key it is
	Logger    *slog.Logger
}

// FromEnv reads the options from the environment, by way of getenv (os.Getenv). It is false where the shim did not
// start this process; an error says that it did, but incompletely.
func FromEnv(getenv func(string) string) (opts Options, found bool, err error) {
	opts = Options{Run: getenv(EnvRun), Host: getenv(EnvHost)}
	if opts.Run == "" && opts.Host == "" {
		return Options{}, false, nil
	}
	for e := range strings.SplitSeq(getenv(EnvEndpoints), ",") {
		if e = strings.TrimSpace(e); e != "" {
			opts.Endpoints = append(opts.Endpoints, e)
		}
	}
	if err := opts.validate(); err != nil {
		return Options{}, false, err
	}
	return opts, true, nil
}

func (o Options) validate() error {
	for _, need := range []struct {
		name  string
		given bool
	}{{EnvRun, o.Run != ""}, {EnvHost, o.Host != ""}, {EnvEndpoints, len(o.Endpoints) > 0}} {
		if !need.given {
			return fmt.Errorf("%s is not set, although this process belongs to a run", need.name)
		}
	}
	return nil
}

// World keeps one host's quiet key up to date. Its methods are safe for concurrent use.
type World struct {
	client *clientv3.Client
	key    string
	logger *slog.Logger
	cancel context.CancelFunc
	done   chan struct{} // closed when run has ended
	wake   chan struct{} // has an element when want changed

	mu       sync.Mutex
	want     bool
	diverged uint64 // how often there was something to do

	lease clientv3.LeaseID // used by run, and by Close after run has ended
}

// Open starts to keep the key, as "false" until the first Report. It does not wait for a connection. The caller closes
// the World.
func Open(opts Options) (*World, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	connect := grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: callLimit}
	connect.Backoff.MaxDelay = maxBackoff
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   opts.Endpoints,
		Logger:      zap.NewNop(), // its warnings at each lost link would only confuse; run says what matters
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(connect)},
	})
	if err != nil {
		return nil, fmt.Errorf("etcd client for %s: %w", strings.Join(opts.Endpoints, ","), err)
	}
	logger := opts.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(context.Background()))
	w := &World{
		client: client, key: keys.Quiet(opts.Run, opts.Host), logger: logger, cancel: cancel,
		done: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	go w.run(ctx)
	return w, nil
}

// Report says whether there is nothing to do right now. It returns at once. The newest report counts; of the others
// the group hears that there was something to do, if there was, however short: quiet means without a break.
func (w *World) Report(quiet bool) {
	w.mu.Lock()
	w.want = quiet
	if !quiet {
		w.diverged++
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Close removes the key and disconnects. It takes at most about two seconds; if etcd can't be reached, the key goes with
// its lease, and the error says so.
func (w *World) Close() error {
	w.cancel()
	<-w.done
	var err error
	if w.lease != clientv3.NoLease {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		if _, err = w.client.Revoke(ctx, w.lease); errors.Is(err, rpctypes.ErrLeaseNotFound) {
			err = nil
		}
		if err != nil {
			err = fmt.Errorf("remove %s: %w", w.key, err)
		}
	}
	return errors.Join(err, w.client.Close())
}

// run keeps lease and key until ctx ends.
func (w *World) run(ctx context.Context) {
	defer close(w.done)
	for ctx.Err() == nil {
		err := w.hold(ctx)
		if ctx.Err() != nil {
			return
		}
		w.logger.Debug("lost the lease of the quiet key", "key", w.key, "error", err)
		if !pause(ctx) {
			return
		}
	}
}

// hold takes a lease and keeps the key on it until the lease is gone or ctx ends.
func (w *World) hold(ctx context.Context) error {
	if err := w.grant(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the keep-alives
	alive, err := w.client.KeepAlive(ctx, w.lease)
	if err != nil {
		return err
	}
	written := ""     // what the key holds; empty = unknown
	told := uint64(0) // how many of the divergences others know of
	for {
		if want, diverged := w.wanted(written, told); want != written {
			err := w.put(ctx, want)
			switch {
			case err == nil:
				written, told = want, diverged
			case errors.Is(err, rpctypes.ErrLeaseNotFound):
				return err
			default:
				written = "" // it may have arrived all the same
				w.logger.Debug("could not write the quiet key yet", "key", w.key, "error", err)
			}
			if err != nil && !pause(ctx) {
				return ctx.Err()
			}
			if lost(alive) {
				return errLeaseOver
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.wake:
		case _, open := <-alive:
			if !open {
				return errLeaseOver
			}
		}
	}
}

var errLeaseOver = errors.New("the lease ran out")

// lost drains what keep-alives said so far and reports whether they ended.
func lost(alive <-chan *clientv3.LeaseKeepAliveResponse) bool {
	for {
		select {
		case _, open := <-alive:
			if !open {
				return true
			}
		default:
			return false
		}
	}
}

func (w *World) grant(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	w.lease = clientv3.NoLease
	resp, err := w.client.Grant(ctx, TTL)
	if err != nil {
		return err
	}
	w.lease = resp.ID
	return nil
}

func (w *World) put(ctx context.Context, value string) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	_, err := w.client.Put(ctx, w.key, value, clientv3.WithLease(w.lease))
	return err
}

// wanted is what the key should hold next, and how many divergences others know of once it does: one that is over
// already is told all the same.
func (w *World) wanted(written string, told uint64) (value string, diverged uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.diverged != told && written != "false" {
		return "false", w.diverged
	}
	return strconv.FormatBool(w.want), w.diverged
}

// pause waits before another attempt; it is false when ctx ended.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(retryDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
