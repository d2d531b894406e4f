package gateway

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// bench is a gateway with its etcd, and connections of hosts to it.
type bench struct {
	t    testing.TB
	etcd *store.Etcd
	gw   *Gateway
}

const testRun = "run00001"

func openStore(t testing.TB) *store.Etcd {
	t.Helper()
	e, err := store.OpenEtcd(context.Background(), store.EtcdOptions{Dir: filepath.Join(t.TempDir(), "etcd")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func newBench(t testing.TB, limits Limits, mgmt bool) *bench {
	t.Helper()
	return benchOn(t, openStore(t), limits, mgmt)
}

func benchOn(t testing.TB, e *store.Etcd, limits Limits, mgmt bool) *bench {
	t.Helper()
	o := Options{Etcd: e, Run: testRun, Limits: limits}
	if mgmt {
		o.Mgmt = &Mgmt{Endpoint: func(host, authority string) string { return "unix:///" + host + "/" + authority }}
	}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{t: t, etcd: e, gw: g}
}

// dialer makes connections whose other end the gateway gets.
func (b *bench) dialer(host string) func(context.Context, string) (net.Conn, error) {
	return func(context.Context, string) (net.Conn, error) {
		l := bufconn.Listen(4 << 10)
		go func() { // Dial returns when it was accepted
			if server, err := l.Accept(); err == nil {
				b.gw.Handle(host, server)
			}
		}()
		client, err := l.Dial()
		return client, errors.Join(err, l.Close())
	}
}

func (b *bench) client(host string) *clientv3.Client {
	b.t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{"passthrough:///gateway"},
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(b.dialer(host))},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() }) // its watches end with an error, which is not the test's business
	return c
}

func (b *bench) conn(host string) *grpc.ClientConn {
	b.t.Helper()
	cc, err := grpc.NewClient("passthrough:///gateway", grpc.WithContextDialer(b.dialer(host)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return cc
}

// patience is how long a test waits for something that has to happen.
const patience = time.Minute

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
