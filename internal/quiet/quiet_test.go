package quiet

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
	"github.com/mgmt-remote/mgmt-remote/internal/store"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

const run = "run12345"

// patience is how long a test waits for what must happen; it is only used up by a failing test.
const patience = time.Minute

func newStore(t *testing.T) Store {
	t.Helper()
	etcd, err := store.OpenEtcd(t.Context(), store.EtcdOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	})
	return Store{Client: etcd.Client(), Run: run}
}

// watch begins a watch that ends with the test.
func watch(t *testing.T, s Store) (changes chan Change, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	changes = make(chan Change, 1000)
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func(c Change) { changes <- c }) }()
	over := false
	stop = func() error {
		if over {
			return nil
		}
		over = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() { _ = stop() })
	return changes, stop
}

func expect(t *testing.T, changes <-chan Change, want ...Change) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-changes:
			if got.Host != w.Host || got.Quiet != w.Quiet {
				t.Fatalf("got %+v, want %+v", got, w)
			}
		case <-time.After(patience):
			t.Fatalf("%+v did not come", w)
		}
	}
}

func put(t *testing.T, s Store, host, value string) {
	t.Helper()
	if err := s.Put(t.Context(), map[string]string{keys.Quiet(run, host): value}); err != nil {
		t.Fatal(err)
	}
}

func TestListAndFollow(t *testing.T) {
	s := newStore(t)
	put(t, s, "a", "true")
	put(t, s, "b", "false")
	if err := s.Put(t.Context(), map[string]string{keys.Quiet("other123", "z"): "true", keys.State(run, "a"): "Running"}); err != nil {
		t.Fatal(err)
	}
	changes, stop := watch(t, s)
	expect(t, changes, Change{Host: "a", Quiet: true}, Change{Host: "b", Quiet: false})
	put(t, s, "b", "true")
	expect(t, changes, Change{Host: "b", Quiet: true})
	put(t, s, "b", "") // deleted
	expect(t, changes, Change{Host: "b", Quiet: false})
	if err := stop(); err == nil {
		t.Error("a watch that was ended by its context says nothing")
	}
	if len(changes) != 0 {
		t.Errorf("also came: %+v", <-changes)
	}
}

func TestTheEndOfALeaseIsNotQuiet(t *testing.T) {
	s := newStore(t)
	changes, _ := watch(t, s)
	lease, err := s.Client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Client.Put(t.Context(), keys.Quiet(run, "a"), "true", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	expect(t, changes, Change{Host: "a", Quiet: true})
	if _, err := s.Client.Revoke(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	expect(t, changes, Change{Host: "a", Quiet: false})
}

// What a compaction hides from a watch is found by listing again, a key that is gone too.
func TestCompaction(t *testing.T) {
	s := newStore(t)
	put(t, s, "a", "true")
	put(t, s, "b", "true")
	known := map[string]bool{"a": true, "b": true, "gone": true}
	changes := make(chan Change, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.follow(ctx, known, func(c Change) { changes <- c }) }()
	expect(t, changes, Change{Host: "a", Quiet: true}, Change{Host: "b", Quiet: true}, Change{Host: "gone", Quiet: false})
	cancel()
	<-ended
	if known["gone"] || !known["a"] {
		t.Errorf("known: %v", known)
	}
}

// What happened between the list and the watch is compacted away: Watch lists again.
func TestCompactionBetweenListAndWatch(t *testing.T) {
	s := newStore(t)
	put(t, s, "a", "true")
	put(t, s, "b", "true")
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan Change, 100)
	ended := make(chan error, 1)
	listed := false
	emit := func(c Change) {
		if !listed {
			listed = true
			put(t, s, "b", "")
			put(t, s, "a", "false")
			answer, err := s.Client.Put(t.Context(), keys.Quiet(run, "c"), "true")
			if err == nil {
				_, err = s.Client.Compact(t.Context(), answer.Header.Revision)
			}
			if err != nil {
				t.Error(err)
			}
		}
		changes <- c
	}
	go func() { ended <- s.Watch(ctx, emit) }()
	expect(t, changes, Change{Host: "a", Quiet: true}, Change{Host: "b", Quiet: true}, Change{Host: "a", Quiet: false}, Change{Host: "c", Quiet: true}, Change{Host: "b", Quiet: false})
	put(t, s, "c", "false")
	expect(t, changes, Change{Host: "c", Quiet: false})
	cancel()
	<-ended
}

func TestPutManyKeys(t *testing.T) {
	s := newStore(t)
	all := map[string]string{}
	for i := range 357 {
		all[keys.State(run, fmt.Sprintf("h%d", i))] = "Running"
	}
	if err := s.Put(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	count := func() int64 {
		got, err := s.Client.Get(t.Context(), keys.HostsPrefix(run), clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return got.Count
	}
	if n := count(); n != 357 {
		t.Errorf("%d keys", n)
	}
	for key := range all {
		all[key] = ""
	}
	if err := s.Put(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d keys left", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, map[string]string{keys.State(run, "a"): "x"}); err == nil {
		t.Error("a write with a context that ended succeeds")
	}
}

// What the watch told and what the etcd has is the same once everything was told: also for keys that are gone.
func TestRevisions(t *testing.T) {
	s := newStore(t)
	changes, _ := watch(t, s)
	last := map[string]int64{}
	for _, c := range []struct{ host, value string }{{"a", "true"}, {"b", "true"}, {"a", "false"}, {"b", ""}, {"a", "false"}} {
		put(t, s, c.host, c.value)
		told := <-changes
		if told.Host != c.host || told.Quiet != (c.value == "true") || told.Revision <= last[c.host] {
			t.Errorf("%+v after %v", told, last)
		}
		last[c.host] = told.Revision
	}
	put(t, s, "ab", "true")
	last["ab"] = (<-changes).Revision
	delete(last, "b") // it is gone
	for host, want := range map[string]map[string]int64{"": last, "a": {"a": last["a"]}, "b": {}} {
		if got, err := s.Revisions(t.Context(), host); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v; the watch told %v", host, got, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Revisions(ctx, ""); err == nil {
		t.Error("a question with a context that ended is answered")
	}
}

func TestDeletePrefix(t *testing.T) {
	s := newStore(t)
	all := map[string]string{keys.Exports(run, "ab") + "file/motd": "x", keys.State(run, "a"): "x"}
	for i := range 300 {
		all[fmt.Sprintf("%sfile/f%d", keys.Exports(run, "a"), i)] = "x"
	}
	if err := s.Put(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{300, 0} {
		if n, err := s.DeletePrefix(t.Context(), keys.Exports(run, "a")); err != nil || n != want {
			t.Errorf("deleted %d, %v; want %d", n, err, want)
		}
	}
	got, err := s.Client.Get(t.Context(), keys.Run(run), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil || got.Count != 2 {
		t.Errorf("left: %v, %v", got, err)
	}
}
