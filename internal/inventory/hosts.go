package inventory

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
)

// ParseHosts reads a host in one of the forms of ParseHost, or many in the notation of node sets: brackets in the address,
// the user or the name, and operators between them. Brackets in a name and in its address go together: "web[1-3]=10.0.0.[1-3]" are
// three hosts. A user name with an operator in it needs the ssh:// form. Operators compare names, so that "root@web[1-9]!web3" leaves web3 out.
func ParseHosts(text string) ([]Host, error) {
	parsed, err := new(Builder).parseHosts(text)
	hosts := make([]Host, len(parsed))
	for i, h := range parsed {
		hosts[i] = h.Host
	}
	return hosts, err
}

// givenHost is a host and what its text said itself.
type givenHost struct {
	Host
	port bool // it named the port
}

// parseHosts is ParseHosts for hosts that sources may know: "web1:2222" is the known host web1 at another port.
func (b *Builder) parseHosts(text string) ([]givenHost, error) {
	hosts, err := b.parseSet(text)
	if err != nil {
		return nil, fmt.Errorf("host %q: %w", redact(text), err)
	}
	return hosts, nil
}

func (b *Builder) parseSet(text string) ([]givenHost, error) {
	if strings.Contains(text, "://") { // a URL is one host; its user and password may hold anything
		h, err := b.parseGiven(text)
		return []givenHost{h}, err
	}
	operands, err := nodeset.Split(text)
	if err != nil {
		if text == "" {
			err = errors.New("address is empty")
		}
		return nil, err
	}
	if len(operands) == 1 && !strings.Contains(text, "[") { // white space and the like is for ParseHost to refuse
		h, err := b.parseGiven(text)
		return []givenHost{h}, err
	}
	total := 0
	for _, o := range operands {
		_, address := cutName(o.Text)
		if !isSet(address) {
			total++
		} else if n, err := nodeset.Count(address); err == nil { // an error comes again, with its place
			total += n
		}
	}
	if total > nodeset.MaxNames {
		return nil, fmt.Errorf("these are more than %d hosts", nodeset.MaxNames)
	}
	var names nodeset.Set
	byName := map[string]givenHost{}
	for _, o := range operands {
		hosts, err := b.parseOperand(o.Text)
		if err != nil {
			return nil, err
		}
		operand := make([]string, len(hosts))
		for i, h := range hosts {
			operand[i] = h.Name
			if o.Op != nodeset.Union && o.Op != nodeset.Symmetric {
				continue
			}
			if other, twice := byName[h.Name]; twice && other != h {
				return nil, Unique([]Host{other.Host, h.Host})
			}
			byName[h.Name] = h
		}
		names.Apply(o.Op, operand)
	}
	left := names.Names()
	hosts := make([]givenHost, len(left))
	for i, name := range left {
		hosts[i] = byName[name]
	}
	if len(hosts) == 0 {
		return nil, errors.New("no host is left")
	}
	return hosts, nil
}

// parseOperand reads what stands between operators.
func (b *Builder) parseOperand(text string) ([]givenHost, error) {
	name, address := cutName(text)
	addresses, err := expandAddress(address)
	if err != nil {
		return nil, err
	}
	if name != "" {
		names, err := nodeset.Expand(name)
		if err != nil {
			return nil, err
		}
		if len(names) != len(addresses) {
			return nil, fmt.Errorf("%d names for %d addresses: brackets in the name and in the address go together, as in web[1-3]=10.0.0.[1-3]",
				len(names), len(addresses))
		}
		for i, n := range names {
			addresses[i] = n + "=" + addresses[i]
		}
	}
	hosts := make([]givenHost, len(addresses))
	for i, one := range addresses {
		if hosts[i], err = b.parseGiven(one); err != nil {
			return nil, err
		}
	}
	return hosts, nil
}

// cutName takes the name off that stands before "=". One further right belongs to a user.
func cutName(text string) (name, address string) {
	name, address, named := strings.Cut(text, "=")
	if !named || name == "" || strings.ContainsAny(name, "@:/") {
		return "", text
	}
	return name, address
}

// isSet reports whether there are brackets, other than those of an IPv6 address: a colon is in those only.
func isSet(address string) bool {
	_, inside, bracket := strings.Cut(address, "[")
	inside, _, closed := strings.Cut(inside, "]")
	return bracket && (!closed || !strings.Contains(inside, ":"))
}

// expandAddress expands a node set, and leaves everything else as it is.
func expandAddress(text string) ([]string, error) {
	if !isSet(text) {
		return []string{text}, nil
	}
	return nodeset.Expand(text)
}

// parseGiven reads one host. A name that was made of address and port is the address alone, where that is a known host.
func (b *Builder) parseGiven(text string) (givenHost, error) {
	h, err := parseHost(text)
	if err != nil {
		return givenHost{}, err
	}
	if h.Name == defaultName(h.Addr, h.Port) && b.machines[h.Addr] != nil {
		h.Name = h.Addr
	}
	return givenHost{Host: h, port: saidPort(text, h)}, nil
}

// saidPort reports whether a host's text named the port.
func saidPort(text string, h Host) bool {
	return h.Port != 0 && h.Port != DefaultPort || strings.HasSuffix(text, ":22") && (!strings.Contains(h.Addr, ":") || strings.HasSuffix(text, "]:22"))
}
