package inventory

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseHost reads one host in any of these forms:
//
//	ssh://user:password@host:port   percent-encoding is decoded in this form only
//	user@host:port
//	host, host:port, [2001:db8::7]:port, user@[2001:db8::7], 2001:db8::7
//
// each optionally after "name=". User and port may be missing; a missing user stays empty. The name is the address, with "-port"
// where the port is not 22 and '-' for the colons of IPv6. A password is taken in the ssh:// form only: elsewhere it
// is too likely a mistake.
func ParseHost(s string) (Host, error) {
	h, err := parseHost(s)
	if err != nil {
		return Host{}, fmt.Errorf("host %q: %w", redact(s), err)
	}
	return h, nil
}

func parseHost(s string) (Host, error) {
	var h Host
	rest := s
	name, after, named := strings.Cut(s, "=")
	// A "=" further right belongs to a user or a password.
	if named && !strings.ContainsAny(name, "@:/[") {
		if err := ValidName(name); err != nil {
			return Host{}, err
		}
		h.Name, rest = name, after
	}
	if err := h.parseAddress(rest); err != nil {
		return Host{}, err
	}
	if h.Name == "" {
		h.Name = defaultName(h.Addr, h.Port)
		if err := ValidName(h.Name); err != nil {
			return Host{}, fmt.Errorf("%w; choose one with name=…", err)
		}
	}
	return h, nil
}

// parseAddress reads all but the name.
func (h *Host) parseAddress(s string) error {
	scheme, _, ok := strings.Cut(s, "://")
	switch {
	case !ok:
		return h.parseShort(s)
	case scheme != "ssh":
		return errors.New("the only scheme is ssh://")
	}
	return h.parseURL(s)
}

// parseURL never passes on an error of net/url: those quote the whole URL.
func (h *Host) parseURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("not a valid URL; the form is ssh://user:password@host:port, with %XX for special characters in user and password")
	case u.Opaque != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		return errors.New("an ssh:// URL has no query and no fragment; write special characters in the password as %XX")
	case u.Path != "" && u.Path != "/":
		return errors.New("an ssh:// URL has no path; write special characters in the password as %XX")
	}
	if u.User != nil {
		password, _ := u.User.Password()
		h.Password = Secret(password)
		if err := h.setUser(u.User.Username()); err != nil {
			return err
		}
	}
	if h.Addr, err = normalAddr(u.Hostname()); err != nil {
		return err
	}
	if strings.HasPrefix(u.Host, "[") && !strings.Contains(h.Addr, ":") {
		return errors.New("what stands in [] is not an IPv6 address")
	}
	if h.Port, err = parsePort(u.Port(), strings.HasSuffix(u.Host, ":")); err != nil {
		return err
	}
	return nil
}

func (h *Host) parseShort(s string) error {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		user := s[:i]
		if strings.Contains(user, ":") {
			return errors.New("a password is taken in the form ssh://user:password@host only")
		}
		if err := h.setUser(user); err != nil {
			return err
		}
		s = s[i+1:]
	}
	addr, port, hasPort := s, "", false
	switch ip, err := netip.ParseAddr(s); {
	case err == nil && ip.Is6():
	case strings.HasPrefix(s, "["):
		inside, after, closed := strings.Cut(s[1:], "]")
		if ip, err := netip.ParseAddr(inside); !closed || err != nil || !ip.Is6() {
			return errors.New("what stands in [] is not an IPv6 address")
		}
		if after != "" && after[0] != ':' {
			return errors.New("after [address] only :port may follow")
		}
		addr = inside
		port, hasPort = strings.CutPrefix(after, ":")
	case strings.Count(s, ":") > 1:
		return errors.New("not a valid IPv6 address; with a port the form is [address]:port")
	default:
		addr, port, hasPort = strings.Cut(s, ":")
	}
	var err error
	if h.Addr, err = normalAddr(addr); err != nil {
		return err
	}
	h.Port, err = parsePort(port, hasPort && port == "")
	return err
}

func (h *Host) setUser(user string) error {
	if user == "" {
		return errors.New("user name is empty")
	}
	if !utf8.ValidString(user) || strings.ContainsFunc(user, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return errors.New("user name has white space or characters that can't be printed")
	}
	h.User = user
	return nil
}

// parsePort doesn't quote what it refuses: in "ssh://user:password" the password stands where a port would.
func parsePort(s string, missing bool) (int, error) {
	if missing {
		return 0, errors.New("port is missing after the colon")
	}
	if s == "" {
		return DefaultPort, nil
	}
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 || s[0] == '+' {
		return 0, errors.New("port is not a number from 1 to 65535")
	}
	return int(port), nil
}

// redact removes everything that may be a password: what stands between the first colon (after the scheme) and the last '@',
// and, in a URL without '@', what stands after that colon unless it is a number or within brackets.
func redact(s string) string {
	start := 0
	if i := strings.Index(s, "ssh://"); i == 0 || i > 0 && s[i-1] == '=' && !strings.ContainsAny(s[:i], ":@") {
		start = i + len("ssh://")
	}
	head, tail := s[:start], s[start:]
	at := strings.LastIndexByte(tail, '@')
	colon := strings.IndexByte(tail, ':')
	switch {
	case colon >= 0 && colon < at:
		return head + tail[:colon] + ":***" + tail[at:]
	case at < 0 && colon >= 0 && start > 0 && tail[0] != '[' && strings.Trim(tail[colon+1:], "0123456789/") != "":
		return head + tail[:colon] + ":***"
	}
	return s
}
