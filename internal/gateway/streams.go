package gateway

import (
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// guard looks at the messages of one stream.
type guard interface {
	// received decides about a message of the host. An error ends the stream; an answer is sent back and the message
	// dropped; neither lets it pass.
	received(m any) (answer any, err error)
	// sent sees an answer of etcd before it goes to the host.
	sent(m any)
	// end is called once, when the stream has ended.
	end()
}

// guardedStream is a server stream whose messages pass a guard.
type guardedStream struct {
	grpc.ServerStream
	host   *host
	method string
	guard  guard

	send sync.Mutex // gRPC allows one sender at a time, and there are two: the handler and the guard's answers
}

// RecvMsg returns the next message that may pass.
func (s *guardedStream) RecvMsg(m any) error {
	for {
		if err := s.ServerStream.RecvMsg(m); err != nil {
			return err
		}
		if err := s.host.admit(s.Context(), s.method); err != nil {
			return s.host.note(err)
		}
		answer, err := s.guard.received(m)
		if err != nil {
			return s.host.note(err)
		}
		if answer == nil {
			return nil
		}
		if err := s.write(answer); err != nil {
			return err
		}
	}
}

// SendMsg passes on what the handler answers.
func (s *guardedStream) SendMsg(m any) error {
	s.guard.sent(m)
	return s.write(m)
}

func (s *guardedStream) write(m any) error {
	s.send.Lock()
	defer s.send.Unlock()
	return s.ServerStream.SendMsg(m)
}

// rangeGuard is for KV.RangeStream: one request, many answers.
type rangeGuard struct {
	host   *host
	method string
}

func newRangeGuard(h *host, method string) guard { return rangeGuard{h, method} }

func (g rangeGuard) received(m any) (any, error) {
	r, ok := m.(*pb.RangeRequest)
	if !ok {
		return nil, g.host.policy.refuse(g.method, "the request is a %T", m)
	}
	return nil, g.host.policy.rangeKeys(g.method, r)
}

func (rangeGuard) sent(any) {}
func (rangeGuard) end()     {}

// keepAliveGuard is for Lease.LeaseKeepAlive.
type keepAliveGuard struct {
	host   *host
	method string
}

func newKeepAliveGuard(h *host, method string) guard { return keepAliveGuard{h, method} }

func (g keepAliveGuard) received(m any) (any, error) {
	r, ok := m.(*pb.LeaseKeepAliveRequest)
	if !ok {
		return nil, g.host.policy.refuse(g.method, "the request is a %T", m)
	}
	return nil, ownLease(g.host, g.method, r)
}

func (g keepAliveGuard) sent(m any) {
	r, ok := m.(*pb.LeaseKeepAliveResponse)
	switch {
	case !ok:
	case r.GetTTL() > 0:
		// A lease that lives can't be refused here; where the book is full it just isn't counted.
		g.host.leases.add(r.GetID(), seconds(r.GetTTL()), g.host.limits.Leases)
	default:
		g.host.leases.drop(r.GetID())
	}
}

func (keepAliveGuard) end() {}

// watchGuard is for Watch.Watch. It counts the host's watches by etcd's answers: each create gets exactly one
// that says Created, and a watch that has ended one that says Canceled.
type watchGuard struct {
	host   *host
	method string

	mu      sync.Mutex
	pending int            // creates that etcd has not answered
	live    map[int64]bool // watches that etcd has created
	ended   bool
}

func newWatchGuard(h *host, method string) guard {
	return &watchGuard{host: h, method: method, live: map[int64]bool{}}
}

// received answers a create that is refused in the way of etcd, which ends that watch alone: a client has all its
// watches on one stream.
func (g *watchGuard) received(m any) (any, error) {
	r, ok := m.(*pb.WatchRequest)
	if !ok {
		return nil, g.host.policy.refuse(g.method, "the request is a %T", m)
	}
	err := g.host.policy.watch(g.method, r)
	if r.GetCreateRequest() == nil {
		return nil, err
	}
	if err == nil {
		err = g.reserve()
	}
	if err != nil {
		return &pb.WatchResponse{
			Header: &pb.ResponseHeader{}, WatchId: clientv3.InvalidWatchID, Created: true, Canceled: true,
			CancelReason: status.Convert(g.host.note(err)).Message(),
		}, nil
	}
	return nil, nil
}

func (g *watchGuard) reserve() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended { // etcd may read for a moment longer than the stream lives
		return io.EOF
	}
	if !take(&g.host.watches, g.host.limits.Watches) {
		return g.host.exhausted(g.method, "has too many watches: more than %d", g.host.limits.Watches)
	}
	g.pending++
	return nil
}

func (g *watchGuard) sent(m any) {
	r, ok := m.(*pb.WatchResponse)
	if !ok {
		return
	}
	g.host.told.Add(uint64(len(r.GetEvents())))
	if !r.GetCreated() && !r.GetCanceled() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.ended:
	case r.GetCreated() && !r.GetCanceled():
		g.pending--
		g.live[r.GetWatchId()] = true
	case r.GetCreated():
		g.pending--
		g.host.watches.Add(-1)
	case g.live[r.GetWatchId()]:
		delete(g.live, r.GetWatchId())
		g.host.watches.Add(-1)
	}
}

func (g *watchGuard) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.host.watches.Add(-int64(g.pending + len(g.live)))
}
