// Package inventory knows how people name remote machines: it parses what stands on a command line, in a definition's
// `remote:` or in an inventory into a Host, gives each a name that is unique in a run, and keeps passwords from being
// printed. A Builder collects what sources say, an Inventory is what comes out, with the origin of each value, and selects.
//
// It never resolves a name, opens a file or a connection. Its errors never contain a password, so they can be shown and logged as they are.
package inventory

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// DefaultPort is the TCP port of SSH (RFC 4253, section 4.1).
const DefaultPort = 22

// Host is one remote machine as a person named it. It is a value: copy it freely.
type Host struct {
	Name     string // unique in a run, see ValidName
	Addr     string // host name or IP literal, without brackets and port
	Port     int    // 1 to 65535
	User     string // login name; empty means the local user's
	Password Secret // only from the ssh:// form; not empty means that a warning is due, since a URL is visible to others
	Shared   string // hosts with the same word here share a password that is asked for; "" means that of all hosts, if there is one
	Prefix   string // directory to work in on this host; empty means the run's
	Jump     *Host  // the jump host next to it, which may have one of its own (see Through); nil means none. Nobody changes what it points to
	SSH      *SSH   // how its connection is made, where that is not as for all; nil means that nothing was said
}

// Address returns host:port as net.Dial takes it; IPv6 literals are in brackets.
func (h Host) Address() string { return net.JoinHostPort(h.Addr, strconv.Itoa(h.Port)) }

// String returns a text that ParseHost takes and that gives the same Host, without password, prefix and jump hosts.
func (h Host) String() string {
	var b strings.Builder
	if h.Name != "" && h.Name != defaultName(h.Addr, h.Port) {
		b.WriteString(h.Name + "=")
	}
	simple := isWord(h.User, "._-+")
	addr := h.Addr
	if strings.Contains(addr, ":") {
		if !simple {
			addr = strings.ReplaceAll(addr, "%", "%25") // RFC 6874: the zone's separator is escaped in a URL
		}
		addr = "[" + addr + "]"
	}
	if !simple {
		b.WriteString("ssh://")
	}
	if h.User != "" {
		b.WriteString(url.User(h.User).String() + "@")
	}
	b.WriteString(addr)
	if h.Port != DefaultPort {
		b.WriteString(":" + strconv.Itoa(h.Port))
	}
	return b.String()
}

// ValidName tells why name can't be a host name in a run: 1 to 63 letters, digits, '.', '-' and '_', not starting with '-' or '.'.
// Names become directories on hosts and keys in etcd, so nothing else is let through.
func ValidName(name string) error {
	switch {
	case name == "":
		return errors.New("host name is empty")
	case len(name) > 63:
		return fmt.Errorf("host name %q is longer than 63 characters", name)
	case name[0] == '-' || name[0] == '.':
		return fmt.Errorf("host name %q starts with %q", name, name[0])
	case !isWord(name, ".-_"):
		return fmt.Errorf("host name %q has characters other than letters, digits, '.', '-' and '_'", name)
	}
	return nil
}

// Unique returns an error that names each name borne by two hosts, and the addresses of both.
func Unique(hosts []Host) error {
	first := make(map[string]Host, len(hosts))
	var problems []error
	for _, h := range hosts {
		other, twice := first[h.Name]
		if !twice {
			first[h.Name] = h
			continue
		}
		problems = append(problems, fmt.Errorf("host name %q is used twice, for %s and %s: name one of them, as in other=%s",
			h.Name, other.Address(), h.Address(), h.Addr))
	}
	return errors.Join(problems...)
}

// defaultName derives a name from an address. What a name can't hold becomes '-'; an IPv6 address that
// starts with "::" gets the zero it stands for, because no name starts with '-'.
func defaultName(addr string, port int) string {
	if strings.HasPrefix(addr, ":") {
		addr = "0" + addr
	}
	name := strings.NewReplacer(":", "-", "%", "-").Replace(addr)
	if port != DefaultPort {
		name += "-" + strconv.Itoa(port)
	}
	return name
}

// normalAddr checks an address and brings it into the one form we keep: IP literals as netip prints them.
func normalAddr(addr string) (string, error) {
	if ip, err := netip.ParseAddr(addr); err == nil {
		if !isWord(ip.Zone(), ".-_") {
			return "", fmt.Errorf("zone of %q has characters other than letters, digits, '.', '-' and '_'", addr)
		}
		return ip.String(), nil
	}
	switch {
	case addr == "":
		return "", errors.New("address is empty")
	case len(addr) > 253:
		return "", errors.New("address is longer than 253 characters")
	case addr[0] == '-' || addr[0] == '.':
		return "", fmt.Errorf("address %q starts with %q", addr, addr[0])
	case !isWord(addr, ".-_"):
		return "", fmt.Errorf("address %q has characters other than letters, digits, '.', '-' and '_'", addr)
	}
	return addr, nil
}

// isWord reports whether s has only ASCII letters, digits and the characters in more; "" is a word.
func isWord(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte(more, c) >= 0 {
			continue
		}
		return false
	}
	return true
}
