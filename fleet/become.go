package fleet

import (
	"context"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/become"
)

// Become says where the password comes from that hosts want before somebody becomes another user there. There is one for all hosts. It is kept in
// memory only, given to sudo alone, and never a second time to a host that did not take it.
type Become struct {
	AskPassword bool                                      // ask SSH.Prompter, once
	Password    func(ctx context.Context) (Secret, error) // instead of asking; called once at most. nil = there is none
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

// becomePasswords is nil where no password is to be had.
func (o Options) becomePasswords() (*become.Passwords, error) {
	switch {
	case o.Become.Password != nil:
		return become.NewPasswords(o.Become.Password), nil
	case !o.Become.AskPassword:
		return nil, nil
	case o.SSH.Prompter == nil:
		return nil, fault.New(fault.Denied, "become", "there is nobody to ask for a password").
			WithRemedy("run in a terminal, or use --become-password-fd or --become-password-command")
	}
	return become.NewPasswords(func(ctx context.Context) (Secret, error) {
		return o.SSH.Prompter.Secret(ctx, "Password to become another user, for all hosts: ")
	}), nil
}
