package fleet

import (
	"context"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/become"
)

// Become says where the passwords come from that hosts want before somebody becomes another user there, where hosts don't say so
// themselves. They are kept in memory only, given to sudo alone, and never a second time to a host that did not take them.
type Become struct {
	AskPassword bool // ask SSH.Prompter, once for all hosts
	// Password has that of a host, without asking anybody. It is called by several goroutines, each time that one is wanted. nil = there is none.
	Password func(ctx context.Context, to Login) (Secret, error)
}

// The methods of Host.BecomeMethod.
const (
	BecomeSudo = become.Sudo
	BecomeDoas = become.Doas // takes no password
)

// DefaultBecomeUser is who is become where only somebody is to be.
const DefaultBecomeUser = become.DefaultUser

func (h Host) becomes() become.Target {
	return become.Target{User: h.BecomeUser, Method: h.BecomeMethod}
}

// becoming has the passwords to become other users. Those that a person is asked for it remembers.
type becoming struct {
	opts  Become
	whom  Prompter // nil = nobody
	hosts *become.Passwords
	turn  chan struct{}     // holds one token: whoever has it may ask, and look at asked
	asked map[string]answer // by Host.BecomeShared
}

type answer struct {
	secret Secret
	err    error
}

func newBecoming(o Become, whom Prompter) *becoming {
	b := &becoming{opts: o, whom: whom, hosts: become.NewPasswords(), turn: make(chan struct{}, 1), asked: map[string]answer{}}
	b.turn <- struct{}{}
	return b
}

// asks reports whether a person has a host's password.
func (b *becoming) asks(h Host) bool {
	return h.BecomeUser != "" && h.BecomePassword == "" && (h.BecomeShared != "" || b.opts.AskPassword)
}

// check refuses a host whose password nobody could be asked for.
func (b *becoming) check(h Host) error {
	if !b.asks(h) || b.whom != nil {
		return nil
	}
	return fault.New(fault.Denied, "become", "there is nobody to ask for a password").WithHost(h.Name).
		WithRemedy("run in a terminal, or use --become-password-fd or --become-password-command")
}

// password is what a host gets; nil = there is none.
func (b *becoming) password(h Host) *become.Password {
	switch {
	case h.BecomeUser == "":
		return nil
	case h.BecomePassword != "":
		return b.hosts.For(h.Name, func(context.Context) (Secret, error) { return h.BecomePassword, nil })
	case b.asks(h):
		return b.hosts.For(h.Name, func(ctx context.Context) (Secret, error) { return b.prompt(ctx, h.BecomeShared) })
	case b.opts.Password != nil:
		to := Login{Host: h.Name, Addr: h.reached.Addr, User: h.reached.User}
		return b.hosts.For(h.Name, func(ctx context.Context) (Secret, error) { return b.opts.Password(ctx, to) })
	}
	return nil
}

// prompt asks a person, once for all hosts that share a password.
func (b *becoming) prompt(ctx context.Context, shared string) (Secret, error) {
	select {
	case <-b.turn:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { b.turn <- struct{}{} }()
	if known, is := b.asked[shared]; is {
		return known.secret, known.err
	}
	whose := "all hosts"
	if shared != "" {
		whose = "hosts of " + shared
	}
	secret, err := b.whom.Secret(ctx, "Password to become another user, for "+whose+": ")
	if ctx.Err() != nil {
		return "", ctx.Err() // one host was stopped; the next may ask
	}
	b.asked[shared] = answer{secret, err}
	return secret, err
}

// unlock asks a person now for what hosts will want.
func (b *becoming) unlock(ctx context.Context, hosts []Host) error {
	for _, h := range hosts {
		if !b.asks(h) {
			continue
		}
		if err := b.password(h).Ask(ctx); err != nil {
			return err
		}
	}
	return nil
}
