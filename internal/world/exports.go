package world

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/mgmt-remote/mgmt-remote/internal/exports"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

const (
	// gather is how long changes of exports are gathered before they are passed on: hosts offer many things at once.
	gather = 30 * time.Millisecond
	// pageSize is how many exports are asked for at once, at first. A page that is too large for one answer is halved.
	pageSize = 256
)

// WatchExports calls emit with all exports of the run, this host's own too, in the order of exports.Compare: once when it
// has them, then whenever something about them has changed, with all of them again. It calls from its own goroutine, one
// call at a time, and never changes a list that it passed on. While the link is away nothing is emitted, and after
// that only if something is different. It returns ctx's error, or a refusal.
func (w *World) WatchExports(ctx context.Context, emit func([]exports.Export)) error {
	f := follower{world: w, emit: emit}
	for {
		err := f.follow(clientv3.WithRequireLeader(ctx))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case refused(err):
			return fmt.Errorf("watch exports: the initiator refuses it: %s", words(err))
		}
		w.logger.Debug("lost the watch of what hosts export, listing again", "error", err)
		if !pause(ctx, retryDelay) {
			return ctx.Err()
		}
	}
}

// follower knows all exports of a run.
type follower struct {
	world   *World
	emit    func([]exports.Export)
	entries map[string]entry // by key; nil before the first list
}

type entry struct {
	export   exports.Export
	revision int64 // of the last change
}

// follow lists, and then follows the changes until that fails. What happened between an earlier list and this one
// shows in the list.
func (f *follower) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	entries, revision, err := f.list(ctx)
	if err != nil {
		return err
	}
	if first := f.entries == nil; first || !same(f.entries, entries) {
		f.entries = entries
		f.tell()
	}
	prefix := keys.ExportsPrefix(f.world.run)
	changes := f.world.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithCreatedNotify(),
		clientv3.WithFragment()) // all that was missed comes at once, and may be larger than an answer can be
	timer := time.NewTimer(gather)
	timer.Stop()
	defer timer.Stop()
	begun, gathering := false, false
	for {
		select {
		case resp, open := <-changes:
			if err := resp.Err(); err != nil || !open {
				return watchEnded(ctx, begun, err)
			}
			begun = true
			for _, ev := range resp.Events {
				f.apply(ev)
			}
			if !gathering && len(resp.Events) > 0 {
				gathering = true
				timer.Reset(gather)
			}
		case <-timer.C:
			gathering = false
			f.tell()
		}
	}
}

func (f *follower) apply(ev *clientv3.Event) {
	if ev.Type == clientv3.EventTypeDelete {
		delete(f.entries, string(ev.Kv.Key))
		return
	}
	f.add(f.entries, ev.Kv)
}

// add takes in a key; one that is no export is left out.
func (f *follower) add(entries map[string]entry, kv *mvccpb.KeyValue) {
	host, kind, name, ok := keys.ParseExport(f.world.run, string(kv.Key))
	if !ok {
		return
	}
	e := exports.Export{Host: host, Kind: graph.Kind(kind), Name: name, Size: len(kv.Value)}
	if len(kv.Value) <= exports.MaxEncoded {
		e.Data = kv.Value
	}
	entries[string(kv.Key)] = entry{export: e, revision: kv.ModRevision}
}

// tell emits all exports.
func (f *follower) tell() {
	list := make([]exports.Export, 0, len(f.entries))
	for _, e := range f.entries {
		list = append(list, e.export)
	}
	slices.SortFunc(list, exports.Compare)
	f.emit(list)
}

// list reads all exports as they are at one revision, in pages: together they may be larger than an answer can be.
func (f *follower) list(ctx context.Context) (entries map[string]entry, revision int64, err error) {
	entries = make(map[string]entry)
	key, end, limit := keys.ExportsPrefix(f.world.run), keys.RangeEnd(keys.ExportsPrefix(f.world.run)), int64(pageSize)
	for {
		var page *clientv3.GetResponse
		err := once(ctx, func(ctx context.Context) (err error) {
			page, err = f.world.client.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(limit), clientv3.WithRev(revision))
			return err
		})
		switch {
		case code(err) == codes.ResourceExhausted && limit > 1:
			limit /= 2
			continue
		case err != nil:
			return nil, 0, err
		}
		if revision == 0 {
			revision = page.Header.Revision
		}
		for _, kv := range page.Kvs {
			f.add(entries, kv)
		}
		if !page.More {
			return entries, revision, nil
		}
		key = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func same(a, b map[string]entry) bool {
	return maps.EqualFunc(a, b, func(x, y entry) bool { return x.revision == y.revision })
}
