package gateway

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/mgmt-remote/mgmt-remote/internal/store"
)

// Stats are numbers about one host, for people to look at.
type Stats struct {
	Connections int    // open now
	Watches     int    // open now
	Leases      int    // alive now, as far as this gateway has seen
	Requests    uint64 // requests and stream messages so far
	Refused     uint64 // of these, those refused; and connections refused
	Written     uint64 // bytes counted against Limits.WriteBytes so far
	Events      uint64 // changes of keys that its watches were told so far
}

// host is all that the gateway keeps about one host. It lives as long as the gateway, so that a host can't shed its
// limits by reconnecting.
type host struct {
	policy   policy
	limits   Limits
	requests *rate.Limiter
	writes   *rate.Limiter
	leases   leaseBook
	logger   *slog.Logger

	conns, watches            atomic.Int64
	asked, refused, bytesSent atomic.Uint64
	told                      atomic.Uint64
}

func newHost(p policy, l Limits, logger *slog.Logger) *host {
	return &host{
		policy: p, limits: l, logger: logger,
		requests: rate.NewLimiter(rate.Limit(l.Rate), l.Burst),
		writes:   rate.NewLimiter(rate.Limit(l.writeRate()), l.WriteBytes),
	}
}

func (h *host) stats() Stats {
	return Stats{
		Connections: int(h.conns.Load()), Watches: int(h.watches.Load()), Leases: h.leases.count(),
		Requests: h.asked.Load(), Refused: h.refused.Load(), Written: h.bytesSent.Load(), Events: h.told.Load(),
	}
}

// take reserves one of most; whoever got it gives it back with n.Add(-1).
func take(n *atomic.Int64, most int) bool {
	if n.Add(1) <= int64(most) {
		return true
	}
	n.Add(-1)
	return false
}

// admit counts a request and slows down a host that asks too often.
func (h *host) admit(ctx context.Context, method string) error {
	h.asked.Add(1)
	if err := h.requests.Wait(ctx); err != nil {
		return h.exhausted(method, "too many requests: more than %g per second", h.limits.Rate)
	}
	return nil
}

// pay takes the bytes of a write out of the host's allowance.
func (h *host) pay(method string, n int) error {
	if !h.writes.AllowN(time.Now(), n) {
		return h.exhausted(method, "has written too much: more than %d bytes at once or in %v", h.limits.WriteBytes, store.Retention)
	}
	h.bytesSent.Add(uint64(n))
	return nil
}

func (h *host) exhausted(method, format string, args ...any) error {
	return status.Errorf(codes.ResourceExhausted, "%s", status.Convert(h.policy.refuse(method, format, args...)).Message())
}

// note keeps count of refusals and tells the operator about the first; the rest would only be noise.
func (h *host) note(err error) error {
	if err == nil {
		return nil
	}
	level := slog.LevelDebug
	if h.refused.Add(1) == 1 {
		level = slog.LevelWarn
	}
	h.logger.Log(context.Background(), level, "gateway refused", "host", h.policy.host, "error", status.Convert(err).Message())
	return err
}

// hostConn is a connection that knows whose it is.
type hostConn struct {
	net.Conn
	host   *host
	closed sync.Once
	forget func(*hostConn)
}

// Close may be called often, by gRPC and by the gateway.
func (c *hostConn) Close() error {
	c.closed.Do(func() { c.forget(c) })
	return c.Conn.Close()
}

// RemoteAddr carries the identity to gRPC's handlers, which see it as the peer's address.
func (c *hostConn) RemoteAddr() net.Addr { return hostAddr{c.host} }

// LocalAddr is there for gRPC; a channel of SSH may have none.
func (c *hostConn) LocalAddr() net.Addr { return gatewayAddr{} }

type hostAddr struct{ host *host }

func (hostAddr) Network() string  { return "tunnel" }
func (a hostAddr) String() string { return a.host.policy.host }

type gatewayAddr struct{}

func (gatewayAddr) Network() string { return "tunnel" }
func (gatewayAddr) String() string  { return "gateway" }

// hostOf returns whose connection a request came on.
func hostOf(ctx context.Context) (*host, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.Addr.(hostAddr); ok {
			return a.host, nil
		}
	}
	return nil, status.Error(codes.PermissionDenied, "mgmt-remote: the connection belongs to no host")
}
