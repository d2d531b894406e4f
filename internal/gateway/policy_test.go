package gateway

import (
	"log/slog"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

func testPolicy(host string) policy {
	return newPolicy(testRun, host, newLeaseSpace(testRun, host, 0), false)
}

func testHost(host string) *host {
	return newHost(testPolicy(host), Limits{}.withDefaults(), slog.New(slog.DiscardHandler))
}

func TestRanges(t *testing.T) {
	p := testPolicy("a")
	run, kv, exports, quiet := keys.Run(testRun), keys.KV(testRun), keys.Exports(testRun, "a"), keys.Quiet(testRun, "a")
	for _, c := range []struct {
		key, end    string
		read, write bool
	}{
		{kv + "x", "", true, true},
		{kv, "", true, true},
		{kv, keys.RangeEnd(kv), true, true},
		{kv, keys.RangeEnd(kv) + "\x00", true, false},
		{kv + "a", kv + "b", true, true},
		{kv + "b", kv + "a", false, false}, // no key in it
		{kv + "a", kv + "a", false, false},
		{kv + "a", "\x00", false, false}, // everything from there on
		{kv[:len(kv)-1], "", true, false},
		{exports + "file/x", "", true, true},
		{exports, keys.RangeEnd(exports), true, true},
		{keys.ExportsPrefix(testRun), keys.RangeEnd(keys.ExportsPrefix(testRun)), true, false},
		{keys.Exports(testRun, "ab") + "x", "", true, false},
		{keys.Exports(testRun, "b"), "", true, false},
		{strings.TrimSuffix(exports, "/"), "", true, false},
		{quiet, "", true, true},
		{quiet, quiet + "\x00", true, true},
		{quiet, quiet + "\x00\x00", true, false},
		{quiet + "\x00", "", true, false},
		{quiet + "b", "", true, false},
		{quiet + "/x", "", true, false},
		{keys.QuietPrefix(testRun), keys.RangeEnd(keys.QuietPrefix(testRun)), true, false},
		{keys.State(testRun, "a"), "", true, false},
		{keys.Hosts(testRun, "a"), keys.RangeEnd(keys.Hosts(testRun, "a")), true, false},
		{run, "", true, false},
		{run, keys.RangeEnd(run), true, false},
		{run, keys.RangeEnd(run) + "\x00", false, false},
		{run, keys.RangeEnd(keys.Root), false, false},
		{strings.TrimSuffix(run, "/"), "", false, false},
		{strings.TrimSuffix(run, "/"), keys.RangeEnd(run), false, false},
		{keys.Run(testRun + "x"), "", false, false},
		{keys.Run(testRun[:4]), "", false, false},
		{keys.Root, keys.RangeEnd(keys.Root), false, false},
		{"", "", false, false},
		{"", "\x00", false, false},
		{"\x00", "\x00", false, false},
		{"", keys.RangeEnd(run), false, false},
		{"health", "", false, false},
		{keys.Mgmt + "x", "", false, false},
	} {
		if got := p.mayRead("m", []byte(c.key), []byte(c.end)) == nil; got != c.read {
			t.Errorf("read %q to %q: %v", c.key, c.end, got)
		}
		if got := p.mayWrite("m", []byte(c.key), []byte(c.end)) == nil; got != c.write {
			t.Errorf("write %q to %q: %v", c.key, c.end, got)
		}
	}
	m := newPolicy(testRun, "a", 1, true)
	if m.mayWrite("m", []byte(keys.Mgmt+"x"), nil) != nil || m.mayRead("m", []byte(keys.Mgmt), []byte(keys.RangeEnd(keys.Mgmt))) != nil {
		t.Error("the mgmt payload may not use its keys")
	}
	if m.mayWrite("m", []byte(keys.State(testRun, "a")), nil) == nil {
		t.Error("the mgmt payload may write the initiator's keys")
	}
}

func TestWhatIsWrittenMayBeRead(t *testing.T) {
	for _, mgmt := range []bool{false, true} {
		p := newPolicy(testRun, "a", 1, mgmt)
		for _, w := range p.write {
			if !within(p.read, []byte(w.low), []byte(w.high)) {
				t.Errorf("%q may be written but not read, so prev_kv would leak it", w.low)
			}
		}
	}
}

func TestRefusalsNameHostMethodAndKey(t *testing.T) {
	p := testPolicy("web1")
	err := p.rangeKeys(pb.KV_Range_FullMethodName, &pb.RangeRequest{Key: []byte("/secret")})
	if status.Code(err) != codes.PermissionDenied {
		t.Fatal(err)
	}
	for _, want := range []string{"web1", "KV.Range", `"/secret"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

func TestTxn(t *testing.T) {
	p := testPolicy("a")
	kv := []byte(keys.KV(testRun) + "x")
	state := []byte(keys.State(testRun, "a"))
	own := int64(p.lease)<<leaseSerialBits | 7
	other := int64(newLeaseSpace(testRun, "b", 0)) << leaseSerialBits
	put := func(key []byte, lease int64) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Lease: lease}}}
	}
	get := func(key, end string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
	}
	del := func(key, end string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
	}
	nest := func(depth int, op *pb.RequestOp) *pb.RequestOp {
		for range depth {
			op = &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: []*pb.RequestOp{op}}}}
		}
		return op
	}
	ops := map[string]struct {
		op *pb.RequestOp
		ok bool
	}{
		"put":                       {put(kv, 0), true},
		"put with lease":            {put(kv, own), true},
		"put with another's lease":  {put(kv, other), false},
		"put with a negative lease": {put(kv, -own), false},
		"put state":                 {put(state, 0), false},
		"put quiet of b":            {put([]byte(keys.Quiet(testRun, "b")), 0), false},
		"get state":                 {get(string(state), ""), true},
		"get all":                   {get("\x00", "\x00"), false},
		"get outside":               {get("/x", ""), false},
		"delete":                    {del(string(kv), ""), true},
		"delete run":                {del(keys.Run(testRun), keys.RangeEnd(keys.Run(testRun))), false},
		"delete from key":           {del(string(kv), "\x00"), false},
		"nested put":                {nest(3, put(kv, own)), true},
		"nested put state":          {nest(3, put(state, 0)), false},
		"nested too deep":           {nest(maxTxnDepth, put(kv, 0)), false},
		"empty":                     {&pb.RequestOp{}, false},
		"nil":                       {nil, false},
		"nil put":                   {&pb.RequestOp{Request: &pb.RequestOp_RequestPut{}}, false},
		"nil txn":                   {&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{}}, true}, // holds nothing
	}
	for name, c := range ops {
		for branch, r := range map[string]*pb.TxnRequest{
			"then": {Success: []*pb.RequestOp{put(kv, 0), c.op}}, "else": {Failure: []*pb.RequestOp{put(kv, 0), c.op}},
		} {
			if err := p.txn("m", r, 1); (err == nil) != c.ok {
				t.Errorf("%s in %s: %v", name, branch, err)
			}
		}
	}
	for name, c := range map[string]struct {
		compare *pb.Compare
		ok      bool
	}{
		"own":         {&pb.Compare{Key: kv}, true},
		"state":       {&pb.Compare{Key: state}, true},
		"outside":     {&pb.Compare{Key: []byte("/x")}, false},
		"range":       {&pb.Compare{Key: []byte(keys.Run(testRun)), RangeEnd: []byte(keys.RangeEnd(keys.Run(testRun)))}, true},
		"range out":   {&pb.Compare{Key: kv, RangeEnd: []byte("0")}, false},
		"from key":    {&pb.Compare{Key: kv, RangeEnd: []byte{0}}, false},
		"nil compare": {nil, false},
	} {
		if err := p.txn("m", &pb.TxnRequest{Compare: []*pb.Compare{c.compare}}, 1); (err == nil) != c.ok {
			t.Errorf("compare %s: %v", name, err)
		}
	}
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	h := testHost("a")
	strange := protowire.AppendVarint(protowire.AppendTag(nil, 4000, protowire.VarintType), 1)
	for method, good := range map[string]proto.Message{
		pb.KV_Range_FullMethodName:              &pb.RangeRequest{Key: []byte(keys.KV(testRun))},
		pb.KV_Put_FullMethodName:                &pb.PutRequest{Key: []byte(keys.KV(testRun))},
		pb.KV_DeleteRange_FullMethodName:        &pb.DeleteRangeRequest{Key: []byte(keys.KV(testRun))},
		pb.KV_Txn_FullMethodName:                &pb.TxnRequest{},
		pb.Lease_LeaseGrant_FullMethodName:      &pb.LeaseGrantRequest{},
		pb.Lease_LeaseRevoke_FullMethodName:     &pb.LeaseRevokeRequest{ID: h.policy.lease.pick()},
		pb.Lease_LeaseTimeToLive_FullMethodName: &pb.LeaseTimeToLiveRequest{ID: h.policy.lease.pick()},
	} {
		if err := unaryRules[method](h, method, good); err != nil {
			t.Errorf("%s: %v", method, err)
		}
		good.ProtoReflect().SetUnknown(strange)
		if err := unaryRules[method](h, method, good); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s with an unknown field: %v", method, err)
		}
	}
}

func TestLeases(t *testing.T) {
	a, b := newLeaseSpace(testRun, "a", 0), newLeaseSpace(testRun, "b", 0)
	if a == b || a != newLeaseSpace(testRun, "a", 0) || a == newLeaseSpace("run00002", "a", 0) || a == newLeaseSpace(testRun, "a", 1) {
		t.Fatal("the number of a host must depend on the names of run and host alone")
	}
	for range 1000 {
		if id := a.pick(); id <= 0 || !a.owns(id) || b.owns(id) || a.owns(-id) {
			t.Fatalf("%x", id)
		}
	}
	if a.owns(0) || leaseSpace(1).owns(0) {
		t.Error("owns no lease at all")
	}
	p := testPolicy("a")
	if err := p.leaseGrant("m", &pb.LeaseGrantRequest{ID: a.pick()}); err == nil {
		t.Error("a host chose its lease's ID")
	}
}

// A range is allowed exactly when it has a key and each of its keys is allowed. The model tests the keys one by one:
// all that can make a difference are the first key of the range and the first key behind each allowed part.
func TestPolicyEqualsTheModel(t *testing.T) {
	hosts := []string{"a", "ab", "b"}
	word := rapid.Custom(func(t *rapid.T) string {
		base := rapid.SampledFrom([]string{"", "/", keys.Root, keys.Run(testRun), keys.Run(testRun + "x"), keys.KV(testRun),
			keys.ExportsPrefix(testRun), keys.Exports(testRun, "a"), keys.Exports(testRun, "ab"), keys.QuietPrefix(testRun),
			keys.Quiet(testRun, "a"), keys.Quiet(testRun, "ab"), keys.HostsPrefix(testRun), keys.Mgmt}).Draw(t, "base")
		if n := rapid.IntRange(0, 2).Draw(t, "cut"); n <= len(base) {
			base = base[:len(base)-n]
		}
		tail := rapid.SliceOfN(rapid.SampledFrom([]byte("\x00/0ab\xff")), 0, 2).Draw(t, "tail")
		key := base + string(tail)
		if rapid.IntRange(0, 3).Draw(t, "next") == 0 && key != "" {
			key = keys.RangeEnd(key)
		}
		return key
	})
	readable := func(key string) bool { return strings.HasPrefix(key, keys.Run(testRun)) }
	writable := func(host, key string) bool {
		return strings.HasPrefix(key, keys.KV(testRun)) || strings.HasPrefix(key, keys.Exports(testRun, host)) || key == keys.Quiet(testRun, host)
	}
	rapid.Check(t, func(t *rapid.T) {
		host := rapid.SampledFrom(hosts).Draw(t, "host")
		key, end := word.Draw(t, "key"), word.Draw(t, "end")
		inRange := func(k string) bool {
			switch end {
			case "":
				return k == key
			case "\x00":
				return k >= key
			default:
				return key <= k && k < end
			}
		}
		model := func(allowed func(string) bool) bool {
			if key == "" || !inRange(key) || end == "\x00" {
				return false
			}
			candidates := []string{key, key + "\x00", keys.Quiet(testRun, host) + "\x00"}
			for _, p := range []string{keys.Run(testRun), keys.KV(testRun), keys.Exports(testRun, host)} {
				candidates = append(candidates, keys.RangeEnd(p))
			}
			for _, k := range candidates {
				if inRange(k) && !allowed(k) {
					return false
				}
			}
			return true
		}
		p := testPolicy(host)
		if got, want := p.mayRead("m", []byte(key), []byte(end)) == nil, model(readable); got != want {
			t.Fatalf("%s reads %q to %q: got %v, want %v", host, key, end, got, want)
		}
		want := model(func(k string) bool { return writable(host, k) })
		if got := p.mayWrite("m", []byte(key), []byte(end)) == nil; got != want {
			t.Fatalf("%s writes %q to %q: got %v, want %v", host, key, end, got, want)
		}
	})
}
