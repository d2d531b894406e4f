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
	Interactive bool     // when nothing else worked, ask for the host's password, 3 times at most
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
	password    inventory.Secret
	passwordErr error // the person refused to give it
	asked       bool
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
	a := &Auth{opts: opts, turn: make(chan struct{}, 1)}
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
	if host.Password != "" || a.opts.AskPassword || a.opts.Interactive || len(ids) > 0 {
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
	if !a.opts.AskPassword || host.Password != "" {
		return nil
	}
	if err := a.take(ctx); err != nil {
		return err
	}
	defer a.give()
	if a.asked {
		return a.passwordErr
	}
	password, err := a.opts.Prompter.Secret(ctx, "Password for all hosts: ")
	if ctx.Err() != nil {
		return ctx.Err() // one host was stopped; the next may ask
	}
	a.asked, a.password = true, password
	if err != nil {
		a.passwordErr = fault.Wrap(fault.Denied, "ask for the password", err)
	}
	return a.passwordErr
}

// Unlock asks now what is asked once for all hosts: the password, and the passphrases of keys that the agent does not have. A default key
// may stay locked, one that was named must not.
func (a *Auth) Unlock(ctx context.Context) error {
	if err := a.prepare(ctx, inventory.Host{}); err != nil {
		return err
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

// passwordFor returns the password that is known without asking.
func (a *Auth) passwordFor(ctx context.Context, host inventory.Host) (inventory.Secret, error) {
	if host.Password != "" || !a.opts.AskPassword {
		return host.Password, nil
	}
	if err := a.take(ctx); err != nil {
		return "", err
	}
	defer a.give()
	return a.password, nil
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
