package store

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

const (
	// DefaultQuota bounds the size of the embedded etcd's data file, in bytes.
	DefaultQuota = 2 << 30
	// Retention is how long the embedded etcd keeps the history of keys. A watcher that was away for longer has
	// to list again (etcd answers ErrCompacted).
	Retention = time.Hour

	// maxBackoff bounds how long our etcd clients wait between two attempts to connect. gRPC's default of two
	// minutes would make every outage of a tunnel or an etcd feel that long.
	maxBackoff = 2 * time.Second
	// dialTimeout bounds the first question to an external etcd where the caller's context has no deadline.
	dialTimeout = 10 * time.Second

	// The embedded etcd is the only member of its cluster, so an election is a formality: it takes between one
	// and two election timeouts, and etcd demands at least five ticks per timeout. Short ticks make the start short.
	tickMs     = 20
	electionMs = 5 * tickMs
)

// Etcd is the etcd of a run: embedded in this process, or somebody else's. All methods may be used by many goroutines.
type Etcd struct {
	embedded *embed.Etcd // nil where the etcd is external
	client   *clientv3.Client
}

// EtcdOptions configure an embedded etcd.
type EtcdOptions struct {
	Dir    string       // for the data; made with mode 0700; its parent must exist
	Quota  int64        // bytes of the data file; 0 = DefaultQuota
	Logger *slog.Logger // gets etcd's errors; nil = discarded
}

// DialOptions say where an external etcd is.
type DialOptions struct {
	Endpoints []string     // URLs as etcdctl takes them; at least one
	TLS       *tls.Config  // nil = no TLS
	Logger    *slog.Logger // gets the client's errors; nil = discarded
}

// OpenEtcd starts the embedded etcd and returns when it can serve. It has no listener at all, neither TCP nor unix:
// this process talks to it through Client, hosts through the gateway. It continues with the data it finds in Dir.
// The caller closes it. Errors are faults of kind Environment, or Canceled.
func OpenEtcd(ctx context.Context, o EtcdOptions) (*Etcd, error) {
	const op = "start etcd"
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fault.Wrap(fault.Environment, op, err)
	}
	// The directory may be older than us, made under another umask.
	if err := os.Chmod(o.Dir, 0o700); err != nil {
		return nil, fault.Wrap(fault.Environment, op, err)
	}
	server, err := embed.StartEtcd(embedConfig(o))
	if err != nil {
		return nil, fault.Wrap(fault.Environment, op, err).WithRemedy("look into %s", o.Dir)
	}
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		server.Close()
		return nil, fault.Wrap(fault.Environment, op, err)
	case <-server.Server.StopNotify():
		server.Close()
		return nil, fault.New(fault.Environment, op, "etcd stopped while starting").WithRemedy("look into %s", o.Dir)
	case <-ctx.Done():
		server.Close()
		return nil, fault.Wrap(fault.Environment, op, ctx.Err())
	}
	return &Etcd{embedded: server, client: v3client.New(server.Server)}, nil
}

func embedConfig(o EtcdOptions) *embed.Config {
	c := embed.NewConfig()
	c.Name = "mgmt-remote"
	c.Dir = o.Dir
	// No listeners. A unix peer URL would silently become an abstract socket, which every local user can reach.
	c.ListenPeerUrls, c.ListenClientUrls, c.ListenClientHttpUrls, c.ListenMetricsUrls = nil, nil, nil, nil
	// etcd wants a name for the only member's peer side; nobody listens there and nobody dials it.
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:2380"}}
	c.AdvertiseClientUrls = nil
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs, c.ElectionMs = tickMs, electionMs
	c.QuotaBackendBytes = o.Quota
	if o.Quota == 0 {
		c.QuotaBackendBytes = DefaultQuota
	}
	c.AutoCompactionMode = embed.CompactorModePeriodic
	c.AutoCompactionRetention = Retention.String()
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(o.Logger))
	return c
}

// DialEtcd connects to an external etcd and asks it for one key, so that a wrong address is an error now and not
// a hang later. The caller closes it. Errors are faults of kind Unreachable or Canceled; a later loss of the
// connection is healed by the client itself, with at most two seconds between attempts.
func DialEtcd(ctx context.Context, o DialOptions) (*Etcd, error) {
	const op = "connect to etcd"
	if len(o.Endpoints) == 0 {
		return nil, fault.New(fault.Environment, op, "no endpoint given")
	}
	delays := backoff.DefaultConfig
	delays.BaseDelay, delays.MaxDelay = 100*time.Millisecond, maxBackoff
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   o.Endpoints,
		TLS:         o.TLS,
		Logger:      zapLogger(o.Logger),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: delays, MinConnectTimeout: 5 * time.Second})},
	})
	if err != nil {
		return nil, fault.Wrap(fault.Environment, op, err)
	}
	ask, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if _, err := client.Get(ask, keys.Root, clientv3.WithCountOnly()); err != nil {
		f := fault.Wrap(fault.Unreachable, op, err).WithRemedy("check the endpoints %v and the TLS options", o.Endpoints)
		if errors.Is(ctx.Err(), context.Canceled) {
			f = fault.Wrap(fault.Canceled, op, ctx.Err())
		}
		return nil, errors.Join(f, client.Close())
	}
	return &Etcd{client: client}, nil
}

// Server returns the embedded etcd's server, for those who serve its API. It is nil where the etcd is external.
func (e *Etcd) Server() *etcdserver.EtcdServer {
	if e.embedded == nil {
		return nil
	}
	return e.embedded.Server
}

// Client returns the one client that everybody in this process shares. For an embedded etcd its calls are function
// calls: no socket, no gRPC. It belongs to e: never close it.
func (e *Etcd) Client() *clientv3.Client { return e.client }

// Failed returns a channel that is closed when an embedded etcd has stopped by itself (disk full, disk error) or
// was closed. It is nil, and so never ready, where the etcd is external.
func (e *Etcd) Failed() <-chan struct{} {
	if e.embedded == nil {
		return nil
	}
	return e.embedded.Server.StopNotify()
}

// Close ends the client and, where it is ours, the server; it returns when their goroutines have ended. Close it
// after the gateway. It must be called once.
func (e *Etcd) Close() error {
	err := e.client.Close()
	if e.embedded == nil {
		return err
	}
	// An in-process client has no connection to close and always reports its own cancelation.
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	e.embedded.Close()
	return err
}
