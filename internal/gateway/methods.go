package gateway

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// unaryRules are the unary methods that are allowed at all, each with what it takes. Whatever is not here is refused:
// Compact and LeaseLeases, and the services Cluster (but for MemberList), Maintenance, Auth and all others.
var unaryRules = map[string]func(*host, string, any) error{
	pb.KV_Range_FullMethodName:       rule(func(h *host, m string, r *pb.RangeRequest) error { return h.policy.rangeKeys(m, r) }),
	pb.KV_Put_FullMethodName:         rule(func(h *host, m string, r *pb.PutRequest) error { return h.policy.put(m, r) }),
	pb.KV_DeleteRange_FullMethodName: rule(func(h *host, m string, r *pb.DeleteRangeRequest) error { return h.policy.deleteRange(m, r) }),
	pb.KV_Txn_FullMethodName:         rule(func(h *host, m string, r *pb.TxnRequest) error { return h.policy.txn(m, r, 1) }),
	pb.Lease_LeaseGrant_FullMethodName: rule(func(h *host, m string, r *pb.LeaseGrantRequest) error {
		return h.policy.leaseGrant(m, r)
	}),
	pb.Lease_LeaseRevoke_FullMethodName: rule(func(h *host, m string, r *pb.LeaseRevokeRequest) error {
		return ownLease(h, m, r)
	}),
	pb.Lease_LeaseTimeToLive_FullMethodName: rule(func(h *host, m string, r *pb.LeaseTimeToLiveRequest) error {
		return ownLease(h, m, r)
	}),
	pb.Cluster_MemberList_FullMethodName: rule(func(h *host, m string, r *pb.MemberListRequest) error { return h.policy.memberList(m, r) }),
}

// streamRules are the streaming methods that are allowed at all, each with a guard for the messages of one stream.
var streamRules = map[string]func(*host, string) guard{
	pb.KV_RangeStream_FullMethodName:       newRangeGuard,
	pb.Watch_Watch_FullMethodName:          newWatchGuard,
	pb.Lease_LeaseKeepAlive_FullMethodName: newKeepAliveGuard,
}

// rule makes a rule for any request of one for its type; a request of another type is refused.
func rule[T proto.Message](check func(*host, string, T) error) func(*host, string, any) error {
	return func(h *host, method string, req any) error {
		r, ok := req.(T)
		if !ok {
			return h.policy.refuse(method, "the request is a %T", req)
		}
		return check(h, method, r)
	}
}

func ownLease[T interface {
	proto.Message
	GetID() int64
}](h *host, method string, r T) error {
	if err := h.policy.whole(method, r); err != nil {
		return err
	}
	return h.policy.mayUse(method, r.GetID())
}

// interceptUnary stands in front of every unary method of the server.
func interceptUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	h, err := hostOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.allow(ctx, info.FullMethod, req); err != nil {
		return nil, h.note(err)
	}
	switch r := req.(type) {
	case *pb.LeaseGrantRequest:
		return h.grant(ctx, info.FullMethod, r, handler)
	case *pb.LeaseRevokeRequest:
		resp, err := handler(ctx, req)
		if err == nil {
			h.leases.drop(r.GetID())
		}
		return resp, err
	default:
		return handler(ctx, req)
	}
}

// allow decides about one unary request: the rate, the rules, the bytes.
func (h *host) allow(ctx context.Context, method string, req any) error {
	if err := h.admit(ctx, method); err != nil {
		return err
	}
	check, ok := unaryRules[method]
	if !ok {
		return h.policy.refuse(method, "the method is not allowed")
	}
	if err := check(h, method, req); err != nil {
		return err
	}
	if n := cost(req); n > 0 {
		return h.pay(method, n)
	}
	return nil
}

// grant gives a lease one of the host's IDs. A restarted initiator doesn't know which of them are in use, so it tries.
func (h *host) grant(ctx context.Context, method string, r *pb.LeaseGrantRequest, handler grpc.UnaryHandler) (any, error) {
	const attempts = 8
	var err error
	for range attempts {
		r.ID = h.policy.lease.pick()
		if !h.leases.add(r.ID, seconds(r.GetTTL()), h.limits.Leases) {
			return nil, h.note(h.exhausted(method, "has too many leases: more than %d", h.limits.Leases))
		}
		var resp any
		if resp, err = handler(ctx, r); err == nil {
			return resp, nil
		}
		if !errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseExist) {
			h.leases.drop(r.ID)
			return nil, err
		}
		// It lives and is ours: it stays in the book.
	}
	return nil, err
}

// interceptStream stands in front of every streaming method, and of every method that the server doesn't have.
func interceptStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	h, err := hostOf(stream.Context())
	if err != nil {
		return err
	}
	newGuard, ok := streamRules[info.FullMethod]
	if !ok {
		if err := h.admit(stream.Context(), info.FullMethod); err != nil {
			return h.note(err)
		}
		return h.note(h.policy.refuse(info.FullMethod, "the method is not allowed"))
	}
	g := &guardedStream{ServerStream: stream, host: h, method: info.FullMethod, guard: newGuard(h, info.FullMethod)}
	defer g.guard.end()
	return handler(srv, g)
}
