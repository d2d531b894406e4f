package become

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// Passwords owns the one password of a run. It is asked for once and kept in memory only, so that a connection that is made again asks nobody.
// A host that did not take it never gets it again, and where the first hosts all refuse it, no other one gets it: an account of
// a directory is the same everywhere, and is locked after a few wrong passwords. It is safe for concurrent use; nil has no password.
type Passwords struct {
	ask  func(ctx context.Context) (inventory.Secret, error)
	turn chan struct{} // holds one token: whoever has it may ask, or try the password while nobody knows whether it is right

	mu       sync.Mutex
	asked    bool
	password inventory.Secret
	err      error                   // of asking
	proven   bool                    // some host took it
	wrong    int                     // hosts that refused it
	hosts    map[string]*hostOutcome // that got it and did not take it
	trying   string                  // the host that has the token for trying; "" = none
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

// NewPasswords has the password asked for by ask, once, when it is first needed.
func NewPasswords(ask func(ctx context.Context) (inventory.Secret, error)) *Passwords {
	p := &Passwords{ask: ask, turn: make(chan struct{}, 1), hosts: map[string]*hostOutcome{}}
	p.turn <- struct{}{}
	return p
}

// any reports whether a password can be had.
func (p *Passwords) any() bool { return p != nil }

// Ask asks now for what would be asked for later. It is called before a connection is made, since nobody types within a
// server's patience.
func (p *Passwords) Ask(ctx context.Context) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	asked, err := p.asked, p.err
	p.mu.Unlock()
	if asked {
		return err
	}
	if err := p.wait(ctx); err != nil {
		return err
	}
	defer func() { p.turn <- struct{}{} }()
	p.mu.Lock()
	asked, err = p.asked, p.err
	p.mu.Unlock()
	if asked {
		return err
	}
	password, err := p.ask(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // one host was stopped; the next may ask
	}
	switch {
	case err != nil:
		kind := fault.Denied
		if fault.KindOf(err) == fault.Canceled { // at the prompt
			kind = fault.Canceled
		}
		err = fault.New(kind, op, "there is no password: %w", err)
	case password == "":
		err = fault.New(fault.Denied, op, "the password is empty")
	case strings.ContainsAny(string(password), "\n\r\x00"):
		err = fault.New(fault.Denied, op, "the password has more than one line")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked, p.password, p.err = true, password, err
	return err
}

func (p *Passwords) wait(ctx context.Context) error {
	select {
	case <-p.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take returns the password for one host, and waits while another host shows whether it is right. settle is called after it, once.
func (p *Passwords) take(ctx context.Context, host string) (inventory.Secret, error) {
	if p == nil {
		return "", errors.New("there is no password")
	}
	if err := p.Ask(ctx); err != nil {
		return "", err
	}
	p.mu.Lock()
	proven := p.proven
	p.mu.Unlock()
	if !proven {
		if err := p.wait(ctx); err != nil {
			return "", err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.deny(host)
	switch {
	case proven:
	case p.proven || err != nil:
		p.turn <- struct{}{} // shown meanwhile, or nothing to try
	default:
		p.trying = host
	}
	if err != nil {
		return "", err
	}
	return p.password, nil
}

// deny says why a host does not get the password.
func (p *Passwords) deny(host string) error {
	if o := p.hosts[host]; o != nil && o.refused {
		return fault.New(fault.Denied, op, "the host did not take the password, and it is not sent again").WithRemedy("begin anew with the right one")
	}
	if !p.proven && p.wrong >= maxWrong {
		return fault.New(fault.Denied, op, "%d hosts did not take the password and none did: no other host gets it", p.wrong).
			WithRemedy("begin anew with the right one")
	}
	return nil
}

// settle says what came of the password that a host got.
func (p *Passwords) settle(host string, v verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v == accepted {
		p.proven = true
		delete(p.hosts, host)
	} else {
		o := p.hosts[host]
		if o == nil {
			o = &hostOutcome{}
			p.hosts[host] = o
		}
		if v == unheard {
			o.unheard++
		}
		if v == refused || o.unheard >= maxUnheard {
			o.refused = true
			p.wrong++
		}
	}
	if p.trying == host {
		p.trying = ""
		p.turn <- struct{}{}
	}
}
