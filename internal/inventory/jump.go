package inventory

import (
	"errors"
	"fmt"
	"strings"
)

// NoJump is what stands for "no jump host", as in ssh_config's ProxyJump.
const NoJump = "none"

// ParseJump reads jump hosts as OpenSSH's ProxyJump has them: [user@]host[:port] or ssh://[user@]host[:port], several
// divided by commas, in the order in which they are passed. "none" and "" are no jump hosts. A password is an error:
// these texts are kept and shown. The hosts are named as ParseHost names those without a name.
func ParseJump(s string) ([]Host, error) {
	named, err := ParseHops(s)
	var hops []Host
	for _, hop := range named {
		hops = append(hops, hop.Host)
	}
	return hops, err
}

// Hop is a jump host as somebody named it.
type Hop struct {
	Host
	SaidPort bool // its port was said
}

// ParseHops is ParseJump for those who want to know what was said.
func ParseHops(s string) ([]Hop, error) {
	if s == "" || s == NoJump {
		return nil, nil
	}
	var hops []Hop
	seen := map[string]bool{}
	for part := range strings.SplitSeq(s, ",") {
		h, err := parseJump(part)
		if err == nil && seen[h.Address()] {
			err = errors.New("is named twice: nothing is gained by passing it again")
		}
		if err != nil {
			return nil, fmt.Errorf("jump host %q: %w", redact(part), err)
		}
		seen[h.Address()] = true
		hops = append(hops, Hop{h, saidPort(part, h)})
	}
	return hops, nil
}

// Through returns the host as it is reached through jump hosts, in the order in which they are passed.
func (h Host) Through(hops []Host) Host {
	h.Jump = nil
	for _, hop := range hops {
		hop.Jump, h.Jump = h.Jump, &hop
	}
	return h
}

// Route names the way to the host's jump host, so that hosts behind the same one are known by it; "" where there is none.
func (h Host) Route() string {
	if h.Jump == nil {
		return ""
	}
	last := h.Jump.User + "@" + h.Jump.Address()
	if h.Jump.SSH != nil { // two names may stand for one address and two ways to log in
		last = h.Jump.Name + "=" + last
	}
	if before := h.Jump.Route(); before != "" {
		return before + "," + last
	}
	return last
}

func parseJump(s string) (h Host, err error) {
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		if scheme != "ssh" {
			return h, errors.New("the only scheme is ssh://")
		}
		err = h.parseURL(s)
	} else {
		err = h.parseShort(s)
	}
	switch {
	case err != nil:
		return h, err
	case h.Password != "":
		return h, errors.New("a password is not taken here: use a key, the ssh-agent or --ask-pass")
	case strings.Contains(h.User, ","):
		return h, errors.New("a user name with a comma is not taken here: jump hosts are divided by commas")
	case h.Addr == NoJump:
		return h, errors.New("stands for no jump host, and so stands alone")
	}
	h.Name = defaultName(h.Addr, h.Port)
	return h, nil
}
