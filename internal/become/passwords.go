package become

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// Passwords is what the hosts of a run have said of passwords, by password: hosts may have the same one without anybody knowing. A host that
// did not take a password never gets it again, and where the first hosts all refuse it, no other one gets it: an account of
// a directory is the same everywhere, and is locked after a few wrong passwords. It is safe for concurrent use.
type Passwords struct {
	mu     sync.Mutex
	trials map[inventory.Secret]*trial
}

// NewPasswords knows of no password.
func NewPasswords() *Passwords { return &Passwords{trials: map[inventory.Secret]*trial{}} }

// Password is that of one host. It is safe for concurrent use; nil is that the host has none.
type Password struct {
	host string
	ask  func(ctx context.Context) (inventory.Secret, error)
	all  *Passwords
}

// For is the password of a host, which ask has. It is called by several goroutines, each time that the password is wanted, also for a
// connection that is made again: whoever must not be asked twice remembers the answer.
func (p *Passwords) For(host string, ask func(ctx context.Context) (inventory.Secret, error)) *Password {
	return &Password{host: host, ask: ask, all: p}
}

func (p *Passwords) trial(of inventory.Secret) *trial {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.trials[of]
	if t == nil {
		t = &trial{turn: make(chan struct{}, 1), hosts: map[string]*hostOutcome{}}
		t.turn <- struct{}{}
		p.trials[of] = t
	}
	return t
}

// Ask asks now for what would be asked for later. It is called before a connection is made, since nobody types within a
// server's patience.
func (p *Password) Ask(ctx context.Context) error {
	if p == nil {
		return nil
	}
	_, err := p.get(ctx)
	return err
}

func (p *Password) get(ctx context.Context) (inventory.Secret, error) {
	password, err := p.ask(ctx)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		kind := fault.Denied
		if fault.KindOf(err) == fault.Canceled { // at the prompt
			kind = fault.Canceled
		}
		return "", fault.New(kind, op, "there is no password: %w", err)
	case password == "":
		return "", fault.New(fault.Denied, op, "the password is empty")
	case strings.ContainsAny(string(password), "\n\r\x00"):
		return "", fault.New(fault.Denied, op, "the password has more than one line")
	}
	return password, nil
}

// take returns the password, and waits while another host shows whether it is right. What came of it is told to settle, once.
func (p *Password) take(ctx context.Context) (password inventory.Secret, settle func(verdict), err error) {
	if p == nil {
		return "", nil, errors.New("there is no password")
	}
	if password, err = p.get(ctx); err != nil {
		return "", nil, err
	}
	t := p.all.trial(password)
	if err := t.take(ctx, p.host); err != nil {
		return "", nil, err
	}
	return password, func(v verdict) { t.settle(p.host, v) }, nil
}

// trial is what hosts have said of one password.
type trial struct {
	turn chan struct{} // holds one token: whoever has it may try the password while nobody knows whether it is right

	mu     sync.Mutex
	proven bool                    // some host took it
	wrong  int                     // hosts that refused it
	hosts  map[string]*hostOutcome // that got it and did not take it
	trying string                  // the host that has the token; "" = none
}

type hostOutcome struct {
	refused bool
	unheard int // times that the connection was lost before the answer
}

// verdict is what came of a password that was sent.
type verdict uint8

const (
	accepted verdict = iota
	refused          // or ended, or silent: it is not to be sent again
	unheard          // the connection was lost before the answer
)

// maxWrong is how many hosts may refuse a password that none has taken, maxUnheard how often one host gets it without an answer.
const (
	maxWrong   = 3
	maxUnheard = 3
)

// take lets a host have the password, or says why not. settle is called after it, once.
func (t *trial) take(ctx context.Context, host string) error {
	t.mu.Lock()
	proven := t.proven
	t.mu.Unlock()
	if !proven {
		select {
		case <-t.turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.deny(host)
	switch {
	case proven:
	case t.proven || err != nil:
		t.turn <- struct{}{} // shown meanwhile, or nothing to try
	default:
		t.trying = host
	}
	return err
}

// deny says why a host does not get the password.
func (t *trial) deny(host string) error {
	if o := t.hosts[host]; o != nil && o.refused {
		return fault.New(fault.Denied, op, "the host did not take the password, and it is not sent again").WithRemedy("begin anew with the right one")
	}
	if !t.proven && t.wrong >= maxWrong {
		return fault.New(fault.Denied, op, "%d hosts did not take the password and none did: no other host gets it", t.wrong).
			WithRemedy("begin anew with the right one")
	}
	return nil
}

// settle says what came of the password that a host got.
func (t *trial) settle(host string, v verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v == accepted {
		t.proven = true
		delete(t.hosts, host)
	} else {
		o := t.hosts[host]
		if o == nil {
			o = &hostOutcome{}
			t.hosts[host] = o
		}
		if v == unheard {
			o.unheard++
		}
		if v == refused || o.unheard >= maxUnheard {
			o.refused = true
			t.wrong++
		}
	}
	if t.trying == host {
		t.trying = ""
		t.turn <- struct{}{}
	}
}
