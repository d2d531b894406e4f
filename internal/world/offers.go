package world

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

var (
	errNotKept  = errors.New("it is not exported any more")
	errReplaced = errors.New("it was offered again in another form")
)

// offers says what the host offers to the others. Callers say what should be; a keeper makes it so.
type offers struct {
	run, host string
	wake      chan struct{} // has an element when the keeper has something to do

	mu    sync.Mutex
	shown map[string]*offer   // by key: what others see, or will see again when the link is back
	asked map[string]*offer   // by key: what an Offer waits for
	keep  map[string]struct{} // what Keep named last; nil before the first
	sweep bool                // there may be keys that are not to be kept
}

// offer is one exported resource in one form.
type offer struct {
	data  []byte
	lease clientv3.LeaseID // that it is known to hang on; NoLease = it has to be written
	done  chan struct{}    // closed when others see it, or never will
	err   error            // why they never will; set before done is closed
}

func (o *offer) end(err error) {
	o.err = err
	close(o.done)
}

func newOffers(run, host string) *offers {
	return &offers{
		run: run, host: host, wake: make(chan struct{}, 1),
		shown: make(map[string]*offer), asked: make(map[string]*offer),
	}
}

func (o *offers) key(id graph.ID) string {
	return keys.Export(o.run, o.host, string(id.Kind), strings.TrimPrefix(id.Name, graph.ExportMark))
}

// Offer makes an exported resource visible to all hosts of the run; it returns when it is. While the link is away it
// waits, until ctx ends. Other errors are refusals, also that the last Keep did not name it. Nobody may change data
// after that.
func (w *World) Offer(ctx context.Context, id graph.ID, data []byte) error {
	key := w.offers.key(id)
	mine, err := w.offers.ask(key, data)
	if err == nil {
		select {
		case <-mine.done:
			err = mine.err
		case <-ctx.Done():
			w.offers.giveUp(key, mine)
			return ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("export %s: %w", id, err)
	}
	return nil
}

// Offered is what Offer last made visible. It does not use the link. Nobody may change the data.
func (w *World) Offered(id graph.ID) (data []byte, ok bool) {
	o := w.offers
	o.mu.Lock()
	defer o.mu.Unlock()
	if it, is := o.shown[o.key(id)]; is {
		return it.data, true
	}
	return nil, false
}

// Keep withdraws everything that this host offers but these, also what an earlier process of it offered. It does not
// wait for that. What it does not name can't be offered until the next Keep does.
func (w *World) Keep(ids []graph.ID) {
	o := w.offers
	keep := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		keep[o.key(id)] = struct{}{}
	}
	o.mu.Lock()
	o.keep, o.sweep = keep, true
	for key := range o.shown {
		if _, is := keep[key]; !is {
			delete(o.shown, key)
		}
	}
	for key, it := range o.asked {
		if _, is := keep[key]; !is {
			delete(o.asked, key)
			it.end(errNotKept)
		}
	}
	o.mu.Unlock()
	signal(o.wake)
}

func (o *offers) ask(key string, data []byte) (*offer, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, is := o.keep[key]; o.keep != nil && !is {
		return nil, errNotKept
	}
	if old, waits := o.asked[key]; waits {
		old.end(errReplaced)
	}
	mine := &offer{data: data, done: make(chan struct{})}
	o.asked[key] = mine
	signal(o.wake)
	return mine, nil
}

// giveUp forgets an offer that nobody waits for any more. It may have been written all the same.
func (o *offers) giveUp(key string, mine *offer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asked[key] == mine {
		delete(o.asked, key)
		o.doubt(key)
	}
}

// doubt notes that it isn't known what is written under a key.
func (o *offers) doubt(key string) {
	if it, is := o.shown[key]; is {
		it.lease = clientv3.NoLease
		signal(o.wake)
	}
}

// due are offers that have to be written now, by key, most of them at once: first what somebody waits for, then what
// does not hang on the lease.
func (o *offers) due(lease clientv3.LeaseID, most int) map[string]*offer {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make(map[string]*offer)
	for key, it := range o.asked {
		if len(list) == most {
			return list
		}
		list[key] = it
	}
	for key, it := range o.shown {
		if _, is := list[key]; is || it.lease == lease {
			continue
		}
		if len(list) == most {
			return list
		}
		list[key] = it
	}
	return list
}

// settle notes what came of writing an offer. It is true when an error was told to the one who waits for the offer.
func (o *offers) settle(key string, it *offer, lease clientv3.LeaseID, err error) (told bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err != nil && refused(err) && o.asked[key] == it:
		delete(o.asked, key)
		it.end(fmt.Errorf("the initiator refuses it: %s", words(err)))
		return true
	case err != nil: // it may have arrived all the same
		o.doubt(key)
	case o.asked[key] == it:
		delete(o.asked, key)
		it.lease = lease
		o.shown[key] = it
		it.end(nil)
	case o.shown[key] == it:
		it.lease = lease
	default: // replaced or withdrawn while it was being written
		o.doubt(key)
	}
	return false
}

// needLease reports whether there is something that hangs on a lease.
func (o *offers) needLease() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.shown)+len(o.asked) > 0
}

// sweeping reports whether there may be something to remove, and what must stay.
func (o *offers) sweeping() (keep map[string]struct{}, is bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	is, o.sweep = o.sweep, false
	return o.keep, is
}

// visible are all offers that others see.
func (o *offers) visible() map[string]*offer {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.shown)
}

// sweepAgain takes back that there is nothing to remove.
func (o *offers) sweepAgain() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweep = true
}
