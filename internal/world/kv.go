package world

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

// Get reads a key of what payloads share. Like Set and Delete it waits while the link is away, until ctx ends; another
// error is a refusal of the initiator, in words.
func (w *World) Get(ctx context.Context, key string) (value string, found bool, err error) {
	err = persist(ctx, "read "+key, func(ctx context.Context) error {
		resp, err := w.client.Get(ctx, keys.KV(w.run)+key)
		if err == nil && len(resp.Kvs) > 0 {
			value, found = string(resp.Kvs[0].Value), true
		}
		return err
	})
	return value, found, err
}

// Set writes a key. When the link is lost at the wrong moment it may write twice.
func (w *World) Set(ctx context.Context, key, value string) error {
	return persist(ctx, "write "+key, func(ctx context.Context) error {
		_, err := w.client.Put(ctx, keys.KV(w.run)+key, value)
		return err
	})
}

// Delete removes a key; one that is not there is no error.
func (w *World) Delete(ctx context.Context, key string) error {
	return persist(ctx, "remove "+key, func(ctx context.Context) error {
		_, err := w.client.Delete(ctx, keys.KV(w.run)+key)
		return err
	})
}

// Watch calls ready once as soon as no change of a key can be missed any more, and changed for each change and whenever
// changes may have been missed, from one goroutine. It returns ctx's error, or a refusal.
func (w *World) Watch(ctx context.Context, key string, ready, changed func()) error {
	again := false
	for {
		err := w.watchOnce(ctx, key, func() {
			if again {
				changed()
				return
			}
			again = true
			ready()
		}, changed)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case refused(err):
			return fmt.Errorf("watch %s: the initiator refuses it: %s", key, words(err))
		}
		w.logger.Debug("lost the watch of a key", "key", key, "error", err)
		if !pause(ctx, retryDelay) {
			return ctx.Err()
		}
	}
}

// watchOnce watches until that ends; over lost links etcd's client goes on where it was.
func (w *World) watchOnce(ctx context.Context, key string, created, changed func()) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	begun := false
	for resp := range w.client.Watch(ctx, keys.KV(w.run)+key, clientv3.WithCreatedNotify()) {
		switch {
		case resp.Err() != nil:
			return watchEnded(ctx, begun, resp.Err())
		case resp.Created:
			begun = true
			created()
		case len(resp.Events) > 0:
			changed()
		}
	}
	return watchEnded(ctx, begun, nil)
}
