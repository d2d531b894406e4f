// Package keys names every key that mgmt-remote uses in etcd. It is the one place where the layout is written
// down; whoever reads or writes a key asks here, so that the gateway's policy and the users of the keys can't differ.
//
//	/mgmt-remote/<run>/hosts/<host>/…                written by the initiator only: state, converged
//	/mgmt-remote/<run>/quiet/<host>                  a payload's "nothing to do right now", on the host's lease
//	/mgmt-remote/<run>/exports/<host>/<kind>/<name>  resources a host offers to the others
//	/mgmt-remote/<run>/kv/…                          free for payloads, shared by all hosts of the run
//	/_mgmt/…                                         the mgmt payload's own keys, not bound to a run
//
// The functions are pure. They never check their arguments: run IDs and host names were validated where they
// entered the program (neither can contain a slash or be empty), and the gateway relies on that. Functions that
// give a prefix return it with its final slash, so that run "ab" is never a prefix of run "abc".
package keys

import "strings"

const (
	// Root is above everything of mgmt-remote in etcd.
	Root = "/mgmt-remote/"
	// Mgmt is above everything that the mgmt payload keeps in etcd by itself.
	Mgmt = "/_mgmt/"
)

// Run returns the prefix of all keys of a run.
func Run(run string) string { return Root + run + "/" }

// Hosts returns the prefix of what the initiator says about one host. Only the initiator writes there.
func Hosts(run, host string) string { return HostsPrefix(run) + host + "/" }

// HostsPrefix returns the prefix of what the initiator says about all hosts of a run.
func HostsPrefix(run string) string { return Run(run) + "hosts/" }

// State returns the key under which the initiator publishes the state of a host, as one word.
func State(run, host string) string { return Hosts(run, host) + "state" }

// Converged returns the key under which the initiator publishes that a host is converged.
func Converged(run, host string) string { return Hosts(run, host) + "converged" }

// Quiet returns the key that exists, on a lease of the host, while the host's payload has nothing to do.
func Quiet(run, host string) string { return QuietPrefix(run) + host }

// QuietPrefix returns the prefix of the quiet keys of all hosts.
func QuietPrefix(run string) string { return Run(run) + "quiet/" }

// HostOfQuiet returns the host whose quiet key this is. It is false for any other key, and for one below a
// host's quiet key.
func HostOfQuiet(run, key string) (host string, ok bool) {
	return oneSegment(QuietPrefix(run), key)
}

// Exports returns the prefix of the resources that one host offers.
func Exports(run, host string) string { return ExportsPrefix(run) + host + "/" }

// ExportsPrefix returns the prefix of the resources that the hosts of a run offer.
func ExportsPrefix(run string) string { return Run(run) + "exports/" }

// Export returns the key of one exported resource. The name may hold slashes; neither kind nor name is empty.
func Export(run, host, kind, name string) string { return Exports(run, host) + kind + "/" + name }

// ParseExport takes apart what Export made. It is false for any other key.
func ParseExport(run, key string) (host, kind, name string, ok bool) {
	rest, ok := strings.CutPrefix(key, ExportsPrefix(run))
	if !ok {
		return "", "", "", false
	}
	host, rest, _ = strings.Cut(rest, "/")
	kind, name, _ = strings.Cut(rest, "/")
	if host == "" || kind == "" || name == "" {
		return "", "", "", false
	}
	return host, kind, name, true
}

// KV returns the prefix of the keys that payloads use as they like. Every host of the run reads and writes there.
func KV(run string) string { return Run(run) + "kv/" }

// RangeEnd returns the end of the range that covers exactly the keys beginning with prefix, as an etcd range_end:
// the smallest string that is greater than all of them. An empty prefix gives "\x00", etcd's word for "all keys".
func RangeEnd(prefix string) string {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return string(end[:i+1])
		}
	}
	return "\x00"
}

func oneSegment(prefix, key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok || rest == "" || strings.Contains(rest, "/") {
		return "", false
	}
	return rest, true
}
