// Package quiet is the initiator's side of a run's keys: it reads those in which hosts say whether they have something
// to do, writes what the initiator says of them, and removes what a host leaves. It decides nothing; the converge actor
// does.
package quiet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

const (
	// askLimit bounds one request; etcd's client would wait for ever for one that can't be reached.
	askLimit = 10 * time.Second
	// perWrite is how many keys go into one transaction: etcd's own default limit is 128 operations (--max-txn-ops).
	perWrite = 100
)

// Change is what one host's key says now. A key that is gone says "not quiet": the host's lease ended.
type Change struct {
	Host  string
	Quiet bool
	// Revision is that of the key's last change, see Store.Revisions; 0 where the key was found to be gone.
	Revision int64
}

// Store is the keys of one run in one etcd. The client is the caller's, who closes it.
type Store struct {
	Client *clientv3.Client
	Run    string
}

// Watch lists the keys and then follows them from the next revision on; after a compaction it lists again. emit is
// called from this goroutine, at least once for each key that is there. It returns when ctx ends or the watch can't
// go on; then Watch may be called again.
func (s Store) Watch(ctx context.Context, emit func(Change)) error {
	known := map[string]bool{}
	for {
		err := s.follow(ctx, known, emit)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
	}
}

func (s Store) follow(ctx context.Context, known map[string]bool, emit func(Change)) error {
	// Without a leader the server would keep the watch open and say nothing.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	prefix := keys.QuietPrefix(s.Run)
	list, err := s.Client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	listed := map[string]bool{}
	for _, kv := range list.Kvs {
		if host, ok := keys.HostOfQuiet(s.Run, string(kv.Key)); ok {
			listed[host] = true
			known[host] = true
			emit(Change{host, string(kv.Value) == "true", kv.ModRevision})
		}
	}
	for host := range known {
		if !listed[host] {
			delete(known, host)
			emit(Change{Host: host})
		}
	}
	for answer := range s.Client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(list.Header.Revision+1)) {
		if err := answer.Err(); err != nil {
			return fmt.Errorf("watch %s: %w", prefix, err)
		}
		for _, event := range answer.Events {
			host, ok := keys.HostOfQuiet(s.Run, string(event.Kv.Key))
			if !ok {
				continue
			}
			known[host] = true
			emit(Change{host, event.Type == clientv3.EventTypePut && string(event.Kv.Value) == "true", event.Kv.ModRevision})
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("watch %s: ended by the server", prefix)
}

// Revisions returns the revision of the last change of the host's quiet key, if it has one, or where host is "" that of each host, as the
// whole cluster sees it at this moment (a linearizable read). It fails where the cluster can't be reached or has no leader. A watch alone can't tell:
// while its connection is away, etcd's client makes it wait in silence.
func (s Store) Revisions(ctx context.Context, host string) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), askLimit)
	defer cancel()
	key, which := keys.Quiet(s.Run, host), []clientv3.OpOption{clientv3.WithKeysOnly()}
	if host == "" {
		key, which = keys.QuietPrefix(s.Run), append(which, clientv3.WithPrefix())
	}
	list, err := s.Client.Get(ctx, key, which...)
	if err == nil {
		err = ctx.Err() // an etcd in this process may answer all the same
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", key, err)
	}
	revisions := make(map[string]int64, len(list.Kvs))
	for _, kv := range list.Kvs {
		if host, ok := keys.HostOfQuiet(s.Run, string(kv.Key)); ok {
			revisions[host] = kv.ModRevision
		}
	}
	return revisions, nil
}

// Put writes keys in as few transactions as etcd allows; an empty value deletes a key.
func (s Store) Put(ctx context.Context, values map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	ops := make([]clientv3.Op, 0, len(values))
	for key, value := range values {
		if value == "" {
			ops = append(ops, clientv3.OpDelete(key))
		} else {
			ops = append(ops, clientv3.OpPut(key, value))
		}
	}
	for chunk := range slices.Chunk(ops, perWrite) {
		if _, err := s.Client.Txn(ctx).Then(chunk...).Commit(); err != nil {
			return fmt.Errorf("write %d keys: %w", len(chunk), err)
		}
	}
	return nil
}

// DeletePrefix deletes all keys that begin with a prefix and returns how many there were.
func (s Store) DeletePrefix(ctx context.Context, prefix string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	answer, err := s.Client.Delete(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return 0, fmt.Errorf("delete %s: %w", prefix, err)
	}
	return answer.Deleted, nil
}
