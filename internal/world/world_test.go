package world

import (
	"context"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// patience is how long a test waits for what must happen; only a failing test uses it up.
const patience = time.Minute

var key = keys.Quiet("run1", "web1")

// etcd starts a real etcd that listens on a unix socket, and gives a client that needs no socket.
func etcd(t *testing.T) (socket string, client *clientv3.Client) {
	t.Helper()
	dir := t.TempDir()
	socket = filepath.Join(dir, "s")
	c := embed.NewConfig()
	c.Dir = filepath.Join(dir, "data")
	c.ListenPeerUrls, c.ListenMetricsUrls = nil, nil
	c.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket}}
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:2380"}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.LogLevel, c.LogOutputs = "panic", []string{"/dev/null"}
	c.TickMs, c.ElectionMs = 20, 100
	server, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(patience):
		t.Fatal("etcd does not start")
	}
	client = v3client.New(server.Server)
	t.Cleanup(func() { _ = client.Close() }) // always says that its own context was canceled
	return socket, client
}

// relay is a link that can be cut.
type relay struct {
	path, target string
	t            *testing.T
	group        sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

func newRelay(t *testing.T, target string) *relay {
	r := &relay{path: filepath.Join(t.TempDir(), "r"), target: target, t: t}
	r.restore()
	t.Cleanup(r.cut)
	return r
}

func (r *relay) restore() {
	l, err := net.Listen("unix", r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.listener = l
	r.mu.Unlock()
	r.group.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", r.target)
			if err != nil {
				_ = in.Close()
				continue
			}
			r.mu.Lock()
			if r.listener != l { // cut meanwhile
				r.mu.Unlock()
				_, _ = in.Close(), out.Close()
				return
			}
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			r.group.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
			r.group.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
		}
	})
}

// cut closes the link and everything on it, and waits until it is quiet.
func (r *relay) cut() {
	r.mu.Lock()
	if r.listener != nil {
		_ = r.listener.Close()
	}
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.listener, r.conns = nil, nil
	r.mu.Unlock()
	r.group.Wait()
}

func open(t *testing.T, socket string) *World {
	t.Helper()
	w, err := Open(Options{Endpoints: []string{"unix://" + socket}, Run: "run1", Host: "web1"})
	if err != nil {
		t.Fatal(err)
	}
	w.closeLimit = patience
	return w
}

// follow returns the values of the key as they change; "-" stands for no key.
func follow(t *testing.T, client *clientv3.Client) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	values := make(chan string, 100)
	done := make(chan struct{})
	watch := client.Watch(ctx, key, clientv3.WithRev(1))
	go func() {
		defer close(done)
		for resp := range watch {
			for _, ev := range resp.Events {
				if ev.Type == clientv3.EventTypeDelete {
					values <- "-"
				} else {
					values <- string(ev.Kv.Value)
				}
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return values
}

func expect(t *testing.T, values <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-values:
			if got != w {
				t.Fatalf("key is %q, want %q", got, w)
			}
		case <-time.After(patience):
			t.Fatalf("key never became %q", w)
		}
	}
}

func leaseOf(t *testing.T, client *clientv3.Client) clientv3.LeaseID {
	t.Helper()
	resp, err := client.Get(t.Context(), key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("%+v, %v", resp, err)
	}
	return clientv3.LeaseID(resp.Kvs[0].Lease)
}

func TestKeyFollowsReports(t *testing.T) {
	socket, client := etcd(t)
	values := follow(t, client)
	w := open(t, socket)
	expect(t, values, "false")
	w.Report(true)
	expect(t, values, "true")
	w.Report(true) // nothing new, nothing written
	w.Report(false)
	expect(t, values, "false")
	ttl, err := client.TimeToLive(t.Context(), leaseOf(t, client))
	if err != nil || ttl.GrantedTTL != TTL {
		t.Errorf("lease %+v, %v", ttl, err)
	}
	if err := w.Close(Unfinished); err != nil {
		t.Error(err)
	}
	expect(t, values, "-")
	if leases, err := client.Leases(t.Context()); err != nil || len(leases.Leases) != 0 {
		t.Errorf("leases left: %+v, %v", leases, err)
	}
}

// Quiet means without a break, so a break must be seen, however short it is.
func TestShortDivergenceIsTold(t *testing.T) {
	socket, client := etcd(t)
	values := follow(t, client)
	w := open(t, socket)
	expect(t, values, "false")
	w.Report(true)
	expect(t, values, "true")
	for range 20 {
		w.Report(false)
		w.Report(true)
		expect(t, values, "false", "true")
	}
	if err := w.Close(Unfinished); err != nil {
		t.Error(err)
	}
}

func TestLostLeaseIsReplaced(t *testing.T) {
	socket, client := etcd(t)
	values := follow(t, client)
	w := open(t, socket)
	w.Report(true)
	for v := ""; v != "true"; {
		select {
		case v = <-values:
		case <-time.After(patience):
			t.Fatal("key never became true")
		}
	}
	old := leaseOf(t, client)
	if _, err := client.Revoke(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	expect(t, values, "-", "true")
	if now := leaseOf(t, client); now == old {
		t.Error("the same lease")
	}
	if err := w.Close(Unfinished); err != nil {
		t.Error(err)
	}
}

func TestOutage(t *testing.T) {
	socket, client := etcd(t)
	link := newRelay(t, socket)
	values := follow(t, client)
	w := open(t, link.path)
	expect(t, values, "false")
	w.Report(true)
	expect(t, values, "true")
	link.cut()
	begin := time.Now()
	for range 1000 {
		w.Report(true)
		w.Report(false)
	}
	if d := time.Since(begin); d > callLimit*10 {
		t.Errorf("2000 reports without a link took %v", d)
	}
	link.restore()
	for { // the lease may have run out meanwhile, then the key goes first
		select {
		case v := <-values:
			if v == "-" {
				continue
			}
			if v != "false" {
				t.Fatalf("key is %q", v)
			}
		case <-time.After(patience):
			t.Fatal("the report of the outage never arrived")
		}
		break
	}
	link.cut()
	w.closeLimit = closeLimit
	begin = time.Now()
	if err := w.Close(Unfinished); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("Close without a link: %v", err)
	}
	if d := time.Since(begin); d > patience/2 {
		t.Errorf("Close without a link took %v", d)
	}
}

func TestCloseBeforeAnyConnection(t *testing.T) {
	w := open(t, filepath.Join(t.TempDir(), "none"))
	w.Report(true)
	if err := w.Close(Unfinished); err != nil {
		t.Error(err)
	}
}

func TestFromEnv(t *testing.T) {
	for name, c := range map[string]struct {
		env   map[string]string
		want  Options
		found bool
		err   string
	}{
		"outside":     {env: map[string]string{EnvEndpoints: "http://x"}},
		"inside":      {env: map[string]string{EnvEndpoints: "unix:///a/b, http://x", EnvRun: "r", EnvHost: "h"}, want: Options{Endpoints: []string{"unix:///a/b", "http://x"}, Run: "r", Host: "h"}, found: true},
		"no endpoint": {env: map[string]string{EnvRun: "r", EnvHost: "h"}, err: EnvEndpoints},
		"no host":     {env: map[string]string{EnvRun: "r", EnvEndpoints: "x"}, err: EnvHost},
		"no run":      {env: map[string]string{EnvHost: "h", EnvEndpoints: "x"}, err: EnvRun},
	} {
		t.Run(name, func(t *testing.T) {
			got, found, err := FromEnv(func(k string) string { return c.env[k] })
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err+" is not set") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || found != c.found || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v, %v", got, found, err)
			}
		})
	}
	if _, err := Open(Options{}); err == nil {
		t.Error("opened with nothing")
	}
}
