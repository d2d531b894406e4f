package sshconn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// login is the authentication of one connection. x/crypto calls next in the dialing goroutine, after the server refused "none" and after each try.
type login struct {
	ctx  context.Context //nolint:containedctx // x/crypto's callbacks take none
	auth *Auth
	hs   *handshake

	keys     []ssh.Signer // still to be offered
	keysRead bool
	offered  int
	left     int // keys that were not offered because there are too many
	password passwordState
	prompts  int
	refused  int // passwords that the server did not take
	abort    error
	notes    []string // why a method could not be used
}

type passwordState uint8

const (
	passwordUntried passwordState = iota
	passwordTried
)

func (a *Auth) login(ctx context.Context, hs *handshake) *login {
	return &login{ctx: ctx, auth: a, hs: hs}
}

func (l *login) note(err error) {
	if text := err.Error(); !slices.Contains(l.notes, text) {
		l.notes = append(l.notes, text)
	}
}

// next chooses the next method: each key once, then the known password once, then what a person types.
func (l *login) next(state *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	l.hs.stage.Store(int32(stageAuth))
	if l.abort != nil {
		return nil, l.abort
	}
	if l.hs.link.dead.Load() != nil {
		return nil, nil // x/crypto then returns the error of the connection
	}
	allowed := state.AllowedMethods
	if slices.Contains(allowed, "publickey") {
		if !l.keysRead {
			l.keysRead = true
			l.keys, l.left = l.auth.signers(l)
		}
		if l.abort != nil {
			return nil, l.abort
		}
		if len(l.keys) > 0 {
			key := l.keys[0]
			l.keys = l.keys[1:]
			l.offered++
			// One key per method: x/crypto gives up all keys of a method when one of them can't sign.
			return ssh.PublicKeys(key), nil
		}
	}
	if l.password == passwordUntried && takesPassword(allowed) {
		l.password = passwordTried
		known, err := l.passwordFor(l.hs.host)
		if err != nil {
			return nil, err
		}
		if known != "" {
			return l.passwordMethod(allowed, known), nil
		}
	}
	if l.auth.opts.Interactive && l.prompts < maxTries && takesPassword(allowed) {
		l.prompts++
		secret, err := l.question(l.passwordPrompt())
		if err != nil {
			return nil, fault.Wrap(fault.Denied, "ask for the password", err)
		}
		return l.passwordMethod(allowed, secret), nil
	}
	return nil, l.denied(state)
}

func takesPassword(allowed []string) bool {
	return slices.Contains(allowed, "password") || slices.Contains(allowed, "keyboard-interactive")
}

func (l *login) passwordPrompt() string {
	again := ""
	if l.prompts > 1 {
		again = "Wrong. "
	}
	return fmt.Sprintf("%sPassword for %s@%s: ", again, l.hs.host.User, l.hs.host.Name)
}

// passwordMethod sends a password in one way only: with PAM both ways check the same password, and a wrong one would count twice.
func (l *login) passwordMethod(allowed []string, password inventory.Secret) ssh.AuthMethod {
	l.refused++ // unless this one is taken, and then nobody looks
	if slices.Contains(allowed, "password") {
		return ssh.PasswordCallback(func() (string, error) {
			l.hs.sentPassword.Store(true)
			return password.Reveal(), nil
		})
	}
	answered := false
	return ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
		answers := make([]string, len(questions))
		for i, question := range questions {
			switch {
			case !answered && len(questions) == 1 && !echos[i]:
				answered = true
				l.hs.sentPassword.Store(true)
				answers[i] = password.Reveal()
			case l.auth.opts.Interactive:
				answer, err := l.question(fmt.Sprintf("%s@%s asks: %s", l.hs.host.User, l.hs.host.Name, printable(question)))
				if err != nil {
					l.abort = fault.Wrap(fault.Denied, "ask for the password", err)
					return nil, l.abort
				}
				answers[i] = answer.Reveal()
			default:
				l.abort = fault.New(fault.Denied, "authenticate", "the host asks more than one password: %q", printable(question)).
					WithRemedy("use --interactive to answer")
				return nil, l.abort
			}
		}
		return answers, nil
	})
}

// printable keeps a server from writing control sequences to our terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

// denied tells what was tried and what the host would take.
func (l *login) denied(state *ssh.ClientAuthContext) error {
	tried := []string{fmt.Sprintf("%d keys", l.offered)}
	if l.offered == 1 {
		tried[0] = "1 key"
	}
	switch {
	case l.refused == 1:
		tried = append(tried, "a password")
	case l.refused > 1:
		tried = append(tried, fmt.Sprintf("%d passwords", l.refused))
	}
	text := fmt.Sprintf("authentication of user %s was refused; tried %s; the host takes %s",
		l.hs.host.User, strings.Join(tried, " and "), strings.Join(state.AllowedMethods, ", "))
	if len(state.PartialSuccessMethods) > 0 {
		text += " after " + strings.Join(state.PartialSuccessMethods, ", ")
	}
	for _, note := range l.notes {
		text += "; " + note
	}
	f := fault.New(fault.Denied, "authenticate", "%s", printable(text))
	if l.left > 0 {
		return f.WithRemedy("%d more keys were not tried, name the right one with --identity", l.left)
	}
	return f.WithRemedy("check the user name, and that the key is in the host's authorized_keys or the password is right")
}

// publicOf returns the public half; where only the decrypted file tells it, the passphrase is asked now.
func (l *login) publicOf(id *identity) (ssh.PublicKey, error) {
	if id.public != nil {
		return id.public, nil
	}
	signer, err := l.openIdentity(id)
	if err != nil {
		return nil, err
	}
	return signer.PublicKey(), nil
}

// openIdentity decrypts a key if that has not happened yet. When the person cancels, the login ends.
func (l *login) openIdentity(id *identity) (ssh.Signer, error) {
	var signer ssh.Signer
	err := l.asking(func() (err error) {
		signer, err = id.open(l.ctx, l.auth.opts.Prompter)
		return err
	})
	if err == nil {
		return signer, nil
	}
	l.note(err)
	var f *fault.Fault
	if errors.As(err, &f) && f.Kind == fault.Canceled || l.ctx.Err() != nil {
		l.abort = fault.Wrap(fault.Canceled, "ask for the passphrase", err)
	}
	return nil, err
}
