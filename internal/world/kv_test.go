package world

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/exports"
	"github.com/mgmt-remote/mgmt-remote/internal/gateway"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

func TestKV(t *testing.T) {
	r := newRig(t, gateway.Limits{RequestBytes: 10_000})
	a, b := r.open("a"), r.open("b")
	ctx := deadline(t)
	if v, found, err := b.Get(ctx, "x/y"); v != "" || found || err != nil {
		t.Errorf("%q %v %v", v, found, err)
	}
	if err := b.Delete(ctx, "x/y"); err != nil {
		t.Error(err)
	}
	for _, value := range []string{"1", ""} {
		if err := a.Set(ctx, "x/y", value); err != nil {
			t.Error(err)
		}
		if v, found, err := b.Get(ctx, "x/y"); v != value || !found || err != nil {
			t.Errorf("%q %v %v", v, found, err)
		}
	}
	want(t, r.admin(keys.KV("run1")), "x/y!")
	if err := b.Delete(ctx, "x/y"); err != nil {
		t.Error(err)
	}
	want(t, r.admin(keys.KV("run1")))
	begin := time.Now()
	if err := a.Set(ctx, "x", strings.Repeat("x", 20_000)); err == nil || !strings.Contains(err.Error(), "write x: the initiator refuses it") {
		t.Errorf("too large: %v", err)
	}
	if d := time.Since(begin); d > patience/2 { // it is not tried until there is no time left
		t.Errorf("a refusal took %v", d)
	}
	if a.Host() != "a" {
		t.Errorf("host %q", a.Host())
	}
}

// Calls wait over a link that is away, until their context ends.
func TestCallsWaitForTheLink(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	link := r.link("a")
	link.cut()
	a := link.join(ExportsTTL)
	defer func() { _ = a.Close(Unfinished) }()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.Set(short, "x", "0"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	set := make(chan error, 1)
	go func() { set <- a.Set(deadline(t), "x", "1") }()
	link.restore()
	if err := <-set; err != nil {
		t.Error(err)
	}
	if v, _, err := r.open("b").Get(deadline(t), "x"); v != "1" || err != nil {
		t.Errorf("%q %v", v, err)
	}
}

// watching is a watch of the key "x"; ready and changed have an element for each call.
type watching struct {
	ready, changed chan struct{}
}

func watch(t *testing.T, w *World) watching {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out := watching{make(chan struct{}, 100), make(chan struct{}, 100)}
	done := make(chan error, 1)
	go func() {
		done <- w.Watch(ctx, "x", func() { out.ready <- struct{}{} }, func() { out.changed <- struct{}{} })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch: %v", err)
		}
		if len(out.ready) > 0 {
			t.Error("ready twice")
		}
	})
	select {
	case <-out.ready:
	case <-time.After(patience):
		t.Fatal("never ready")
	}
	return out
}

func (w watching) wait(t *testing.T) {
	t.Helper()
	select {
	case <-w.changed:
	case <-time.After(patience):
		t.Fatal("no change was told")
	}
}

func TestWatch(t *testing.T) {
	r := newRig(t, gateway.Limits{})
	link := r.link("a")
	a, b := link.join(ExportsTTL), r.open("b")
	defer func() { _ = a.Close(Unfinished) }()
	ctx := deadline(t)
	set := func(key, value string) {
		t.Helper()
		if err := b.Set(ctx, key, value); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, a)
	set("xx", "not this one")
	set("x/x", "nor this")
	set("x", "1")
	w.wait(t)
	if err := b.Delete(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	w.wait(t)
	if len(w.changed) > 0 {
		t.Error("told of something else")
	}
	link.cut()
	set("x", "while the link is away")
	link.restore()
	w.wait(t)
	link.cut()
	set("x", "before the compaction")
	resp, err := r.etcd.Client().Get(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	set("x", "after")
	if _, err := r.etcd.Client().Compact(ctx, resp.Header.Revision+1); err != nil {
		t.Fatal(err)
	}
	link.restore()
	w.wait(t)
	r.down()
	r.up()
	set("x", "after the restart")
	w.wait(t)
}

func TestRefusedWatch(t *testing.T) {
	r := newRig(t, gateway.Limits{Watches: 1})
	a := r.open("a")
	watch(t, a)
	if err := a.Watch(deadline(t), "y", func() {}, func() {}); err == nil || !strings.Contains(err.Error(), "watch y: the initiator refuses it: mgmt-remote: host a: Watch.Watch: has too many watches") {
		t.Errorf("Watch: %v", err)
	}
	if err := a.WatchExports(deadline(t), func([]exports.Export) {}); err == nil || !strings.Contains(err.Error(), "watch exports: the initiator refuses it") {
		t.Errorf("WatchExports: %v", err)
	}
}
