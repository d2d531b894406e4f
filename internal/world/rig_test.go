package world

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmt-remote/mgmt-remote/internal/exports"
	"github.com/mgmt-remote/mgmt-remote/internal/gateway"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
)

// rig is an initiator's etcd with its gateway, and links of hosts to it.
type rig struct {
	t      testing.TB
	dir    string
	limits gateway.Limits
	etcd   *store.Etcd

	mu sync.Mutex
	gw *gateway.Gateway // nil while the initiator is away
}

func newRig(t testing.TB, limits gateway.Limits) *rig {
	t.Helper()
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "etcd"), limits: limits}
	r.up()
	t.Cleanup(func() {
		if r.etcd != nil {
			r.down()
		}
	})
	return r
}

// up starts the initiator, with what it left behind.
func (r *rig) up() {
	r.t.Helper()
	e, err := store.OpenEtcd(context.Background(), store.EtcdOptions{Dir: r.dir})
	if err != nil {
		r.t.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{Etcd: e, Run: "run1", Limits: r.limits})
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.etcd, r.gw = e, g
	r.mu.Unlock()
}

func (r *rig) down() {
	r.t.Helper()
	r.mu.Lock()
	g := r.gw
	r.gw = nil
	r.mu.Unlock()
	if err := g.Close(); err != nil {
		r.t.Error(err)
	}
	if err := r.etcd.Close(); err != nil {
		r.t.Error(err)
	}
	r.etcd = nil
}

// link is a host's way to the gateway; it can be cut.
type link struct {
	rig        *rig
	host, path string
	group      sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

func (r *rig) link(host string) *link {
	l := &link{rig: r, host: host, path: filepath.Join(r.t.TempDir(), "s")}
	l.restore()
	r.t.Cleanup(l.cut)
	return l
}

func (l *link) restore() {
	listener, err := net.Listen("unix", l.path)
	if err != nil {
		l.rig.t.Fatal(err)
	}
	l.mu.Lock()
	l.listener = listener
	l.mu.Unlock()
	l.group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.mu.Lock()
			if l.listener != listener { // cut meanwhile
				l.mu.Unlock()
				_ = conn.Close()
				return
			}
			l.conns = append(l.conns, conn)
			l.mu.Unlock()
			l.rig.mu.Lock()
			if g := l.rig.gw; g != nil {
				g.Handle(l.host, conn)
			} else {
				_ = conn.Close()
			}
			l.rig.mu.Unlock()
		}
	})
}

func (l *link) cut() {
	l.mu.Lock()
	if l.listener != nil {
		_ = l.listener.Close()
	}
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.listener, l.conns = nil, nil
	l.mu.Unlock()
	l.group.Wait()
}

// join opens a World on a link. Whoever wants an ending of his own closes it before the test ends.
func (l *link) join(exportsTTL int64) *World {
	l.rig.t.Helper()
	w, err := start(Options{Endpoints: []string{"unix://" + l.path}, Run: "run1", Host: l.host}, exportsTTL)
	if err != nil {
		l.rig.t.Fatal(err)
	}
	w.closeLimit, w.finishLimit = patience, patience
	return w
}

// open is a World of a host with a link that nobody cuts.
func (r *rig) open(host string) *World {
	r.t.Helper()
	w := r.link(host).join(ExportsTTL)
	r.t.Cleanup(func() { _ = w.Close(Unfinished) }) // the rig may be down
	return w
}

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func file(name string) graph.ID { return graph.ID{Kind: graph.KindFile, Name: "@@" + name} }

func put(t testing.TB, w *World, name, data string) {
	t.Helper()
	if err := w.Offer(deadline(t), file(name), []byte(data)); err != nil {
		t.Fatalf("offer %s: %v", name, err)
	}
}

// lists follows what a World sees of all exports, each written as host:name=data.
type lists struct {
	t       testing.TB
	emitted chan []string
	last    []string
}

func listsOf(t testing.TB, w *World) *lists {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &lists{t: t, emitted: make(chan []string, 10_000)}
	done := make(chan error, 1)
	go func() {
		done <- w.WatchExports(ctx, func(all []exports.Export) {
			if !slices.IsSortedFunc(all, exports.Compare) {
				t.Error("not in order")
			}
			list := make([]string, 0, len(all))
			for _, e := range all {
				list = append(list, e.Host+":"+e.Name+"="+string(e.Data))
			}
			l.emitted <- list
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("WatchExports: %v", err)
		}
	})
	return l
}

// until waits until the newest list is this one.
func (l *lists) until(want ...string) {
	l.t.Helper()
	l.check(want)
}

// while waits likewise, and fails when a list lacks one of these meanwhile.
func (l *lists) while(stays []string, want ...string) {
	l.t.Helper()
	l.check(want, stays...)
}

func (l *lists) check(want []string, stays ...string) {
	l.t.Helper()
	over := time.After(patience)
	for {
		if l.last != nil && slices.Equal(l.last, want) {
			return
		}
		select {
		case l.last = <-l.emitted:
			for _, s := range stays {
				if !slices.Contains(l.last, s) {
					l.t.Fatalf("%s is missing in %q", s, l.last)
				}
			}
		case <-over:
			l.t.Fatalf("the newest list is %q, want %q", l.last, want)
		}
	}
}

// admin reads what is in etcd under a prefix, with "!" after what hangs on no lease.
func (r *rig) admin(prefix string) (list []string) {
	r.t.Helper()
	resp, err := r.etcd.Client().Get(deadline(r.t), prefix, clientv3.WithPrefix())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		s := string(kv.Key)[len(prefix):]
		if kv.Lease == 0 {
			s += "!"
		}
		list = append(list, s)
	}
	return list
}
