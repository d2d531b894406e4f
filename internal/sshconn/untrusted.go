package sshconn

import (
	"bytes"
	"errors"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// untrusted says what a person needs to decide: the fingerprint, and where the other key is written.
func untrusted(host inventory.Host, key ssh.PublicKey, err error) error {
	fingerprint := key.Type() + " " + ssh.FingerprintSHA256(key)
	var revoked *xknownhosts.RevokedError
	var unknown *xknownhosts.KeyError
	switch {
	case errors.As(err, &revoked):
		whose := "the key"
		if !bytes.Equal(revoked.Revoked.Key.Marshal(), key.Marshal()) {
			whose, fingerprint = "its authority", ssh.FingerprintSHA256(revoked.Revoked.Key)
		}
		return fault.New(fault.Untrusted, "check the host key", "%s %s is revoked in %s:%d", whose, fingerprint, sourceName(revoked.Revoked.Filename), revoked.Revoked.Line).
			WithRemedy("do not connect; ask whoever revoked it")
	case errors.As(err, &unknown) && len(unknown.Want) > 0:
		old := unknown.Want[0]
		for _, k := range unknown.Want {
			if k.Key.Type() == key.Type() {
				old = k
				break
			}
		}
		f := fault.New(fault.Untrusted, "check the host key", "the host key has changed: it is now %s, but %s:%d says %s %s",
			fingerprint, sourceName(old.Filename), old.Line, old.Key.Type(), ssh.FingerprintSHA256(old.Key))
		if sourceName(old.Filename) != old.Filename {
			return f.WithRemedy("somebody may be intercepting; if the host was reinstalled, have the command print the new key")
		}
		return f.WithRemedy("somebody may be intercepting; if the host was reinstalled, remove the old key: ssh-keygen -R '%s'", knownhosts.Normalize(keyAddress(host)))
	case errors.As(err, &unknown):
		from := ""
		if host.Jump != nil { // it may not be reached from here
			from = "on jump host " + host.Jump.Name + " "
		}
		return fault.New(fault.Untrusted, "check the host key", "the host is unknown, its key is %s", fingerprint).
			WithRemedy("compare the fingerprint with the host's, then %sssh-keyscan -p %d %s >> ~/.ssh/known_hosts, or use --host-key=accept-new or ask", from, host.Port, host.Addr)
	}
	return fault.Wrap(fault.Untrusted, "check the host key", err)
}
