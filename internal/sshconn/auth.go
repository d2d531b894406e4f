package sshconn

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// AuthOptions say how to prove who we are.
type AuthOptions struct {
	Identities  []string // private key files; none means ~/.ssh/id_ed25519, id_ecdsa and id_rsa where they can be used
	AgentSocket string   // the ssh-agent's socket, usually $SSH_AUTH_SOCK; empty means no agent
	Prompter    Prompter // whom to ask; nil means nobody
	AskPassword bool     // ask once for a password and use it for every host that has none of its own
	// Password has the password of a host that has none of its own, where the host wants one; nil means that there is none. It is
	// called by several goroutines, each time that one is wanted.
	Password    func(ctx context.Context, host inventory.Host) (inventory.Secret, error)
	Interactive bool // when nothing else worked, ask for the host's password, 3 times at most
}

// Auth holds keys, agent and passwords for all hosts of a process; it is safe for concurrent use. Questions are asked one at a time, and each
// passphrase once, when the first host accepted the key. Close it when no more dials are made.
type Auth struct {
	opts       AuthOptions
	identities []*identity
	agent      *sharedAgent  // nil: none
	files      keyFiles      // of single hosts
	turn       chan struct{} // holds one token: whoever has it may ask and open identities

	// Guarded by turn.
	passwords map[string]sharedPassword // those that were asked for, by inventory.Host.Shared
}

type sharedPassword struct {
	secret inventory.Secret
	err    error // the person refused to give it
}

// NewAuth reads the key files. An explicit one that can't be used is an error that names it.
func NewAuth(opts AuthOptions) (*Auth, error) {
	ids, err := loadIdentities(opts.Identities)
	if err != nil {
		return nil, err
	}
	if (opts.AskPassword || opts.Interactive) && opts.Prompter == nil {
		return nil, fault.New(fault.Denied, "authenticate", "there is nobody to ask for a password").
			WithRemedy("run in a terminal, or use a key")
	}
	a := &Auth{opts: opts, turn: make(chan struct{}, 1), passwords: map[string]sharedPassword{}}
	a.turn <- struct{}{}
	if opts.AgentSocket != "" {
		a.agent = &sharedAgent{socket: opts.AgentSocket}
	}
	for _, id := range ids {
		if id.pem != nil && opts.Prompter == nil && (a.agent == nil || id.public == nil) {
			if len(opts.Identities) > 0 {
				return nil, fault.Wrap(fault.Denied, "read identity "+id.path, errNoPrompter).
					WithRemedy("load it into an ssh-agent, or run in a terminal")
			}
			continue
		}
		a.identities = append(a.identities, id)
	}
	return a, nil
}

// Close ends the connection to the agent. Dials that still use it fail.
func (a *Auth) Close() error {
	errs := a.files.close()
	if a.agent != nil {
		errs = append(errs, a.agent.drop(nil))
	}
	return errors.Join(errs...)
}

// CheckIdentity reads a key file that somebody named for a host. The error is a fault.
func (a *Auth) CheckIdentity(path string) error {
	if path == noFile {
		return nil
	}
	_, err := a.files.identity(path)
	return err
}

// CheckMethods returns a fault of kind Denied when there is nothing to authenticate to host with: no key, no agent that has one, no
// password and nobody to ask. It asks the agent, for some seconds at most, and makes no other connection.
func (a *Auth) CheckMethods(host inventory.Host) error {
	ids, named, problems := a.identitiesFor(host)
	if host.Shared != "" && a.opts.Prompter == nil {
		return fault.New(fault.Denied, "authenticate", "there is nobody to ask for the password of hosts of %s", host.Shared).
			WithHost(host.Name).WithRemedy("run in a terminal, or use a key")
	}
	if a.hasPassword(host) || len(ids) > 0 {
		return nil
	}
	agent := a.agentFor(host)
	keys, err := agent.list(context.Background())
	if len(keys) > 0 && (host.SSH == nil || !host.SSH.IdentitiesOnly) {
		return nil
	}
	if named {
		return fault.New(fault.Denied, "authenticate", "no authentication method: none of the keys that are named for the host can be used: %w", errors.Join(problems...)).
			WithHost(host.Name).WithRemedy("correct identity or IdentityFile, or use --identity FILE, ssh-add or --ask-pass")
	}
	f := fault.New(fault.Denied, "authenticate", "no authentication method: no usable key in ~/.ssh, no ssh-agent and no password")
	switch {
	case err != nil:
		f = fault.New(fault.Denied, "authenticate", "no authentication method: no usable key in ~/.ssh, no password, and the ssh-agent does not answer: %w", err)
	case agent != nil:
		f = fault.New(fault.Denied, "authenticate", "no authentication method: no usable key in ~/.ssh, no password, and the ssh-agent has no keys")
	}
	return f.WithHost(host.Name).WithRemedy("use --identity FILE, ssh-add or --ask-pass")
}

// take waits for the turn to ask.
func (a *Auth) take(ctx context.Context) error {
	select {
	case <-a.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Auth) give() { a.turn <- struct{}{} }

// prepare asks what can be asked before a connection is made.
func (a *Auth) prepare(ctx context.Context, host inventory.Host) error {
	if !a.shares(host) {
		return nil
	}
	if err := a.take(ctx); err != nil {
		return err
	}
	defer a.give()
	if known, asked := a.passwords[host.Shared]; asked {
		return known.err
	}
	whose := "all hosts"
	if host.Shared != "" {
		whose = "hosts of " + host.Shared
	}
	password, err := a.opts.Prompter.Secret(ctx, "Password for "+whose+": ")
	if ctx.Err() != nil {
		return ctx.Err() // one host was stopped; the next may ask
	}
	if err != nil {
		err = fault.Wrap(fault.Denied, "ask for the password", err)
	}
	a.passwords[host.Shared] = sharedPassword{password, err}
	return err
}

// shares reports whether the host's password is one that is asked for once for several hosts.
func (a *Auth) shares(host inventory.Host) bool {
	return host.Password == "" && (host.Shared != "" || a.opts.AskPassword)
}

// hasPassword reports whether there is a password for a host, or somebody to ask for one.
func (a *Auth) hasPassword(host inventory.Host) bool {
	return host.Password != "" || a.shares(host) || a.opts.Password != nil || a.opts.Interactive
}

// Unlock asks now what is asked once for all hosts, or several: passwords, and the passphrases of keys that the agent does not have. A
// default key may stay locked, one that was named must not.
func (a *Auth) Unlock(ctx context.Context, hosts []inventory.Host) error {
	for _, host := range append([]inventory.Host{{}}, hosts...) {
		if err := a.prepare(ctx, host); err != nil {
			return err
		}
	}
	inAgent, _ := a.agent.list(ctx) // an agent that does not answer has nothing for us
	for _, id := range slices.Concat(a.identities, a.files.all()) {
		if id.pem == nil || id.public != nil && slices.ContainsFunc(inAgent, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), id.public.Marshal()) }) {
			continue
		}
		if err := a.take(ctx); err != nil {
			return err
		}
		_, err := id.open(ctx, a.opts.Prompter)
		a.give()
		if err != nil && len(a.opts.Identities) > 0 {
			return fault.Wrap(fault.Denied, "ask for the passphrase", err).WithRemedy("load the key into an ssh-agent")
		}
	}
	return nil
}

// passwordFor returns the password that is to be had without asking now; "" = none.
func (l *login) passwordFor(host inventory.Host) (secret inventory.Secret, err error) {
	a := l.auth
	switch {
	case a.shares(host):
		if err := a.take(l.ctx); err != nil {
			return "", err
		}
		defer a.give()
		return a.passwords[host.Shared].secret, nil
	case host.Password != "" || a.opts.Password == nil:
		return host.Password, nil
	}
	err = l.hs.pause(func() (err error) { // it may take as long as it likes
		secret, err = a.opts.Password(l.ctx, host)
		return err
	})
	if err != nil {
		return "", fault.Wrap(fault.Denied, "get the password", err)
	}
	return secret, nil
}

// maxOffers is how many keys are tried: OpenSSH's default MaxAuthTries is 6, and every refused key counts. One try is left for a password.
const maxOffers = 6

// question asks a person while the handshake's clock stands still: nobody types within a connect timeout.
func (l *login) question(prompt string) (inventory.Secret, error) {
	var secret inventory.Secret
	err := l.asking(func() (err error) {
		secret, err = l.auth.opts.Prompter.Secret(l.ctx, prompt)
		return err
	})
	return secret, err
}

// asking runs fn with the turn to ask and without a deadline on the connection.
func (l *login) asking(fn func() error) error {
	return l.hs.pause(func() error {
		if err := l.auth.take(l.ctx); err != nil {
			return err
		}
		defer l.auth.give()
		return fn()
	})
}

// pause runs fn while the handshake's clock stands still.
func (hs *handshake) pause(fn func() error) (err error) {
	if err := hs.link.SetDeadline(time.Time{}); err != nil {
		return err
	}
	defer func() {
		hs.since = time.Now()
		err = errors.Join(err, hs.link.SetDeadline(hs.since.Add(hs.timeout)))
	}()
	return fn()
}
