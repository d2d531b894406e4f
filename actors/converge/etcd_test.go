package converge_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/mgmt-remote/mgmt-remote/actors/converge"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
	"github.com/mgmt-remote/mgmt-remote/internal/quiet"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// patience is how long a test waits for something that has to happen.
const patience = 30 * time.Second

// member is an etcd that can be stopped, and started again with the data and the addresses that it had.
type member struct {
	t      *testing.T
	config func() *embed.Config
	etcd   *embed.Etcd // nil while it is stopped
	relay  *relay
	url    string // for clients, through the relay
}

// relay is where clients connect: with their connections gone, an etcd stops in a moment, not in seconds.
type relay struct {
	listener net.Listener
	target   string
	ended    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newRelay(t *testing.T, path, target string) *relay {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: ln, target: target, conns: map[net.Conn]bool{}}
	r.ended.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.ended.Go(func() { r.serve(c) })
		}
	})
	return r
}

func (r *relay) serve(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("unix", r.target)
	if err != nil {
		return // it is stopped
	}
	defer up.Close()
	r.mu.Lock()
	r.conns[c] = true
	r.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(up, c) // ends with either connection
		_ = up.Close()
	}()
	_, _ = io.Copy(c, up)
	_ = c.Close()
	<-done
	r.mu.Lock()
	delete(r.conns, c)
	r.mu.Unlock()
}

// cut closes all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		_ = c.Close()
	}
}

// newMember makes a member. peers is nil for the only one of its cluster, which has no port at all.
func newMember(t *testing.T, name string, peers map[string]url.URL) *member {
	t.Helper()
	dir, err := os.MkdirTemp("", "etcd") // short: the path of a socket is
	if err != nil {
		t.Fatal(err)
	}
	client := url.URL{Scheme: "unix", Path: filepath.Join(dir, "c.sock")}
	door := filepath.Join(dir, "door.sock")
	m := &member{t: t, url: "unix://" + door, relay: newRelay(t, door, client.Path), config: func() *embed.Config {
		c := embed.NewConfig()
		c.Name, c.Dir = name, filepath.Join(dir, "data")
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		c.ListenPeerUrls = nil
		c.TickMs, c.ElectionMs = 20, 200
		c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		if peers != nil {
			c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peers[name]}, []url.URL{peers[name]}
			var all []string
			for peer, u := range peers {
				all = append(all, peer+"="+u.String())
			}
			c.InitialCluster = strings.Join(all, ",")
		} else {
			c.InitialCluster = c.InitialClusterFromName(name)
		}
		return c
	}}
	t.Cleanup(func() {
		m.stop()
		_ = m.relay.listener.Close()
		m.relay.cut()
		m.relay.ended.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return m
}

// start returns when the member listens; a cluster is ready later.
func (m *member) start() {
	m.t.Helper()
	e, err := embed.StartEtcd(m.config())
	if err != nil {
		m.t.Fatal(err)
	}
	m.etcd = e
}

func (m *member) ready() {
	m.t.Helper()
	select {
	case <-m.etcd.Server.ReadyNotify():
	case <-time.After(patience):
		m.t.Fatal("etcd is not ready")
	}
}

func (m *member) stop() {
	if m.etcd != nil {
		m.etcd.Server.HardStop()
		m.relay.cut()
		m.etcd.Close()
		m.etcd = nil
	}
}

// live is a converge actor on a real etcd, in real time.
type live struct {
	*testing.T
	client *clientv3.Client
	parent *parent
	system *actor.ActorSystem
}

func newLive(t *testing.T, m *member, timeout time.Duration) *live {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	etcd, err := store.DialEtcd(ctx, store.DialOptions{Endpoints: []string{m.url}})
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	l := &live{T: t, client: etcd.Client(), system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return logger }))}
	l.parent = &parent{props: converge.Props(converge.Config{
		Run: run, Timeout: timeout, Store: quiet.Store{Client: l.client, Run: run}, Logger: logger,
	})}
	l.parent.begun = make(chan struct{})
	pid := l.system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return l.parent }))
	<-l.parent.begun
	t.Cleanup(func() {
		if err := l.system.Root.StopFuture(pid).Wait(); err != nil {
			t.Error(err)
		}
		l.system.Shutdown()
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *live) until(what string, ok func() bool) {
	l.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			l.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

// say is what a host does; it waits for an etcd that is away.
func (l *live) say(host, value string, opts ...clientv3.OpOption) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	var err error
	for { // a host tries for ever
		if _, err = l.client.Put(ctx, keys.Quiet(run, host), value, opts...); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		l.Error(err)
	}
}

// heard reports whether the last that was heard of a host is this.
func (l *live) heard(host string, quiet bool) func() bool {
	return func() bool {
		l.parent.mu.Lock()
		defer l.parent.mu.Unlock()
		last := false
		known := false
		for _, m := range l.parent.heard {
			if q, ok := m.(messages.QuietChanged); ok && q.Host == host {
				last, known = q.Quiet, true
			}
		}
		return known && last == quiet
	}
}

// settle makes hosts members that are attached and quiet.
func (l *live) settle(hosts ...string) {
	l.Helper()
	for _, h := range hosts {
		for _, m := range []any{messages.JoinGroup{Host: h}, messages.HostAttached{Host: h, Epoch: 1}} {
			l.system.Root.Send(l.parent.child, m)
		}
	}
	for _, h := range hosts {
		l.say(h, "true")
		l.until(h+" is quiet", l.heard(h, true))
	}
}

// none fails the test if the group converges within d.
func (l *live) none(d time.Duration) {
	l.Helper()
	over := time.After(d)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if all, _ := l.parent.converged(); len(all) != 0 {
			l.Fatalf("heard %+v", all)
		}
		select {
		case <-over:
			return
		case <-tick.C:
		}
	}
}

// convergesSince fails the test unless the group converges, and that so long after a moment.
func (l *live) convergesSince(since time.Time, timeout time.Duration) {
	l.Helper()
	l.until("converged", func() bool { all, _ := l.parent.converged(); return len(all) > 0 })
	if _, at := l.parent.converged(); at[0].Sub(since) < timeout {
		l.Errorf("after %v, want %v or more", at[0].Sub(since), timeout)
	}
}

// An etcd that is away while the clock runs, and that comes back with what it had: nothing is said meanwhile, and what
// hosts had to say in that time counts first.
func TestEtcdRestart(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	m := newMember(t, "m", nil)
	m.start()
	m.ready()
	l := newLive(t, m, timeout)
	l.settle("a", "b")
	m.stop()
	said := make(chan struct{})
	go func() {
		defer close(said)
		l.say("b", "false") // as soon as it can
	}()
	l.none(3 * timeout)
	m.start()
	m.ready()
	l.until("b is not quiet", l.heard("b", false))
	<-said
	l.none(2 * timeout)
	back := time.Now()
	l.say("b", "true")
	l.convergesSince(back, timeout)
}

// The same when nobody has anything to say: the time begins anew once the etcd is back.
func TestEtcdRestartOfAQuietGroup(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	m := newMember(t, "m", nil)
	m.start()
	m.ready()
	l := newLive(t, m, timeout)
	l.settle("a", "b")
	m.stop()
	l.none(3 * timeout)
	back := time.Now()
	m.start()
	m.ready()
	l.convergesSince(back, timeout)
}

// A lease that ends because nobody could renew it takes its host's word with it.
func TestEtcdRestartWithALostLease(t *testing.T) {
	t.Parallel()
	const timeout = 4 * time.Second
	m := newMember(t, "m", nil)
	m.start()
	m.ready()
	l := newLive(t, m, timeout)
	lease, err := l.client.Grant(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	l.settle("a", "b")
	l.say("b", "true", clientv3.WithLease(lease.ID))
	m.stop()
	m.start()
	m.ready()
	l.until("b is not quiet", l.heard("b", false))
	l.none(100 * time.Millisecond)
	back := time.Now()
	l.say("b", "true")
	l.convergesSince(back, timeout)
}

// Two of three members are gone: the third has the keys, and a watch that would stay open and say nothing.
func TestLeaderLoss(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	peers := map[string]url.URL{}
	for i := range 3 {
		peers[fmt.Sprintf("m%d", i)] = url.URL{Scheme: "http", Host: freePort(t)}
	}
	cluster := make([]*member, 3)
	for i := range cluster {
		cluster[i] = newMember(t, fmt.Sprintf("m%d", i), peers)
		cluster[i].start()
	}
	for _, m := range cluster {
		m.ready()
	}
	l := newLive(t, cluster[0], timeout)
	l.settle("a", "b")
	cluster[1].etcd.Server.HardStop() // both at once; the rest of a stop takes longer than the clock
	cluster[2].etcd.Server.HardStop()
	l.none(2 * timeout)
	cluster[1].stop()
	cluster[2].stop()
	back := time.Now()
	cluster[1].start()
	cluster[2].start()
	cluster[1].ready()
	cluster[2].ready()
	l.convergesSince(back, timeout)
}

// freePort is a port of the loopback that nobody uses.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// What happened while the watch was behind and was compacted away is found by listing again.
func TestCompactionWhileTheClockRuns(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	m := newMember(t, "m", nil)
	m.start()
	m.ready()
	l := newLive(t, m, timeout)
	l.settle("a", "b")
	for _, value := range []string{"false", "true", "false"} {
		l.say("a", value)
	}
	last, err := l.client.Put(t.Context(), keys.KV(run)+"x", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Compact(t.Context(), last.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	m.stop() // and the watch has to begin again at a revision that is not there any more
	m.start()
	m.ready()
	l.until("a is not quiet", l.heard("a", false))
	l.none(2 * timeout)
	back := time.Now()
	l.say("a", "true")
	l.convergesSince(back, timeout)
}
