// Package gateway lets the hosts of a run use its etcd, each within its own bounds.
//
// A host reaches the gateway through a tunnel inside its SSH connection, so the connection itself says who it is:
// hosts hold no credentials, and nothing in a request is believed about identity. On each connection the gateway serves the
// etcd v3 services KV, Watch and Lease with gRPC.
//
// The rule is deny by default, per full method name, unary and stream; a method that a later etcd adds is refused
// until somebody decides about it, and so is a request with a field that this version doesn't know. What is allowed:
//
//   - reading and watching under the run's prefix, /mgmt-remote/<run>/: every range must lie wholly inside, also
//     in each comparison and each branch of a transaction, nested ones too;
//   - writing the host's own keys, exports/<host>/… and quiet/<host>, and the kv/… that all hosts share;
//   - leases, with IDs that the gateway chooses and that carry the host's number: a host can renew, ask about,
//     revoke and attach to keys only its own.
//
// Limits bound what a host can take. The end of a connection ends its watches; leases live until their TTL.
//
// Where a run's payload is mgmt, /_mgmt/ is open to all its hosts and, for the deploy, to the initiator's own mgmt (mgmt.go).
//
// What the package must never do: hand a request to etcd that policy.go has not looked at, trust a name that came
// with a request, or open a listener of its own.
package gateway

import (
	"log/slog"
	"net"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
)

const (
	// bufferSize is gRPC's read and write buffer of a connection; the default of 32 KiB each is what an idle
	// connection would mostly cost. Write buffers are given back while nothing is to be written.
	bufferSize = 4 << 10
	// maxHeaderBytes bounds the headers of a request.
	maxHeaderBytes = 16 << 10
	// greetingTimeout bounds how long a connection may be open without speaking HTTP/2.
	greetingTimeout = 30 * time.Second
	// minPing is how often a client may ping. The default of five minutes ends connections of clients that
	// check on their endpoint every few seconds, as etcd's own can be told to.
	minPing = 500 * time.Millisecond
)

// Options configure a gateway.
type Options struct {
	Etcd   *store.Etcd  // stays the caller's, who closes it after the gateway
	Run    string       // run ID, valid
	Limits Limits       // per host
	Logger *slog.Logger // gets refusals; nil = discarded

	// Mgmt also opens /_mgmt/ to all hosts, for reading and writing, and answers MemberList: needed by the mgmt payload,
	// which thereby trusts every host of the fleet. nil = closed.
	Mgmt *Mgmt
}

// Gateway serves etcd's API to hosts. Its methods may be used by many goroutines.
type Gateway struct {
	options Options
	server  *grpc.Server
	listen  *listener
	served  chan struct{} // closed when the server has ended

	mu     sync.Mutex
	hosts  map[string]*host
	spaces map[leaseSpace]string
	conns  map[*hostConn]struct{} // nil after Close
}

// New makes a gateway. It fails only where options are missing.
func New(o Options) (*Gateway, error) {
	if o.Etcd == nil || o.Run == "" {
		return nil, fault.New(fault.Bug, "start the gateway", "it needs an etcd and a run")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Limits = o.Limits.withDefaults()
	g := &Gateway{
		options: o,
		server:  grpc.NewServer(serverOptions(o.Limits)...),
		listen:  &listener{conns: make(chan net.Conn), done: make(chan struct{})},
		served:  make(chan struct{}),
		hosts:   map[string]*host{},
		spaces:  map[leaseSpace]string{},
		conns:   map[*hostConn]struct{}{},
	}
	if s := o.Etcd.Server(); s != nil {
		pb.RegisterKVServer(g.server, v3rpc.NewQuotaKVServer(s))
		pb.RegisterWatchServer(g.server, v3rpc.NewWatchServer(s))
		pb.RegisterLeaseServer(g.server, v3rpc.NewQuotaLeaseServer(s))
	} else {
		registerForwarders(g.server, o.Etcd.Client().ActiveConnection(), o.Limits)
	}
	if o.Mgmt != nil {
		pb.RegisterClusterServer(g.server, &members{endpoint: o.Mgmt.Endpoint})
	}
	go g.serve()
	return g, nil
}

func serverOptions(l Limits) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(interceptUnary),
		grpc.ChainStreamInterceptor(interceptStream),
		// Services that aren't registered must be refused by the same interceptor, not found missing.
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return status.Error(codes.PermissionDenied, "mgmt-remote: the method is not allowed")
		}),
		grpc.MaxRecvMsgSize(l.RequestBytes),
		grpc.MaxSendMsgSize(l.ResponseBytes),
		grpc.MaxConcurrentStreams(uint32(l.Streams)),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ReadBufferSize(bufferSize),
		grpc.WriteBufferSize(bufferSize),
		grpc.ConnectionTimeout(greetingTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	}
}

func (g *Gateway) serve() {
	defer close(g.served)
	if err := g.server.Serve(g.listen); err != nil {
		g.options.Logger.Error("the gateway stopped serving", "error", err)
	}
}

// Handle serves a connection of a host until either side closes it. It takes ownership and returns at once. The host
// name must be valid and proven by how the connection came in. A connection above the host's limit, or one that
// arrives after Close, is closed.
func (g *Gateway) Handle(hostName string, conn net.Conn) { g.handle(g.host(hostName), conn) }

func (g *Gateway) handle(h *host, conn net.Conn) {
	c := &hostConn{Conn: conn, host: h, forget: g.forget}
	if !take(&h.conns, g.options.Limits.Connections) {
		_ = h.note(h.exhausted("connect", "has too many connections: more than %d", g.options.Limits.Connections))
		_ = conn.Close() // nobody is left who could want its error
		return
	}
	g.mu.Lock()
	open := g.conns != nil
	if open {
		g.conns[c] = struct{}{}
	}
	g.mu.Unlock()
	if !open || !g.listen.offer(c) {
		_ = c.Close()
	}
}

// host returns what is kept about a host, from its first connection on.
func (g *Gateway) host(name string) *host {
	return g.identity(name, func(lease leaseSpace) policy { return newPolicy(g.options.Run, name, lease, g.options.Mgmt != nil) })
}

// identity returns what is kept about whoever has this name, with the policy that it got at first.
func (g *Gateway) identity(name string, rules func(leaseSpace) policy) *host {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h, ok := g.hosts[name]; ok {
		return h
	}
	space := newLeaseSpace(g.options.Run, name, 0)
	for salt := 1; g.spaces[space] != ""; salt++ {
		space = newLeaseSpace(g.options.Run, name, salt)
	}
	g.spaces[space] = name
	h := newHost(rules(space), g.options.Limits, g.options.Logger)
	g.hosts[name] = h
	return h
}

// forget is called by a connection when it closes.
func (g *Gateway) forget(c *hostConn) {
	c.host.conns.Add(-1)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// Stats returns numbers about a host; all zero for one that never connected.
func (g *Gateway) Stats(hostName string) Stats {
	g.mu.Lock()
	h, ok := g.hosts[hostName]
	g.mu.Unlock()
	if !ok {
		return Stats{}
	}
	return h.stats()
}

// Total returns the sums over all hosts.
func (g *Gateway) Total() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	var sum Stats
	for _, h := range g.hosts {
		s := h.stats()
		sum.Connections += s.Connections
		sum.Watches += s.Watches
		sum.Leases += s.Leases
		sum.Requests += s.Requests
		sum.Refused += s.Refused
		sum.Written += s.Written
		sum.Events += s.Events
	}
	return sum
}

// Close closes all connections, ends all requests and returns when no goroutine of the gateway is left. It may be
// called more than once.
func (g *Gateway) Close() error {
	g.mu.Lock()
	open := g.conns
	g.conns = nil
	g.mu.Unlock()
	// Also those that have not greeted yet, for which gRPC would wait until their time is over.
	for c := range open {
		_ = c.Close() // gRPC sees the end of the connection, nobody needs the error
	}
	g.server.Stop()
	<-g.served
	return nil
}

// listener hands connections to gRPC's accept loop.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// offer is false when the listener was closed. The accept loop does nothing but start a goroutine, so it
// doesn't wait for long.
func (l *listener) offer(c net.Conn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.done:
		return false
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return gatewayAddr{} }
