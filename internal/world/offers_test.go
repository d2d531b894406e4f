package world

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmt-remote/mgmt-remote/internal/exports"
	"github.com/mgmt-remote/mgmt-remote/internal/gateway"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

func TestOffersAreSeenByAll(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	a, b := r.open("a"), r.open("b")
	seenA, seenB := listsOf(t, a), listsOf(t, b)
	seenB.until()
	if _, ok := a.Offered(file("x")); ok {
		t.Error("offered before it was")
	}
	put(t, a, "x", "1")
	put(t, b, "etc/y", "2")
	for _, s := range []*lists{seenA, seenB} {
		s.until("a:x=1", "b:etc/y=2")
	}
	put(t, a, "x", "3")
	if data, ok := a.Offered(file("x")); !ok || string(data) != "3" {
		t.Errorf("offered %q %v", data, ok)
	}
	seenB.until("a:x=3", "b:etc/y=2")
	a.Keep(nil)
	seenB.until("b:etc/y=2")
	if _, ok := a.Offered(file("x")); ok {
		t.Error("still offered")
	}
	if err := a.Offer(deadline(t), file("x"), nil); !errors.Is(err, errNotKept) || !strings.Contains(err.Error(), "export file[@@x]: ") {
		t.Errorf("offered what is not exported: %v", err)
	}
	a.Keep([]graph.ID{file("x")})
	put(t, a, "x", "4")
	seenB.until("a:x=4", "b:etc/y=2")
}

// Who has nothing to offer has no lease to keep.
func TestNoLeaseForNothing(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	a := r.open("a")
	listsOf(t, a).until()
	a.Keep(nil)
	put(t, r.open("b"), "x", "")
	until(t, "a quiet key", func() bool { return r.admin(keys.QuietPrefix("run1")) != nil })
	leases, err := r.etcd.Client().Leases(deadline(t))
	if err != nil || len(leases.Leases) > 3 {
		t.Errorf("leases %+v, %v: want two of b and one of a", leases, err)
	}
}

func TestLostLeaseOfExports(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	a := r.link("a").join(2) // seconds: how soon a lease that is gone is noticed
	defer func() { _ = a.Close(Unfinished) }()
	seen := listsOf(t, r.open("b"))
	put(t, a, "x", "1")
	put(t, a, "y", "2")
	seen.until("a:x=1", "a:y=2")
	holds := func() clientv3.LeaseID {
		resp, err := r.etcd.Client().Get(deadline(t), keys.Export("run1", "a", "file", "x"))
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Kvs) == 0 {
			return clientv3.NoLease
		}
		return clientv3.LeaseID(resp.Kvs[0].Lease)
	}
	// So short a lease may end by itself where the machine stands still for a moment; then the next one is revoked.
	old := clientv3.NoLease
	until(t, "a lease to revoke", func() bool {
		if old = holds(); old == clientv3.NoLease {
			return false
		}
		ttl, err := r.etcd.Client().TimeToLive(deadline(t), old)
		if err == nil && ttl.TTL >= 0 && ttl.GrantedTTL != 2 {
			t.Errorf("lease %+v", ttl)
		}
		_, revoked := r.etcd.Client().Revoke(deadline(t), old)
		if err := errors.Join(err, revoked); err != nil && !errors.Is(revoked, rpctypes.ErrLeaseNotFound) {
			t.Fatal(err)
		}
		return revoked == nil
	})
	seen.until()
	seen.until("a:x=1", "a:y=2")
	until(t, "both on another lease", func() bool {
		now := holds()
		return now != old && now != clientv3.NoLease && slices.Equal(r.admin(keys.Exports("run1", "a")), []string{"file/x", "file/y"})
	})
}

// until waits for what is not told.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick, over := time.NewTicker(5*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A link that is away for a while is nothing to the others, and what happened meanwhile is not missed.
func TestLinkAway(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	link := r.link("a")
	a, b := link.join(ExportsTTL), r.open("b")
	defer func() { _ = a.Close(Unfinished) }()
	seenA, seenB := listsOf(t, a), listsOf(t, b)
	put(t, a, "x", "1")
	put(t, a, "gone", "1")
	put(t, b, "y", "1")
	seenA.until("a:gone=1", "a:x=1", "b:y=1")
	seenB.until("a:gone=1", "a:x=1", "b:y=1")
	link.cut()
	offered := make(chan error, 1)
	go func() { offered <- a.Offer(deadline(t), file("x"), []byte("2")) }()
	short, cancel := context.WithCancel(deadline(t))
	cancel()
	if err := a.Offer(short, file("z"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("offer that nobody waits for: %v", err)
	}
	if data, ok := a.Offered(file("x")); !ok || string(data) != "1" {
		t.Errorf("offered %q %v", data, ok)
	}
	a.Keep([]graph.ID{file("x"), file("z")})
	put(t, b, "y", "2")
	seenB.while([]string{"a:x=1", "a:gone=1"}, "a:gone=1", "a:x=1", "b:y=2")
	link.restore()
	if err := <-offered; err != nil {
		t.Fatal(err)
	}
	seenA.until("a:x=2", "b:y=2")
	seenB.until("a:x=2", "b:y=2")
}

// After the lease has run out all exports come back with the link.
func TestLinkAwayForLongerThanTheLease(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	link := r.link("a")
	a := link.join(1)
	defer func() { _ = a.Close(Unfinished) }()
	seen, own := listsOf(t, r.open("b")), listsOf(t, a)
	put(t, a, "x", "1")
	put(t, a, "y", "1")
	seen.until("a:x=1", "a:y=1")
	own.until("a:x=1", "a:y=1")
	link.cut()
	seen.until()
	link.restore()
	seen.until("a:x=1", "a:y=1")
	put(t, a, "y", "2")
	own.until("a:x=1", "a:y=2")
}

func TestEtcdRestarts(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	a, b := r.open("a"), r.open("b")
	seen := listsOf(t, b)
	put(t, a, "x", "1")
	seen.until("a:x=1")
	r.down()
	offered := make(chan error, 1)
	go func() { offered <- a.Offer(deadline(t), file("y"), []byte("2")) }()
	r.up()
	if err := <-offered; err != nil {
		t.Fatal(err)
	}
	seen.while([]string{"a:x=1"}, "a:x=1", "a:y=2")
	if len(seen.emitted) > 0 {
		t.Errorf("%d lists more", len(seen.emitted))
	}
	want(t, r.admin(keys.Exports("run1", "a")), "file/x", "file/y")
}

// What was compacted away while the link was lost is listed again.
func TestCompaction(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	link := r.link("b")
	a, b := r.open("a"), link.join(ExportsTTL)
	defer func() { _ = b.Close(Unfinished) }()
	seen := listsOf(t, b)
	put(t, a, "x", "1")
	put(t, a, "gone", "1")
	seen.until("a:gone=1", "a:x=1")
	link.cut()
	other := listsOf(t, a)
	a.Keep([]graph.ID{file("x"), file("new")})
	put(t, a, "x", "2")
	put(t, a, "new", "2")
	other.until("a:new=2", "a:x=2")
	resp, err := r.etcd.Client().Get(deadline(t), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.etcd.Client().Compact(deadline(t), resp.Header.Revision); err != nil {
		t.Fatal(err)
	}
	link.restore()
	seen.until("a:new=2", "a:x=2")
	put(t, a, "x", "3") // it watches again
	seen.until("a:new=2", "a:x=3")
}

func TestEndings(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	seen := listsOf(t, r.open("z"))
	own := keys.Exports("run1", "a")
	session := func(ending Ending, keep []graph.ID, offers ...string) {
		t.Helper()
		a := r.link("a").join(ExportsTTL)
		a.Keep(keep)
		for _, name := range offers {
			put(t, a, name, "1")
		}
		if err := a.Close(ending); err != nil {
			t.Error(err)
		}
	}
	both := []graph.ID{file("x"), file("y")}
	session(Unfinished, both, "x", "y")
	want(t, r.admin(own))
	session(Finished, both, "x", "y")
	want(t, r.admin(own), "file/x!", "file/y!")
	seen.until("a:x=1", "a:y=1")
	// The next process of the host takes over what it declares as well; it hangs on a lease again, once offered.
	a := r.link("a").join(ExportsTTL)
	a.Keep([]graph.ID{file("y"), file("z")})
	seen.until("a:y=1")
	put(t, a, "z", "1")
	seen.until("a:y=1", "a:z=1")
	want(t, r.admin(own), "file/y!", "file/z")
	put(t, a, "y", "2")
	want(t, r.admin(own), "file/y", "file/z")
	if err := a.Close(Unfinished); err != nil {
		t.Error(err)
	}
	seen.until()
	leases, err := r.etcd.Client().Leases(deadline(t))
	if err != nil || len(leases.Leases) > 1 { // the quiet key's of z
		t.Errorf("leases left: %+v, %v", leases, err)
	}
}

func TestFinishWithoutALink(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	link := r.link("a")
	a := link.join(1)
	put(t, a, "x", "1")
	link.cut()
	a.finishLimit = closeLimit
	if err := a.Close(Finished); err == nil || !strings.Contains(err.Error(), "what this host exports goes with it") {
		t.Errorf("Close: %v", err)
	}
	seen := listsOf(t, r.open("b"))
	seen.until()
}

func TestRefusedOffers(t *testing.T) {
	r := newRig(t, gateway.Limits{RequestBytes: 10_000, WriteBytes: 12_000})
	a := r.open("a")
	put(t, a, "x", "1")
	err := a.Offer(deadline(t), file("big"), make([]byte, 20_000))
	if err == nil || !strings.Contains(err.Error(), "export file[@@big]: the initiator refuses it: ") || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("too large: %v", err)
	}
	put(t, a, "y", strings.Repeat("y", 9000))
	err = a.Offer(deadline(t), file("x"), make([]byte, 9000))
	if err == nil || !strings.Contains(err.Error(), "has written too much") {
		t.Errorf("too much: %v", err)
	}
	if data, ok := a.Offered(file("x")); !ok || string(data) != "1" {
		t.Errorf("the refused form is offered: %q, %v", data, ok)
	}
	if _, ok := a.Offered(file("big")); ok {
		t.Error("what was refused is offered")
	}
	listsOf(t, r.open("b")).until("a:x=1", "a:y="+strings.Repeat("y", 9000))
}

// An Offer that another one of the same resource overtakes ends.
func TestOfferedTwiceAtOnce(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	link := r.link("a")
	link.cut()
	a := link.join(ExportsTTL)
	defer func() { _ = a.Close(Unfinished) }()
	first, err := a.offers.ask(a.offers.key(file("x")), []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() { second <- a.Offer(deadline(t), file("x"), []byte("2")) }()
	if <-first.done; !errors.Is(first.err, errReplaced) {
		t.Errorf("the first one: %v", first.err)
	}
	link.restore()
	if err := <-second; err != nil {
		t.Error(err)
	}
	listsOf(t, r.open("b")).until("a:x=2")
}

// All exports together may be larger than an answer can be, and so may what changed while a link was away.
func TestMoreThanOneAnswerHolds(t *testing.T) {
	r := newRig(t, gateway.Limits{ResponseBytes: 3 << 20})
	link := r.link("b")
	a, b := r.open("a"), link.join(ExportsTTL)
	defer func() { _ = b.Close(Unfinished) }()
	var all []string
	add := func(i int) {
		data := strings.Repeat(fmt.Sprint(i%10), 400_000)
		put(t, a, fmt.Sprintf("x%03d", i), data)
		all = append(all, fmt.Sprintf("a:x%03d=%s", i, data))
	}
	for i := range 20 {
		add(i)
	}
	seen := listsOf(t, b)
	seen.check(all)
	link.cut()
	for i := 20; i < 40; i++ {
		add(i)
	}
	link.restore()
	seen.check(all)
}

// What is in the way of exports, or too large for one, never is a list's end.
func TestStrangeKeys(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	a := r.open("a")
	for key, value := range map[string]string{
		keys.Exports("run1", "c"):                          "no kind",
		keys.Exports("run1", "c") + "file/":                "no name",
		keys.Export("run1", "c", "file", "x"):              "1",
		keys.Export("run2", "c", "file", "other run"):      "1",
		keys.Export("run1", "c", "exec", "../x\x00"):       "2",
		keys.Export("run1", "c", "file", "large"):          strings.Repeat("x", exports.MaxEncoded+1),
		keys.ExportsPrefix("run1") + "/file/of nobody":     "",
		keys.Export("run1", "a-b", "file", "a before a-b"): "3",
		keys.Export("run1", "a", "file", "z"):              "4",
	} {
		if _, err := r.etcd.Client().Put(deadline(t), key, value); err != nil {
			t.Fatal(err)
		}
	}
	listsOf(t, a).until("a:z=4", "a-b:a before a-b=3", "c:../x\x00=2", "c:large=", "c:x=1")
}

// Whatever hosts do with bad links, in the end all see what they offer.
func TestManyHostsWithBadLinks(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	const hosts = 4
	var seen []*lists
	final := make([][]string, hosts)
	var links []*link
	done := make(chan error, hosts)
	for i := range hosts {
		host := fmt.Sprintf("h%d", i)
		link := r.link(host)
		w := link.join(ExportsTTL)
		t.Cleanup(func() { _ = w.Close(Unfinished) })
		links, seen = append(links, link), append(seen, listsOf(t, w))
		dice := rand.New(rand.NewPCG(1, uint64(i)))
		go func() {
			var err error
			for range 30 {
				name := fmt.Sprint("x", dice.IntN(5))
				if dice.IntN(4) == 0 {
					kept := []graph.ID{file(name), file("last")}
					w.Keep(kept)
				}
				w.Keep([]graph.ID{file("x0"), file("x1"), file("x2"), file("x3"), file("x4"), file("last")})
				err = errors.Join(err, w.Offer(deadline(t), file(name), fmt.Append(nil, dice.Int())))
			}
			w.Keep([]graph.ID{file("x0"), file("last")})
			for _, name := range []string{"last", "x0"} {
				err = errors.Join(err, w.Offer(deadline(t), file(name), []byte(host)))
				final[i] = append(final[i], host+":"+name+"="+host)
			}
			done <- err
		}()
	}
	for range 10 {
		l := links[rand.N(hosts)]
		l.cut()
		l.restore()
	}
	for range hosts {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, s := range seen {
		s.until(slices.Concat(final...)...)
	}
}
