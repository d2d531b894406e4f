package converge_test

import (
	"context"
	"errors"
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
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"github.com/mgmt-remote/mgmt-remote/actors/converge"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
	"github.com/mgmt-remote/mgmt-remote/internal/quiet"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// patience is how long a test waits for something that has to happen.
const patience = time.Minute

// member is an etcd that can be stopped, and started again with the data and the addresses that it had.
type member struct {
	t      *testing.T
	config func() *embed.Config
	etcd   *embed.Etcd // nil while it is stopped
	relay  *relay
	url    string // for clients, through the relay
}

// relay is where clients connect: with their connections gone, an etcd stops in a moment, not in seconds. It can be shut.
type relay struct {
	listener net.Listener
	target   string
	ended    sync.WaitGroup

	mu     sync.Mutex
	isShut bool
	conns  map[net.Conn]bool
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
	if r.isShut {
		r.mu.Unlock()
		return
	}
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

// shut closes all connections, and new ones at once.
func (r *relay) shut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isShut = true
	for c := range r.conns {
		_ = c.Close()
	}
}

func (r *relay) open() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isShut = false
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
			c.TickMs, c.ElectionMs = 100, 1000 // on a busy machine, a leader must not be thought lost all the time
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
		m.relay.shut()
		m.relay.ended.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return m
}

// startAll returns when all members are ready; clients reach those whose relay is not shut.
func startAll(t *testing.T, members ...*member) {
	t.Helper()
	for _, m := range members {
		e, err := embed.StartEtcd(m.config())
		if err != nil {
			t.Fatal(err)
		}
		m.etcd = e
	}
	for _, m := range members {
		select {
		case <-m.etcd.Server.ReadyNotify():
		case <-time.After(patience):
			t.Fatal("etcd is not ready")
		}
	}
}

// start returns when the member is ready and reached.
func (m *member) start() {
	m.t.Helper()
	startAll(m.t, m)
	m.relay.open()
}

func (m *member) stop() {
	if m.etcd != nil {
		m.etcd.Server.HardStop()
		m.relay.shut()
		m.etcd.Close()
		m.etcd = nil
	}
}

// itself gives do a client of the etcd that needs no relay.
func (m *member) itself(do func(context.Context, *clientv3.Client) error) {
	m.t.Helper()
	client := v3client.New(m.etcd.Server)
	defer func() { _ = client.Close() }() // always says that its own context was canceled
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	if err := do(ctx, client); err != nil {
		m.t.Fatal(err)
	}
}

// write writes a key while the relay is shut.
func (m *member) write(key, value string) (revision int64) {
	m.t.Helper()
	m.itself(func(ctx context.Context, client *clientv3.Client) error {
		resp, err := client.Put(ctx, key, value)
		if err == nil {
			revision = resp.Header.Revision
		}
		return err
	})
	return revision
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
func (l *live) say(host, value string) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	for { // a host tries for ever
		_, err := l.client.Put(ctx, keys.Quiet(run, host), value)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			l.Fatal(err)
		}
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

// join makes hosts members that are attached.
func (l *live) join(hosts ...string) {
	for _, h := range hosts {
		for _, m := range []any{messages.JoinGroup{Host: h}, messages.HostAttached{Host: h, Epoch: 1}} {
			l.system.Root.Send(l.parent.child, m)
		}
	}
}

// quiet makes hosts quiet.
func (l *live) quiet(hosts ...string) {
	l.Helper()
	for _, h := range hosts {
		l.say(h, "true")
		l.until(h+" is quiet", l.heard(h, true))
	}
}

// whileTheClockRuns makes an actor with the members a and b, and does something while its clock runs. Where the clock may
// have run out before that was done, it undoes it and begins anew, with a slower clock.
func whileTheClockRuns(t *testing.T, m *member, timeout time.Duration, do, undo func()) (*live, time.Duration) {
	t.Helper()
	for ; ; timeout *= 2 {
		l := newLive(t, m, timeout)
		began := time.Now()
		l.join("a", "b")
		l.quiet("a", "b")
		do()
		if time.Since(began) < timeout {
			return l, timeout
		}
		if timeout > patience {
			t.Fatal("the machine is too slow for this test")
		}
		undo()
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
	m := newMember(t, "m", nil)
	m.start()
	l, timeout := whileTheClockRuns(t, m, time.Second, m.stop, m.start)
	l.none(3 * timeout)
	startAll(t, m)
	m.write(keys.Quiet(run, "b"), "false")
	m.relay.open()
	l.until("b is not quiet", l.heard("b", false))
	l.none(2 * timeout)
	back := time.Now()
	l.say("b", "true")
	l.convergesSince(back, timeout)
}

// The same when nobody has anything to say: the time begins anew once the etcd is back.
func TestEtcdRestartOfAQuietGroup(t *testing.T) {
	t.Parallel()
	m := newMember(t, "m", nil)
	m.start()
	l, timeout := whileTheClockRuns(t, m, time.Second, m.stop, m.start)
	l.none(3 * timeout)
	back := time.Now()
	m.start()
	l.convergesSince(back, timeout)
}

// A lease that ends because nobody could renew it takes its host's word with it.
func TestEtcdRestartWithALostLease(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	m := newMember(t, "m", nil)
	m.start()
	l := newLive(t, m, timeout)
	l.join("a", "b")
	l.quiet("b")
	for { // so short a lease may end before anything hangs on it
		lease, err := l.client.Grant(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.client.Put(t.Context(), keys.Quiet(run, "b"), "true", clientv3.WithLease(lease.ID))
		if err == nil {
			break
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Fatal(err)
		}
	}
	m.stop()
	m.start()
	l.until("b is not quiet", l.heard("b", false))
	l.quiet("a")
	l.none(2 * timeout)
	back := time.Now()
	l.say("b", "true")
	l.convergesSince(back, timeout)
}

// Two of three members are gone: the third has the keys, and a watch that would stay open and say nothing.
func TestLeaderLoss(t *testing.T) {
	t.Parallel()
	peers := map[string]url.URL{}
	for i := range 3 {
		peers[fmt.Sprintf("m%d", i)] = url.URL{Scheme: "http", Host: peerAddress(i)}
	}
	cluster := make([]*member, 3)
	for i := range cluster {
		cluster[i] = newMember(t, fmt.Sprintf("m%d", i), peers)
	}
	startAll(t, cluster...)
	others := cluster[1:]
	restart := func() {
		for _, m := range others {
			m.stop()
		}
		startAll(t, others...)
	}
	l, timeout := whileTheClockRuns(t, cluster[0], 2*time.Second, func() {
		for _, m := range others {
			m.etcd.Server.HardStop() // both at once; the rest of a stop takes longer than the clock
		}
	}, restart)
	l.none(2 * timeout)
	back := time.Now()
	restart()
	l.convergesSince(back, timeout)
}

// peerAddress is an address that nobody else uses, also while the member that has it is stopped: a port that the system
// gives to nobody, of an address of the loopback that belongs to this process.
func peerAddress(member int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+pid>>16&0x7f, pid>>8&0xff, pid&0xff, 23800+member)
}

// What happened while the watch was behind and was compacted away is found by listing again.
func TestCompactionWhileTheClockRuns(t *testing.T) {
	t.Parallel()
	m := newMember(t, "m", nil)
	m.start()
	l, timeout := whileTheClockRuns(t, m, 2*time.Second, m.relay.shut, m.relay.open)
	for _, value := range []string{"false", "true", "false"} {
		m.write(keys.Quiet(run, "a"), value)
	}
	last := m.write(keys.KV(run)+"x", "")
	m.itself(func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Compact(ctx, last, clientv3.WithCompactPhysical())
		return err
	})
	m.relay.open() // and the watch has to begin again at a revision that is not there any more
	l.until("a is not quiet", l.heard("a", false))
	l.none(2 * timeout)
	back := time.Now()
	l.say("a", "true")
	l.convergesSince(back, timeout)
}
