package sshconn

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skeema/knownhosts"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// noFile is what stands for no file where files are named.
const noFile = "none"

// The files that OpenSSH looks at by default, those of the user below ~/.ssh.
var (
	userKnownHosts   = []string{"known_hosts", "known_hosts2"}
	globalKnownHosts = []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}
)

// defaultUserFiles are the files below ~/.ssh.
func defaultUserFiles() ([]string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fault.Wrap(fault.Untrusted, "find known_hosts", err)
	}
	files := make([]string, len(userKnownHosts))
	for i, name := range userKnownHosts {
		files[i] = filepath.Join(home, ".ssh", name)
	}
	return files, nil
}

// of returns the keys that count for a host: these, or those of the files that are said about the host. Hosts with the same files share them.
func (h *HostKeys) of(host inventory.Host) (*HostKeys, error) {
	s := host.SSH
	if s == nil || s.KnownHosts == nil && s.GlobalKnownHosts == nil {
		return h, nil
	}
	mine, global := s.KnownHosts, s.GlobalKnownHosts
	if mine == nil {
		var err error
		if mine, err = defaultUserFiles(); err != nil {
			return nil, err
		}
	}
	if global == nil {
		global = globalKnownHosts
	}
	none := func(name string) bool { return name == noFile }
	mine = slices.DeleteFunc(slices.Clone(mine), none)
	files := slices.Concat(mine, slices.DeleteFunc(slices.Clone(global), none))
	id := fmt.Sprintf("%d %q", len(mine), files)
	h.setsMu.Lock()
	defer h.setsMu.Unlock()
	if set := h.sets[id]; set != nil {
		return set, nil
	}
	set := &HostKeys{policy: h.policy, files: files, confirm: h.confirm, questions: h.questions, revoked: h.revoked, commands: h.commands}
	if len(mine) > 0 {
		set.target = mine[0]
	}
	if err := set.load(); err != nil {
		return nil, fault.Wrap(fault.Untrusted, "read known_hosts", err)
	}
	if h.sets == nil {
		h.sets = map[string]*HostKeys{}
	}
	h.sets[id] = set
	return set, nil
}

// policyFor is what happens with the key of a host that is not known.
func (h *HostKeys) policyFor(host inventory.Host) HostKeyPolicy {
	if host.SSH != nil && host.SSH.HostKeys != "" {
		if p, err := ParseHostKeyPolicy(host.SSH.HostKeys); err == nil { // else Strict, in effect: whoever said it checked it
			return p
		}
		return Strict
	}
	return h.policy
}

// keyAddress is under which address (host:port) a host's key is looked for: its own, or that of its alias, which has no port.
func keyAddress(host inventory.Host) string {
	if host.SSH != nil && host.SSH.HostKeyAlias != "" {
		return net.JoinHostPort(host.SSH.HostKeyAlias, fmt.Sprint(inventory.DefaultPort))
	}
	return host.Address()
}

// keyNames are how a key is remembered.
func keyNames(host inventory.Host) (plain, written string) {
	plain = knownhosts.Normalize(keyAddress(host))
	if host.SSH != nil && host.SSH.HashKnownHosts {
		return plain, xknownhosts.HashHostname(plain)
	}
	return plain, plain
}

// targetName is the file for new keys in words.
func (h *HostKeys) targetName() string {
	home, err := os.UserHomeDir()
	if rest, below := strings.CutPrefix(h.target, home+"/"); err == nil && below {
		return "~/" + rest
	}
	return h.target
}
