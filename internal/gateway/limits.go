package gateway

import (
	"cmp"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/mgmt-remote/mgmt-remote/internal/store"
)

// Limits bound what one host can take from the initiator. A zero field means its default.
type Limits struct {
	Connections   int     // open at once; default 16
	Streams       int     // requests and streams in flight on one connection; default 256
	Watches       int     // open at once, over all connections; default 256
	Leases        int     // alive at once; default 64
	Rate          float64 // requests and stream messages per second, in the long run; default 500. More is slowed down, not refused
	Burst         int     // requests and stream messages at once; default 1000
	RequestBytes  int     // size of one request; default 1.5 MiB, etcd's own
	ResponseBytes int     // size of one response; default 16 MiB

	// WriteBytes bounds what a host can add to etcd: that much at once, and in the long run that much per
	// store.Retention, after which etcd forgets overwritten values. It counts the bytes of keys and values in
	// requests that were let through, both branches of a transaction, plus a flat amount for each operation; it
	// does not look at what is still stored. Default 64 MiB. More is refused.
	WriteBytes int
}

// opBytes is what an operation costs in etcd besides its key and value: the revision, the key's index entry.
const opBytes = 128

func (l Limits) withDefaults() Limits {
	return Limits{
		Connections:   cmp.Or(l.Connections, 16),
		Streams:       cmp.Or(l.Streams, 256),
		Watches:       cmp.Or(l.Watches, 256),
		Leases:        cmp.Or(l.Leases, 64),
		Rate:          cmp.Or(l.Rate, 500),
		Burst:         cmp.Or(l.Burst, 1000),
		RequestBytes:  cmp.Or(l.RequestBytes, 3<<19),
		ResponseBytes: cmp.Or(l.ResponseBytes, 16<<20),
		WriteBytes:    cmp.Or(l.WriteBytes, 64<<20),
	}
}

// writeRate is the refill of WriteBytes, in bytes per second.
func (l Limits) writeRate() float64 { return float64(l.WriteBytes) / store.Retention.Seconds() }

// cost returns how many bytes a request can add to etcd.
func cost(req any) (n int) {
	switch r := req.(type) {
	case *pb.PutRequest:
		n = opBytes + len(r.GetKey()) + len(r.GetValue())
	case *pb.DeleteRangeRequest:
		n = opBytes + len(r.GetKey())
	case *pb.LeaseGrantRequest:
		n = opBytes
	case *pb.TxnRequest:
		for _, branch := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
			for _, op := range branch {
				switch o := op.GetRequest().(type) {
				case *pb.RequestOp_RequestPut:
					n += cost(o.RequestPut)
				case *pb.RequestOp_RequestDeleteRange:
					n += cost(o.RequestDeleteRange)
				case *pb.RequestOp_RequestTxn:
					n += cost(o.RequestTxn)
				}
			}
		}
	}
	return n
}
