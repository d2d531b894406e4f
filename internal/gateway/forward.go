package gateway

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// registerForwarders serves an external etcd by passing each request on as it is, one stream for one stream. etcd's own
// grpcproxy does more than is wanted here: it answers from a cache, joins watches, keeps leases alive for a
// while after their owner has gone, doesn't know RangeStream and watch progress, and panics on a watch request without content.
func registerForwarders(s *grpc.Server, conn grpc.ClientConnInterface, l Limits) {
	// A request waits while the connection is being made again: the host's own deadline is the right one.
	opts := []grpc.CallOption{grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(l.ResponseBytes)}
	pb.RegisterKVServer(s, &kvForwarder{to: pb.NewKVClient(conn), opts: opts})
	pb.RegisterWatchServer(s, &watchForwarder{to: pb.NewWatchClient(conn), opts: opts})
	pb.RegisterLeaseServer(s, &leaseForwarder{to: pb.NewLeaseClient(conn), opts: opts})
}

// outgoing makes the context of a forwarded call. Of the host's metadata only etcd's wish for a leader is passed
// on, never a token.
func outgoing(ctx context.Context) context.Context {
	if v := metadata.ValueFromIncomingContext(ctx, rpctypes.MetadataRequireLeaderKey); len(v) > 0 {
		return metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, v[0])
	}
	return ctx
}

type kvForwarder struct {
	pb.UnimplementedKVServer // what the policy refuses anyway
	to                       pb.KVClient
	opts                     []grpc.CallOption
}

func (f *kvForwarder) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return f.to.Range(outgoing(ctx), r, f.opts...)
}

func (f *kvForwarder) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return f.to.Put(outgoing(ctx), r, f.opts...)
}

func (f *kvForwarder) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return f.to.DeleteRange(outgoing(ctx), r, f.opts...)
}

func (f *kvForwarder) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return f.to.Txn(outgoing(ctx), r, f.opts...)
}

func (f *kvForwarder) RangeStream(r *pb.RangeRequest, s grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	from, err := f.to.RangeStream(outgoing(s.Context()), r, f.opts...)
	if err != nil {
		return err
	}
	return copyMessages(s.Send, from.Recv)
}

type leaseForwarder struct {
	pb.UnimplementedLeaseServer
	to   pb.LeaseClient
	opts []grpc.CallOption
}

func (f *leaseForwarder) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return f.to.LeaseGrant(outgoing(ctx), r, f.opts...)
}

func (f *leaseForwarder) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return f.to.LeaseRevoke(outgoing(ctx), r, f.opts...)
}

func (f *leaseForwarder) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return f.to.LeaseTimeToLive(outgoing(ctx), r, f.opts...)
}

func (f *leaseForwarder) LeaseKeepAlive(s grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	ctx, cancel := context.WithCancel(outgoing(s.Context()))
	defer cancel()
	to, err := f.to.LeaseKeepAlive(ctx, f.opts...)
	if err != nil {
		return err
	}
	return exchange(s, to, cancel)
}

type watchForwarder struct {
	pb.UnimplementedWatchServer
	to   pb.WatchClient
	opts []grpc.CallOption
}

func (f *watchForwarder) Watch(s grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]) error {
	ctx, cancel := context.WithCancel(outgoing(s.Context()))
	defer cancel()
	to, err := f.to.Watch(ctx, f.opts...)
	if err != nil {
		return err
	}
	return exchange(s, to, cancel)
}

// exchange passes messages both ways until either side has ended. The host's end ends the stream, as in etcd. cancel
// ends the other stream. The goroutine ends with the host's stream, at the latest when the handler has returned.
func exchange[Req, Res any](s grpc.BidiStreamingServer[Req, Res], to grpc.BidiStreamingClient[Req, Res], cancel func()) error {
	asked := make(chan error, 1)
	go func() {
		asked <- copyMessages(to.Send, s.Recv)
		cancel()
	}()
	err := copyMessages(s.Send, to.Recv)
	select {
	case first := <-asked:
		if !errors.Is(first, io.EOF) { // EOF of a Send means: ask Recv for the reason
			return first
		}
	default:
	}
	return err
}

// copyMessages ends with nil at the source's end.
func copyMessages[M any](send func(*M) error, recv func() (*M, error)) error {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(m); err != nil {
			return err
		}
	}
}
