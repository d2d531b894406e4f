package gateway

import (
	"context"
	"net"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

// Mgmt is what the gateway needs to know where the payload is mgmt.
type Mgmt struct {
	// Endpoint returns the URL under which a host's payload reaches this gateway. authority is what the client called it,
	// in HTTP's words: for a TCP endpoint its address, for a unix socket only the file's name. It comes from the host and
	// goes back to nobody else.
	Endpoint func(host, authority string) string
}

// deployer is the name under which the initiator's own mgmt is known. No host can be called so.
const deployer = "mgmt deploy"

// HandleDeploy serves a connection of the initiator's own mgmt, which deploys the code: it reads and writes below
// /_mgmt/ and nothing else. Otherwise it is as Handle.
func (g *Gateway) HandleDeploy(conn net.Conn) { g.handle(g.identity(deployer, newDeployPolicy), conn) }

func newDeployPolicy(lease leaseSpace) policy {
	mgmt := []span{prefixSpan(keys.Mgmt)}
	return policy{host: deployer, read: mgmt, write: mgmt, lease: lease}
}

func (p *policy) memberList(method string, r *pb.MemberListRequest) error {
	if err := p.whole(method, r); err != nil {
		return err
	}
	if !p.members {
		return p.refuse(method, "the method is not allowed")
	}
	return nil
}

// members is a Cluster service with one answer. mgmt asks for the members of the cluster when it connects, goes on
// with their client URLs as its endpoints, and ends where it gets no answer. So each host sees a cluster of one member, which is its own
// endpoint; of the etcd's real members it learns nothing.
type members struct {
	pb.UnimplementedClusterServer
	endpoint func(host, authority string) string
}

// MemberList answers without asking etcd.
func (s *members) MemberList(ctx context.Context, _ *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	h, err := hostOf(ctx)
	if err != nil {
		return nil, err
	}
	authority := ""
	if v := metadata.ValueFromIncomingContext(ctx, ":authority"); len(v) > 0 {
		authority = v[0]
	}
	url := []string{s.endpoint(h.policy.host, authority)}
	// A member without a peer URL is an error for mgmt; nobody dials this one.
	return &pb.MemberListResponse{
		Header: &pb.ResponseHeader{}, Members: []*pb.Member{{ID: 1, Name: "mgmt-remote", ClientURLs: url, PeerURLs: url}},
	}, nil
}
