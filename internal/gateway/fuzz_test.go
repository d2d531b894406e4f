package gateway

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

// FuzzRequests feeds random bytes as requests of every allowed method: nothing panics, and what is allowed touches
// only keys and leases of the host. touches is written without the policy's own functions.
func FuzzRequests(f *testing.F) {
	add := func(m proto.Message) {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		for kind := range fuzzKinds {
			f.Add(kind, data)
		}
	}
	kv := []byte(keys.KV(testRun) + "x")
	op := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: kv, RangeEnd: []byte(keys.RangeEnd(string(kv)))}}}
	add(&pb.RangeRequest{Key: kv, RangeEnd: []byte{0}})
	add(&pb.PutRequest{Key: kv, Value: []byte("v"), Lease: newLeaseSpace(testRun, "a", 0).pick()})
	add(&pb.TxnRequest{Compare: []*pb.Compare{{Key: kv}}, Success: []*pb.RequestOp{op}, Failure: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{op}}}}}})
	add(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: kv}}})
	h := testHost("a")
	f.Fuzz(func(t *testing.T, kind int, data []byte) {
		if kind < 0 || kind >= len(fuzzKinds) {
			return
		}
		req := fuzzKinds[kind].message()
		if proto.Unmarshal(data, req) != nil {
			return
		}
		method := fuzzKinds[kind].method
		var err error
		if check, ok := unaryRules[method]; ok {
			err = check(h, method, req)
		} else {
			g := streamRules[method](h, method)
			var answer any
			if answer, err = g.received(req); answer != nil {
				g.end()
				return // refused
			}
			g.end()
		}
		if err == nil {
			if cost(req) < 0 {
				t.Fatal("a request gives bytes back")
			}
			touches(t, req)
		}
	})
}

var fuzzKinds = []struct {
	method  string
	message func() proto.Message
}{
	{pb.KV_Range_FullMethodName, func() proto.Message { return &pb.RangeRequest{} }},
	{pb.KV_RangeStream_FullMethodName, func() proto.Message { return &pb.RangeRequest{} }},
	{pb.KV_Put_FullMethodName, func() proto.Message { return &pb.PutRequest{} }},
	{pb.KV_DeleteRange_FullMethodName, func() proto.Message { return &pb.DeleteRangeRequest{} }},
	{pb.KV_Txn_FullMethodName, func() proto.Message { return &pb.TxnRequest{} }},
	{pb.Watch_Watch_FullMethodName, func() proto.Message { return &pb.WatchRequest{} }},
	{pb.Lease_LeaseGrant_FullMethodName, func() proto.Message { return &pb.LeaseGrantRequest{} }},
	{pb.Lease_LeaseRevoke_FullMethodName, func() proto.Message { return &pb.LeaseRevokeRequest{} }},
	{pb.Lease_LeaseKeepAlive_FullMethodName, func() proto.Message { return &pb.LeaseKeepAliveRequest{} }},
	{pb.Lease_LeaseTimeToLive_FullMethodName, func() proto.Message { return &pb.LeaseTimeToLiveRequest{} }},
}

// touches fails the test when an allowed request reaches beyond the host.
func touches(t *testing.T, m any) {
	read := func(key, end []byte) { inside(t, key, end, keys.Run(testRun)) }
	write := func(key, end []byte) {
		if string(key) == keys.Quiet(testRun, "a") {
			if len(end) > 0 && string(end) != string(key)+"\x00" {
				t.Fatalf("writes %q to %q", key, end)
			}
			return
		}
		inside(t, key, end, keys.KV(testRun), keys.Exports(testRun, "a"))
	}
	lease := func(id int64) {
		if id <= 0 || leaseSpace(id>>leaseSerialBits) != newLeaseSpace(testRun, "a", 0) {
			t.Fatalf("uses lease %x", id)
		}
	}
	switch r := m.(type) {
	case *pb.RangeRequest:
		read(r.Key, r.RangeEnd)
	case *pb.PutRequest:
		write(r.Key, nil)
		if r.Lease != 0 {
			lease(r.Lease)
		}
	case *pb.DeleteRangeRequest:
		write(r.Key, r.RangeEnd)
	case *pb.TxnRequest:
		for _, c := range r.Compare {
			read(c.Key, c.RangeEnd)
		}
		for _, op := range append(append([]*pb.RequestOp{}, r.Success...), r.Failure...) {
			switch o := op.Request.(type) {
			case *pb.RequestOp_RequestRange:
				touches(t, o.RequestRange)
			case *pb.RequestOp_RequestPut:
				touches(t, o.RequestPut)
			case *pb.RequestOp_RequestDeleteRange:
				touches(t, o.RequestDeleteRange)
			case *pb.RequestOp_RequestTxn:
				touches(t, o.RequestTxn)
			default:
				t.Fatal("an empty operation was allowed")
			}
		}
	case *pb.WatchRequest:
		if c := r.GetCreateRequest(); c != nil {
			read(c.Key, c.RangeEnd)
		}
	case *pb.LeaseGrantRequest:
		if r.ID != 0 {
			t.Fatalf("chose lease %x", r.ID)
		}
	case interface{ GetID() int64 }:
		lease(r.GetID())
	}
}

// inside tests with prefixes what the policy tests with ranges: a range that begins below a prefix stays below it
// when its end begins with the prefix too, or is the first key behind it.
func inside(t *testing.T, key, end []byte, prefixes ...string) {
	for _, p := range prefixes {
		behind := p[:len(p)-1] + "0" // '0' follows '/'
		if strings.HasPrefix(string(key), p) && (len(end) == 0 || strings.HasPrefix(string(end), p) || string(end) == behind) {
			return
		}
	}
	t.Fatalf("touches %q to %q", key, end)
}
