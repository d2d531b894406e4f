package engine

import (
	"context"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// World is what the hosts of a run share. Its methods are safe for concurrent use.
//
// A call that needs the link waits while that is away, until ctx ends; an error is a refusal that trying again does not
// change (too large, not allowed), or ctx's.
type World interface {
	// Host is the name of this host in the run.
	Host() string

	// Get reads a key of what payloads share.
	Get(ctx context.Context, key string) (value string, found bool, err error)
	// Set writes it.
	Set(ctx context.Context, key, value string) error
	// Delete removes it; one that is not there is no error.
	Delete(ctx context.Context, key string) error
	// Watch calls ready once as soon as no change can be missed any more, and changed for each change of the key and
	// whenever changes may have been missed. It returns when ctx ends.
	Watch(ctx context.Context, key string, ready, changed func()) error

	// Offer makes an exported resource visible to all hosts; it returns when it is. It stays so over lost links until
	// it is offered anew or withdrawn.
	Offer(ctx context.Context, id graph.ID, data []byte) error
	// Offered is what Offer last made visible. It does not use the link.
	Offered(id graph.ID) (data []byte, ok bool)
	// Keep withdraws everything that this host offers but these, also what an earlier process of it offered. It does
	// not wait for that.
	Keep(ids []graph.ID)
}
