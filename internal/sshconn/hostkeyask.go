package sshconn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// Confirmer is a Prompter that also asks questions with yes or no for an answer.
type Confirmer interface {
	Confirm(ctx context.Context, question string) (bool, error)
}

// How long one waits for more hosts whose keys are to be asked about in the same question: until none came for askQuiet and none is about
// to show its key, askMost at all.
const (
	askQuiet = time.Second
	askMost  = 5 * time.Second
)

// keyQuestions collects the keys of hosts that are not known, and asks about all of them at once. Those that come while a
// person thinks are the next question.
type keyQuestions struct {
	coming atomic.Int64 // hosts that are connected, and about to show their keys

	mu      sync.Mutex
	waiting []*keyQuestion
	busy    bool            // a goroutine asks
	arrived chan struct{}   // full when one came
	refused map[string]bool // keys that a person did not want, by name and fingerprint
}

// keyQuestion is one host that waits for an answer.
type keyQuestion struct {
	keys   *HostKeys
	host   inventory.Host
	key    ssh.PublicKey
	ctx    context.Context //nolint:containedctx // of the dial that waits
	answer chan error      // buffered
}

// expect counts a host that will show its key soon; shown is called when it has, or will not any more, once or several times.
func (q *keyQuestions) expect() (shown func()) {
	q.coming.Add(1)
	return sync.OnceFunc(func() { q.coming.Add(-1) })
}

func (q *keyQuestion) id() string { return keyAddress(q.host) + " " + ssh.FingerprintSHA256(q.key) }

// ask returns nil when a person trusts the key, which then is remembered. shown is called when the host waits with the others.
func (q *keyQuestions) ask(ctx context.Context, keys *HostKeys, host inventory.Host, key ssh.PublicKey, shown func()) error {
	one := &keyQuestion{keys: keys, host: host, key: key, ctx: ctx, answer: make(chan error, 1)}
	q.mu.Lock()
	if q.refused[one.id()] {
		q.mu.Unlock()
		return refusedKey(key)
	}
	if q.arrived == nil {
		q.arrived = make(chan struct{}, 1)
	}
	q.waiting = append(q.waiting, one)
	select {
	case q.arrived <- struct{}{}:
	default:
	}
	if !q.busy {
		q.busy = true
		go q.work()
	}
	q.mu.Unlock()
	shown()
	select {
	case err := <-one.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func refusedKey(key ssh.PublicKey) error {
	return fault.New(fault.Untrusted, "check the host key", "the host is unknown, and its key %s %s was refused", key.Type(), ssh.FingerprintSHA256(key)).
		WithRemedy("add the key to known_hosts, or answer yes next time")
}

// work asks until nobody waits.
func (q *keyQuestions) work() {
	for q.anybody() {
		q.gather()
		q.mu.Lock()
		batch := slices.DeleteFunc(q.waiting, func(o *keyQuestion) bool { return o.ctx.Err() != nil })
		q.waiting = nil
		q.mu.Unlock()
		if len(batch) > 0 {
			q.question(batch)
		}
	}
}

// anybody reports whether somebody waits. After a no the next one who comes begins anew.
func (q *keyQuestions) anybody() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy = len(q.waiting) > 0
	return q.busy
}

// gather waits for more hosts.
func (q *keyQuestions) gather() {
	end := time.NewTimer(askMost)
	defer end.Stop()
	for {
		still := time.NewTimer(askQuiet)
		select {
		case <-q.arrived:
			still.Stop()
		case <-still.C:
			if q.coming.Load() == 0 {
				return
			}
		case <-end.C:
			still.Stop()
			return
		}
	}
}

// question asks about a batch. It is given up when all whom it is about have gone.
func (q *keyQuestions) question(batch []*keyQuestion) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var left atomic.Int64
	left.Store(int64(len(batch)))
	for _, o := range batch {
		defer context.AfterFunc(o.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})()
	}
	yes, err := batch[0].keys.confirm.Confirm(ctx, questionText(batch))
	for _, o := range batch {
		switch {
		case err != nil:
			o.answer <- fault.Wrap(fault.Untrusted, "ask about host keys", err)
		case !yes:
			q.mu.Lock()
			if q.refused == nil {
				q.refused = map[string]bool{}
			}
			q.refused[o.id()] = true
			q.mu.Unlock()
			o.answer <- refusedKey(o.key)
		default:
			o.answer <- o.keys.trust(o.host, o.key)
		}
	}
}

// questionText lists the hosts, each key once.
func questionText(batch []*keyQuestion) string {
	slices.SortFunc(batch, func(a, b *keyQuestion) int { return strings.Compare(a.host.Name, b.host.Name) })
	var b strings.Builder
	seen, files := map[string]bool{}, []string{}
	for _, o := range batch {
		if seen[o.host.Name+o.id()] {
			continue
		}
		seen[o.host.Name+o.id()] = true
		fmt.Fprintf(&b, "  %s (%s)  %s %s\n", o.host.Name, keyAddress(o.host), o.key.Type(), ssh.FingerprintSHA256(o.key))
		if name := o.keys.targetName(); name != "" && !slices.Contains(files, name) {
			files = append(files, name)
		}
	}
	head, them := fmt.Sprintf("The keys of %d hosts are not known:\n", len(seen)), "them"
	if len(seen) == 1 {
		head, them = "The key of this host is not known:\n", "it"
	}
	if len(files) > 0 {
		fmt.Fprintf(&b, "Yes writes %s to %s.\n", them, strings.Join(files, " and "))
	}
	return head + b.String() + "Trust " + them + "? (yes/no) "
}
