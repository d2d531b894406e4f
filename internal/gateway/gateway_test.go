package gateway

import (
	"context"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
)

// openExternal runs an etcd on a unix socket and dials it.
func openExternal(t *testing.T) *store.Etcd {
	t.Helper()
	socket := url.URL{Scheme: "unix", Path: filepath.Join(t.TempDir(), "c.sock")}
	c := embed.NewConfig()
	c.Dir = filepath.Join(t.TempDir(), "etcd")
	c.ListenPeerUrls = nil
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{socket}, []url.URL{socket}
	c.TickMs, c.ElectionMs = 20, 100
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	e, err := store.DialEtcd(timeout(t), store.DialOptions{Endpoints: []string{socket.String()}})
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

func denied(t *testing.T, what string, err error) {
	t.Helper()
	if code := status.Code(err); code != codes.PermissionDenied {
		t.Errorf("%s: %v", what, err)
	}
}

// Both kinds of etcd behave the same through the gateway.
func TestTwoHosts(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *store.Etcd{
		"embedded": func(t *testing.T) *store.Etcd { return openStore(t) }, "external": openExternal,
	} {
		t.Run(name, func(t *testing.T) {
			b := benchOn(t, open(t), Limits{}, false)
			ctx := timeout(t)
			a, z := b.client("a"), b.client("z")
			kv := keys.KV(testRun)
			if _, err := b.etcd.Client().Put(ctx, keys.State(testRun, "a"), "Running"); err != nil {
				t.Fatal(err)
			}

			seen := z.Watch(clientv3.WithRequireLeader(ctx), keys.Run(testRun), clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
			if r := <-seen; r.Err() != nil || !r.Created {
				t.Fatalf("watch: %v", r.Err())
			}
			if n := b.gw.Stats("z").Watches; n != 1 {
				t.Errorf("%d watches", n)
			}
			if _, err := a.Put(ctx, kv+"x", "1"); err != nil {
				t.Fatal(err)
			}
			if r := <-seen; len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "1" {
				t.Fatalf("watch: %+v", r)
			}
			if r, err := z.Get(ctx, keys.State(testRun, "a")); err != nil || string(r.Kvs[0].Value) != "Running" {
				t.Errorf("read the state: %v %v", r, err)
			}
			_, err := z.Put(ctx, keys.State(testRun, "z"), "Done")
			denied(t, "write the state", err)
			_, err = z.Put(ctx, keys.Quiet(testRun, "a"), "")
			denied(t, "write a's quiet key", err)
			_, err = z.Get(ctx, "", clientv3.WithPrefix())
			denied(t, "read all", err)
			_, err = z.Delete(ctx, keys.Run(testRun), clientv3.WithPrefix())
			denied(t, "delete the run", err)
			_, err = z.Compact(ctx, 1)
			denied(t, "compact", err)
			if r := <-z.Watch(ctx, "/x"); !r.Canceled || !strings.Contains(r.Err().Error(), "host z") {
				t.Errorf("watch outside: %v", r.Err())
			}

			lease, err := a.Grant(ctx, 60)
			if err != nil || !newLeaseSpace(testRun, "a", 0).owns(int64(lease.ID)) {
				t.Fatalf("grant: %v %v", lease, err)
			}
			_, err = a.Do(ctx, clientv3.OpPut(keys.Quiet(testRun, "a"), "", clientv3.WithLease(lease.ID)))
			if err != nil {
				t.Fatal(err)
			}
			if r := <-seen; string(r.Events[0].Kv.Key) != keys.Quiet(testRun, "a") {
				t.Errorf("watch: %+v", r)
			}
			kept, err := a.KeepAlive(ctx, lease.ID)
			if err != nil {
				t.Fatal(err)
			}
			if r := <-kept; r == nil || r.TTL != 60 {
				t.Errorf("keep alive: %+v", r)
			}
			if s := b.gw.Stats("a"); s.Leases != 1 || s.Connections != 1 || s.Written == 0 {
				t.Errorf("%+v", s)
			}
			_, err = z.KeepAliveOnce(ctx, lease.ID)
			denied(t, "keep a's lease alive", err)
			_, err = z.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
			denied(t, "ask about a's lease", err)
			_, err = z.Put(ctx, kv+"y", "", clientv3.WithLease(lease.ID))
			denied(t, "attach to a's lease", err)
			_, err = z.Revoke(ctx, lease.ID)
			denied(t, "revoke a's lease", err)
			_, err = z.Leases(ctx)
			denied(t, "list leases", err)
			if _, err := a.Revoke(ctx, lease.ID); err != nil {
				t.Fatal(err)
			}
			if r := <-seen; r.Events[0].Type != clientv3.EventTypeDelete || r.Events[0].PrevKv == nil {
				t.Errorf("watch: %+v", r)
			}
			if n := b.gw.Stats("a").Leases; n != 0 {
				t.Errorf("%d leases after revoking", n)
			}

			stream, err := pb.NewKVClient(b.conn("z")).RangeStream(ctx, &pb.RangeRequest{Key: []byte(kv), RangeEnd: []byte(keys.RangeEnd(kv))})
			if err != nil {
				t.Fatal(err)
			}
			if r, err := stream.Recv(); err != nil || len(r.GetRangeResponse().GetKvs()) != 1 {
				t.Errorf("range stream: %v %v", r, err)
			}
		})
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestTotalCountsWhatAllHostsWereTold(t *testing.T) {
	b := newBench(t, Limits{}, false)
	ctx := timeout(t)
	for _, host := range []string{"a", "b"} {
		w := b.client(host).Watch(ctx, keys.KV(testRun), clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		<-w
	}
	writer := b.client("c")
	for i := range 3 {
		if _, err := writer.Put(ctx, keys.KV(testRun)+"k", strings.Repeat("x", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both watches were told everything", func() bool { return b.gw.Total().Events == 6 })
	if a, sum := b.gw.Stats("a"), b.gw.Total(); a.Events != 3 || sum.Watches != 2 || sum.Connections != 3 || sum.Written == 0 || sum.Requests != 5 {
		t.Errorf("%+v of %+v", a, sum)
	}
}

func TestEndOfAConnectionEndsItsWatches(t *testing.T) {
	b := newBench(t, Limits{}, false)
	c := b.client("a")
	w := c.Watch(timeout(t), keys.KV(testRun), clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-w
	if s := b.gw.Stats("a"); s.Watches != 1 || s.Connections != 1 {
		t.Fatalf("%+v", s)
	}
	_ = c.Close() // reports its own cancelation
	eventually(t, "watch and connection are gone", func() bool {
		s := b.gw.Stats("a")
		return s.Watches == 0 && s.Connections == 0
	})
}

func TestLimits(t *testing.T) {
	b := newBench(t, Limits{Connections: 2, Watches: 2, Leases: 2, RequestBytes: 4 << 10, ResponseBytes: 2500, WriteBytes: 5000}, false)
	ctx := timeout(t)
	c := b.client("a")
	kv := keys.KV(testRun)

	wctx, stop := context.WithCancel(ctx)
	for range 2 {
		if r := <-c.Watch(wctx, kv, clientv3.WithCreatedNotify()); r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	if r := <-c.Watch(ctx, kv, clientv3.WithCreatedNotify()); !r.Canceled || !strings.Contains(r.Err().Error(), "too many watches") {
		t.Errorf("third watch: %v", r.Err())
	}
	stop()
	eventually(t, "canceled watches are given back", func() bool { return b.gw.Stats("a").Watches == 0 })

	first, err := c.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Grant(ctx, 60); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Grant(ctx, 60); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("third lease: %v", err)
	}
	if _, err := c.Revoke(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Grant(ctx, 60); err != nil {
		t.Errorf("a lease after one was revoked: %v", err)
	}

	if _, err := c.Put(ctx, kv+"big", strings.Repeat("x", 5<<10)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("big request: %v", err)
	}
	if _, err := c.Put(ctx, kv+"x", strings.Repeat("x", 3000)); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, kv+"x"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("big response: %v", err)
	}
	if _, err := c.Put(ctx, kv+"x", strings.Repeat("x", 3000)); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "host a: KV.Put: has written too much") {
		t.Errorf("too much written: %v", err)
	}

	// Connections: c has one, one more is taken, a third is closed.
	_, other := net.Pipe()
	b.gw.Handle("a", other)
	theirs, ours := net.Pipe()
	b.gw.Handle("a", ours)
	if _, err := theirs.Read(make([]byte, 1)); err == nil {
		t.Error("a third connection was served")
	}
	if s := b.gw.Stats("a"); s.Connections != 2 || s.Refused == 0 {
		t.Errorf("%+v", s)
	}
	if s := b.gw.Stats("nobody"); s != (Stats{}) {
		t.Errorf("%+v", s)
	}
}

func TestRateSlowsDown(t *testing.T) {
	b := newBench(t, Limits{Rate: 50, Burst: 1}, false)
	c := b.client("a")
	start := time.Now()
	for range 6 {
		if _, err := c.Get(timeout(t), keys.KV(testRun)); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("six requests at 50 per second took %v", took)
	}
	// One an hour, so that no pause of this machine is long enough for the second.
	c = newBench(t, Limits{Rate: 1. / 3600, Burst: 1}, false).client("a")
	if _, err := c.Get(timeout(t), keys.KV(testRun)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(timeout(t), 5*time.Millisecond)
	defer cancel()
	if _, err := c.Get(ctx, keys.KV(testRun)); err == nil {
		t.Error("was not slowed down")
	}
}

func TestCloseEndsSilentConnections(t *testing.T) {
	b := newBench(t, Limits{}, false)
	theirs, ours := net.Pipe()
	b.gw.Handle("a", ours) // never speaks HTTP/2
	if err := b.gw.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Write([]byte("x")); err == nil {
		t.Error("the connection is open")
	}
	theirs, ours = net.Pipe()
	b.gw.Handle("a", ours)
	if _, err := theirs.Read(make([]byte, 1)); err == nil {
		t.Error("serves after Close")
	}
	if n := b.gw.Stats("a").Connections; n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestNewNeedsItsOptions(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("made a gateway of nothing")
	}
}

// Two hosts whose numbers meet get different ones.
func TestLeaseNumbersNeverMeet(t *testing.T) {
	b := newBench(t, Limits{}, false)
	b.gw.spaces[newLeaseSpace(testRun, "a", 0)] = "other"
	if got := b.gw.host("a").policy.lease; got != newLeaseSpace(testRun, "a", 1) {
		t.Errorf("got %x", got)
	}
}
