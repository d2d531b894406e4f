package gateway

import (
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

// maxTxnDepth bounds how deep transactions may be nested. Nobody needs more than two; without a bound a request of
// allowed size could nest thousands.
const maxTxnDepth = 8

// span is a range of keys: from low on, up to but without high.
type span struct{ low, high string }

func prefixSpan(prefix string) span { return span{prefix, keys.RangeEnd(prefix)} }
func keySpan(key string) span       { return span{key, key + "\x00"} }

// policy decides what one host may do. It is a pure function of the request and never changes.
type policy struct {
	host  string
	read  []span
	write []span // each lies within a span of read, so a write may also ask for the previous value
	lease leaseSpace
	// members allows to ask for the cluster's members.
	members bool
}

func newPolicy(run, host string, lease leaseSpace, mgmt bool) policy {
	p := policy{
		host:  host,
		read:  []span{prefixSpan(keys.Run(run))},
		write: []span{prefixSpan(keys.Exports(run, host)), keySpan(keys.Quiet(run, host)), prefixSpan(keys.KV(run))},
		lease: lease,
	}
	if mgmt {
		p.read = append(p.read, prefixSpan(keys.Mgmt))
		p.write = append(p.write, prefixSpan(keys.Mgmt))
		p.members = true
	}
	return p
}

// within tells whether a range, given as etcd's key and range_end, has at least one key and lies wholly inside one
// of the spans. The words of etcd for a range (rpc.proto): no end is that key alone; the end "\x00" is everything
// from the key on; the end belongs to the range no more.
func within(spans []span, key, end []byte) bool {
	low, high := string(key), string(end)
	switch high {
	case "":
		high = low + "\x00"
	case "\x00":
		return false // has no upper bound, so it leaves every span
	}
	if low == "" || high <= low {
		return false // for etcd an empty key is an error or "the first of all", and an empty range has no use
	}
	for _, s := range spans {
		if s.low <= low && high <= s.high {
			return true
		}
	}
	return false
}

func (p *policy) mayRead(method string, key, end []byte) error {
	if within(p.read, key, end) {
		return nil
	}
	return p.refuse(method, "may not read %s", rangeText(key, end))
}

func (p *policy) mayWrite(method string, key, end []byte) error {
	if within(p.write, key, end) {
		return nil
	}
	return p.refuse(method, "may not write %s", rangeText(key, end))
}

// mayUse allows a lease of the host's own, or none.
func (p *policy) mayUse(method string, id int64) error {
	if p.lease.owns(id) {
		return nil
	}
	return p.refuse(method, "lease %x is not its own", id)
}

// whole refuses fields that this version doesn't know. Nothing can be said about what a newer etcd would make of
// them, and to an external etcd they would be passed on.
func (p *policy) whole(method string, messages ...proto.Message) error {
	for _, m := range messages {
		if len(m.ProtoReflect().GetUnknown()) > 0 {
			return p.refuse(method, "the %s has a field that this version doesn't know", m.ProtoReflect().Descriptor().Name())
		}
	}
	return nil
}

func (p *policy) rangeKeys(method string, r *pb.RangeRequest) error {
	if err := p.whole(method, r); err != nil {
		return err
	}
	return p.mayRead(method, r.GetKey(), r.GetRangeEnd())
}

func (p *policy) put(method string, r *pb.PutRequest) error {
	if err := p.whole(method, r); err != nil {
		return err
	}
	if err := p.mayWrite(method, r.GetKey(), nil); err != nil {
		return err
	}
	if r.GetLease() == 0 {
		return nil
	}
	return p.mayUse(method, r.GetLease())
}

func (p *policy) deleteRange(method string, r *pb.DeleteRangeRequest) error {
	if err := p.whole(method, r); err != nil {
		return err
	}
	return p.mayWrite(method, r.GetKey(), r.GetRangeEnd())
}

// txn looks at every comparison and at both branches: the host learns which one was taken, and chooses it.
func (p *policy) txn(method string, r *pb.TxnRequest, depth int) error {
	if depth > maxTxnDepth {
		return p.refuse(method, "transactions are nested deeper than %d", maxTxnDepth)
	}
	if err := p.whole(method, r); err != nil {
		return err
	}
	for _, c := range r.GetCompare() {
		if err := p.whole(method, c); err != nil {
			return err
		}
		if err := p.mayRead(method, c.GetKey(), c.GetRangeEnd()); err != nil {
			return err
		}
	}
	for _, branch := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range branch {
			if err := p.op(method, op, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *policy) op(method string, op *pb.RequestOp, depth int) error {
	if err := p.whole(method, op); err != nil {
		return err
	}
	switch o := op.GetRequest().(type) {
	case *pb.RequestOp_RequestRange:
		return p.rangeKeys(method, o.RequestRange)
	case *pb.RequestOp_RequestPut:
		return p.put(method, o.RequestPut)
	case *pb.RequestOp_RequestDeleteRange:
		return p.deleteRange(method, o.RequestDeleteRange)
	case *pb.RequestOp_RequestTxn:
		return p.txn(method, o.RequestTxn, depth+1)
	default:
		return p.refuse(method, "an operation of a transaction is empty or of an unknown kind")
	}
}

func (p *policy) leaseGrant(method string, r *pb.LeaseGrantRequest) error {
	if err := p.whole(method, r); err != nil {
		return err
	}
	if r.GetID() != 0 {
		return p.refuse(method, "may not choose the ID of a lease (%x)", r.GetID())
	}
	return nil
}

func (p *policy) watch(method string, r *pb.WatchRequest) error {
	if err := p.whole(method, r); err != nil {
		return err
	}
	switch u := r.GetRequestUnion().(type) {
	case *pb.WatchRequest_CreateRequest:
		if err := p.whole(method, u.CreateRequest); err != nil {
			return err
		}
		return p.mayRead(method, u.CreateRequest.GetKey(), u.CreateRequest.GetRangeEnd())
	case *pb.WatchRequest_CancelRequest:
		return p.whole(method, u.CancelRequest) // watch IDs are the stream's own
	case *pb.WatchRequest_ProgressRequest:
		return p.whole(method, u.ProgressRequest)
	default:
		return p.refuse(method, "a watch request is empty or of an unknown kind")
	}
}

// refuse makes the error that the host sees.
func (p *policy) refuse(method, format string, args ...any) error {
	return status.Errorf(codes.PermissionDenied, "mgmt-remote: host %s: %s: %s", p.host, shortMethod(method), fmt.Sprintf(format, args...))
}

// shortMethod makes "KV.Range" of "/etcdserverpb.KV/Range".
func shortMethod(method string) string {
	short := strings.TrimPrefix(method, "/etcdserverpb.")
	if short == method {
		return fmt.Sprintf("%.100q", method)
	}
	return strings.ReplaceAll(short, "/", ".")
}

func rangeText(key, end []byte) string {
	if len(end) == 0 {
		return fmt.Sprintf("%.200q", key)
	}
	return fmt.Sprintf("%.200q to %.200q", key, end)
}
