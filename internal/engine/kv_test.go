package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/exports"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// sharedWorld is a World in memory.
type sharedWorld struct {
	mu       sync.Mutex
	keys     map[string]string
	watchers map[chan string]struct{}
	offered  map[graph.ID][]byte
	kept     []graph.ID
	refuse   error
}

func newSharedWorld() *sharedWorld {
	return &sharedWorld{keys: map[string]string{}, watchers: map[chan string]struct{}{}, offered: map[graph.ID][]byte{}}
}

func (*sharedWorld) Host() string { return "h1" }

func (w *sharedWorld) Get(_ context.Context, key string) (string, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	value, found := w.keys[key]
	return value, found, w.refuse
}

func (w *sharedWorld) Set(_ context.Context, key, value string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys[key] = value
	w.tell(key)
	return w.refuse
}

func (w *sharedWorld) Delete(_ context.Context, key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.keys, key)
	w.tell(key)
	return w.refuse
}

func (w *sharedWorld) tell(key string) {
	for c := range w.watchers {
		c <- key
	}
}

func (w *sharedWorld) Watch(ctx context.Context, key string, ready, changed func()) error {
	changes := make(chan string, 100)
	w.mu.Lock()
	w.watchers[changes] = struct{}{}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.watchers, changes)
		w.mu.Unlock()
	}()
	ready()
	for {
		select {
		case k := <-changes:
			if k == key {
				changed()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *sharedWorld) Offer(_ context.Context, id graph.ID, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse == nil {
		w.offered[id] = data
	}
	return w.refuse
}

func (w *sharedWorld) Offered(id graph.ID) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data, ok := w.offered[id]
	return data, ok
}

func (w *sharedWorld) Keep(ids []graph.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = slices.Clone(ids)
	maps.DeleteFunc(w.offered, func(id graph.ID, _ []byte) bool { return !slices.Contains(ids, id) })
}

func (w *sharedWorld) at(key string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	value, found := w.keys[key]
	if !found {
		return "nothing"
	}
	return value
}

func (w *sharedWorld) content(t *testing.T, id graph.ID) string {
	t.Helper()
	data, ok := w.Offered(id)
	if !ok {
		return "nothing"
	}
	f, err := exports.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return f.Content
}

func stringAt(s string) *string { return &s }

func kv(name string, spec graph.KV) graph.Resource {
	if spec.Key == "" {
		spec.Key = name
	}
	return res(graph.KindKV, name, &spec)
}

func TestKeysAreKept(t *testing.T) {
	w := newSharedWorld()
	w.keys["gone"] = "x"
	r := prepare(t, definition(
		kv("port", graph.KV{Value: stringAt("80")}), kv("mine", graph.KV{Value: stringAt("up"), Mapped: true}), kv("gone", graph.KV{}),
	), Options{World: w})
	r.begin()
	r.untilStatus(Quiet)
	if w.at("port") != "80" || w.at("mine/h1") != "up" || w.at("gone") != "nothing" {
		t.Errorf("%v", w.keys)
	}
	// What somebody else makes of it is put right.
	if err := w.Set(t.Context(), "port", "81"); err != nil {
		t.Fatal(err)
	}
	r.untilCount("kv[port]", Applied, 2)
	if err := w.Set(t.Context(), "gone", "again"); err != nil {
		t.Fatal(err)
	}
	r.untilCount("kv[gone]", Applied, 2)
	if w.at("port") != "80" || w.at("gone") != "nothing" {
		t.Errorf("%v", w.keys)
	}
	r.stop()
}

func TestSkipLessThan(t *testing.T) {
	for _, c := range []struct {
		stored, value string
		style         graph.CmpStyle
		want          string
	}{
		{"5", "3", graph.CmpInt, "5"}, {"5", "5", graph.CmpInt, "5"}, {"5", "7", graph.CmpInt, "7"}, {"10", "9", graph.CmpInt, "10"},
		{"x", "3", graph.CmpInt, "3"}, {"-1", "-2", graph.CmpInt, "-1"},
		{"b", "a", graph.CmpString, "b"}, {"b", "c", graph.CmpString, "c"}, {"10", "9", graph.CmpString, "9"},
	} {
		t.Run(fmt.Sprintf("%s,%s,%d", c.stored, c.value, c.style), func(t *testing.T) {
			w := newSharedWorld()
			w.keys["k"] = c.stored
			spec := &graph.KV{Key: "k", Value: &c.value, SkipLessThan: true, SkipCmpStyle: c.style}
			r := newKV(spec, w).(*kvResource)
			if _, err := r.apply(t.Context()); err != nil && !errors.Is(err, errUnchanged) {
				t.Fatal(err)
			}
			if got := w.at("k"); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			// A refresh writes it whatever is there.
			change, err := r.refreshChange(t.Context())
			if (change != "") != (c.want != c.value) || err != nil {
				t.Errorf("a refresh would %q, %v", change, err)
			}
			if _, err := r.refresh(t.Context()); err != nil || w.at("k") != c.value {
				t.Errorf("after the refresh it is %s, %v", w.at("k"), err)
			}
		})
	}
}

func TestKeysNeedARun(t *testing.T) {
	r := prepare(t, definition(kv("k", graph.KV{Value: stringAt("v")})), Options{})
	r.begin()
	r.untilStatus(Stuck)
	if e := r.last("kv[k]", Failed); !errors.Is(e.Err, errAlone) {
		t.Errorf("%+v", e)
	}
	r.stop()
}

func TestRefusedKeysFail(t *testing.T) {
	w := newSharedWorld()
	w.refuse = errors.New("too large")
	r := prepare(t, definition(kv("k", graph.KV{Value: stringAt("v")}), fileWith("@@m", "/m", "x")), Options{World: w})
	r.begin()
	r.untilStatus(Stuck)
	for _, id := range []string{"kv[k]", "file[@@m]"} {
		if e := r.last(id, Failed); !errors.Is(e.Err, w.refuse) {
			t.Errorf("%s: %+v", id, e)
		}
	}
	r.stop()
}

func TestExportsAreOfferedAndFollowTheirSource(t *testing.T) {
	dir, w := t.TempDir(), newSharedWorld()
	write(t, in(dir, "source"), "one")
	plain := fileWith("@@plain", "/etc/plain", "text")
	sourced := res(graph.KindFile, "@@sourced", &graph.File{Path: "/sourced", Source: in(dir, "source")})
	r := prepare(t, definition(plain, sourced), Options{World: w})
	r.begin()
	r.untilStatus(Quiet)
	if got := w.content(t, plain.ID) + "," + w.content(t, sourced.ID); got != "text,one" {
		t.Errorf("offered: %s", got)
	}
	write(t, in(dir, "source"), "two") // while it is written it is empty, and that may be offered, too
	r.until("the new content", func() bool { return w.content(t, sourced.ID) == "two" })
	// What is not exported any more is not kept; nothing was made on this machine.
	r.update(definition(plain))
	r.untilCount("file[@@sourced]", Released, 1)
	r.until("only what is exported is kept", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		_, offered := w.offered[sourced.ID]
		return !offered && slices.Equal(w.kept, []graph.ID{plain.ID})
	})
	r.stop()
}

func TestNoopOffersAndSetsNothing(t *testing.T) {
	w := newSharedWorld()
	r := prepare(t, definition(kv("k", graph.KV{Value: stringAt("v")}), fileWith("@@m", "/m", "x")), Options{World: w, Noop: true})
	r.begin()
	r.untilStatus(Quiet)
	if len(w.keys) != 0 || len(w.offered) != 0 {
		t.Errorf("%v, %v", w.keys, w.offered)
	}
	if e := r.last("file[@@m]", WouldApply); !strings.Contains(e.Change, "offer 1 bytes") {
		t.Errorf("%+v", e)
	}
	r.stop()
}

func TestTooLargeASourceIsRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, in(dir, "big"), strings.Repeat("x", exports.MaxContent+1))
	r := prepare(t, definition(res(graph.KindFile, "@@big", &graph.File{Path: "/big", Source: in(dir, "big")})), Options{World: newSharedWorld()})
	r.begin()
	r.untilStatus(Stuck)
	if e := r.last("file[@@big]", Failed); !strings.Contains(e.Err.Error(), "an exported file can have 512") {
		t.Errorf("%+v", e)
	}
	r.stop()
}
