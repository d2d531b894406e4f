package gateway

import (
	"context"
	"errors"
	"net"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

// deployer is a client that comes in as the initiator's mgmt does.
func (b *bench) deployer() *clientv3.Client {
	b.t.Helper()
	dial := func(context.Context, string) (net.Conn, error) {
		l := bufconn.Listen(4 << 10)
		go func() {
			if server, err := l.Accept(); err == nil {
				b.gw.HandleDeploy(server)
			}
		}()
		client, err := l.Dial()
		return client, errors.Join(err, l.Close())
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"passthrough:///gateway"}, DialOptions: []grpc.DialOption{grpc.WithContextDialer(dial)}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestMgmtPayload(t *testing.T) {
	b := newBench(t, Limits{}, true)
	ctx := timeout(t)
	deploy, host := b.deployer(), b.client("a")
	if _, err := deploy.Put(ctx, keys.Mgmt+"deploy/1", "code"); err != nil {
		t.Fatal(err)
	}
	if got, err := host.Get(ctx, keys.Mgmt, clientv3.WithPrefix()); err != nil || got.Count != 1 {
		t.Errorf("the host sees %v, %v", got, err)
	}
	if _, err := host.Put(ctx, keys.Mgmt+"converged/a", "true"); err != nil {
		t.Error(err)
	}
	// Whatever a host may do otherwise is as ever, and the initiator's mgmt may do nothing else at all.
	for key, may := range map[string][2]error{
		keys.Quiet(testRun, "a"): {nil, errDenied}, keys.KV(testRun) + "x": {nil, errDenied}, keys.Exports(testRun, "b") + "file/x": {errDenied, errDenied},
		keys.State(testRun, "a"): {errDenied, errDenied}, "/_mgmtx": {errDenied, errDenied}, "/_mgmt": {errDenied, errDenied},
	} {
		for i, c := range []*clientv3.Client{host, deploy} {
			if _, err := c.Put(ctx, key, "x"); (err == nil) != (may[i] == nil) {
				t.Errorf("put %s as %d: %v", key, i, err)
			} else if err != nil {
				denied(t, key, err)
			}
		}
	}
	_, err := deploy.Get(ctx, keys.Run(testRun), clientv3.WithPrefix())
	denied(t, "the deployer reads the run", err)
	_, err = deploy.MemberList(ctx)
	denied(t, "the deployer lists members", err)
}

var errDenied = errors.New("denied")

// Each host sees its own endpoint as the only member, and can change nothing about the cluster.
func TestMemberList(t *testing.T) {
	for name, e := range map[string]*bench{"embedded": newBench(t, Limits{}, true), "external": benchOn(t, openExternal(t), Limits{}, true)} {
		ctx := timeout(t)
		for _, host := range []string{"a", "b"} {
			list, err := e.client(host).MemberList(ctx)
			if err != nil {
				t.Fatal(name, err)
			}
			m := list.Members
			if len(m) != 1 || m[0].Name == "" || len(m[0].ClientURLs) != 1 || m[0].ClientURLs[0] != "unix:///"+host+"/%2Fgateway" || len(m[0].PeerURLs) != 1 {
				t.Errorf("%s: %s sees %v", name, host, m)
			}
		}
		_, err := e.client("a").MemberAdd(ctx, []string{"http://127.0.0.1:1"})
		denied(t, name+": add a member", err)
		_, err = e.client("a").MemberRemove(ctx, 1)
		denied(t, name+": remove a member", err)
	}
	_, err := newBench(t, Limits{}, false).client("a").MemberList(timeout(t))
	denied(t, "without mgmt", err)
}
