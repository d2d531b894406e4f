package gateway

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

// decisions names every method that an etcd server has. A method that a new version adds fails the test until
// somebody decided about it. An allowed one comes with a request that host "a" may make.
func decisions() map[string]proto.Message {
	const refused = "Compact LeaseLeases " +
		"MemberAdd MemberRemove MemberUpdate MemberList MemberPromote " +
		"Alarm Status Defragment Hash HashKV Snapshot MoveLeader Downgrade " +
		"AuthEnable AuthDisable AuthStatus Authenticate UserAdd UserGet UserList UserDelete UserChangePassword " +
		"UserGrantRole UserRevokeRole RoleAdd RoleGet RoleList RoleDelete RoleGrantPermission RoleRevokePermission " +
		"Lock Unlock Campaign Proclaim Leader Observe Resign Check Watch@Health List"
	d := map[string]proto.Message{}
	for name := range strings.FieldsSeq(refused) {
		d[name] = nil
	}
	key := []byte(keys.KV(testRun) + "k")
	lease := int64(newLeaseSpace(testRun, "a", 0)) << leaseSerialBits
	for name, m := range map[string]proto.Message{
		"Range":           &pb.RangeRequest{Key: key},
		"RangeStream":     &pb.RangeRequest{Key: key},
		"Put":             &pb.PutRequest{Key: key},
		"DeleteRange":     &pb.DeleteRangeRequest{Key: key},
		"Txn":             &pb.TxnRequest{},
		"Watch":           &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: key}}},
		"LeaseGrant":      &pb.LeaseGrantRequest{TTL: 10},
		"LeaseRevoke":     &pb.LeaseRevokeRequest{ID: lease},
		"LeaseKeepAlive":  &pb.LeaseKeepAliveRequest{ID: lease},
		"LeaseTimeToLive": &pb.LeaseTimeToLiveRequest{ID: lease},
	} {
		d[name] = m
	}
	return d
}

func TestEveryMethodIsDecided(t *testing.T) {
	b := newBench(t, Limits{}, false)
	cc := b.conn("a")
	want := decisions()
	seen := map[string]bool{}
	for _, file := range []protoreflect.FileDescriptor{
		pb.File_rpc_proto, v3lockpb.File_v3lock_proto, v3electionpb.File_v3election_proto, healthpb.File_grpc_health_v1_health_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for k := range service.Methods().Len() {
				m := service.Methods().Get(k)
				name := string(m.Name())
				if name == "Watch" && service.Name() == "Health" {
					name = "Watch@Health"
				}
				full := "/" + string(service.FullName()) + "/" + string(m.Name())
				req, known := want[name]
				if !known {
					t.Errorf("%s: nobody decided whether hosts may call it", full)
					continue
				}
				seen[name] = true
				err := call(t, cc, full, m, req)
				if req != nil && status.Code(err) == codes.PermissionDenied {
					t.Errorf("%s is refused: %v", full, err)
				}
				if req == nil && (status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "host a")) {
					t.Errorf("%s is not refused: %v", full, err)
				}
			}
		}
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("%s does not exist any more", name)
		}
	}
	// And what no proto file knows.
	if err := call(t, cc, "/etcdserverpb.KV/Surprise", pb.File_rpc_proto.Services().Get(0).Methods().Get(0), nil); status.Code(err) != codes.PermissionDenied {
		t.Errorf("unknown method: %v", err)
	}
}

// call makes a call with any method over the wire and returns how it ended; a stream ends with its first answer.
func call(t *testing.T, cc *grpc.ClientConn, full string, m protoreflect.MethodDescriptor, req proto.Message) error {
	t.Helper()
	if req == nil {
		req = dynamicpb.NewMessage(m.Input())
	}
	resp := dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return cc.Invoke(timeout(t), full, req, resp)
	}
	desc := &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}
	s, err := cc.NewStream(timeout(t), desc, full)
	if err != nil {
		return err
	}
	if err := s.SendMsg(req); err != nil {
		return err
	}
	return s.RecvMsg(resp)
}

func TestRulesRefuseOtherRequestTypes(t *testing.T) {
	h := testHost("a")
	for method, check := range unaryRules {
		if err := check(h, method, &pb.StatusRequest{}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", method, err)
		}
	}
	for method, newGuard := range streamRules {
		g := newGuard(h, method)
		if _, err := g.received(&pb.StatusRequest{}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", method, err)
		}
		g.end()
	}
}
