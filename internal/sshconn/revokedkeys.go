package sshconn

import (
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// refuseRevoked returns an error where a key is in one of the host's files of revoked keys (RevokedHostKeys), whatever the policy
// is, and where such a file can't be read.
func (h *HostKeys) refuseRevoked(host inventory.Host, key ssh.PublicKey) error {
	if host.SSH == nil {
		return nil
	}
	for _, name := range host.SSH.RevokedHostKeys {
		if name == noFile {
			continue
		}
		why, err := h.revoked.Check(name, key)
		if err != nil {
			return fault.Wrap(fault.Untrusted, "check the host key", fmt.Errorf("the file of revoked keys (RevokedHostKeys) can't be used, so that no host is trusted: %w", err)).
				WithRemedy("restore %s, or take it out of OpenSSH's configuration if no key is revoked any more", name)
		}
		if why != "" {
			key = plainKey(key) // whose fingerprint people know
			return fault.New(fault.Untrusted, "check the host key", "the key %s %s is revoked by %s, %s", key.Type(), ssh.FingerprintSHA256(key), name, why).
				WithRemedy("do not connect: somebody else may have this key; ask whoever revoked it, and give the host a new one")
		}
	}
	return nil
}

// plainKey is a key without its certificate.
func plainKey(key ssh.PublicKey) ssh.PublicKey {
	if cert, is := key.(*ssh.Certificate); is {
		return cert.Key
	}
	return key
}

// withCertificates asks a host for its certificate before its key, where there are files of revoked keys: one that lost its key may be
// named there by the certificate alone.
func withCertificates(host inventory.Host, algorithms []string) []string {
	if host.SSH == nil || !slices.ContainsFunc(host.SSH.RevokedHostKeys, func(name string) bool { return name != noFile }) {
		return algorithms
	}
	supported := ssh.SupportedAlgorithms().HostKeys
	var list []string
	for _, a := range algorithms {
		for _, a := range []string{a + "-cert-v01@openssh.com", a} {
			if slices.Contains(supported, a) && !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	return list
}
