package sshconfig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	always        = "always" // CanonicalizeHostname: also for hosts behind others
	resolveWithin = 15 * time.Second
	resolveAtOnce = 32
	maxAliases    = 16 // of aliases
)

// canonicalize looks for the full name of a host in CanonicalDomains, and follows aliases that are permitted. It reports whether that is
// asked for: then the files are read once more, with that name.
func (l *lookup) canonicalize() (bool, error) {
	wanted := l.first(CanonicalizeHostname)
	if wanted == "" || wanted == "no" {
		return false, nil
	}
	if _, err := netip.ParseAddr(l.host); err == nil {
		return true, nil
	}
	if wanted != always && !l.direct() {
		return true, nil
	}
	full, alias, err := l.fullName()
	if err != nil {
		return false, err
	}
	if full == "" && len(l.permitted()) > 0 { // an alias is looked for by the name as it is
		full, alias = l.host, l.config.resolve(l.ctx, l.family(), l.host, true).alias
	}
	if full != "" {
		l.host = l.follow(full, alias)
	}
	return true, nil
}

// direct reports whether nothing stands between us and the host.
func (l *lookup) direct() bool {
	return !l.query.Proxied && l.jump() == "" && (l.first(ProxyCommand) == "" || strings.EqualFold(l.first(ProxyCommand), None))
}

// fullName is the first name that is known to a name server, without the final dot; empty where none is looked for or found.
func (l *lookup) fullName() (name, alias string, err error) {
	var names []string
	switch {
	case strings.HasSuffix(l.host, "."):
		names = []string{l.host}
	case strings.Count(l.host, ".") > l.maxDots():
		return "", "", nil
	default:
		for _, domain := range l.words(CanonicalDomains) {
			if strings.EqualFold(domain, None) {
				break
			}
			names = append(names, strings.ToLower(l.host+"."+domain+"."))
		}
	}
	for _, name := range names {
		if a := l.config.resolve(l.ctx, l.family(), name, len(l.permitted()) > 0); a.found {
			return strings.TrimSuffix(name, "."), a.alias, nil
		}
	}
	if err := l.ctx.Err(); err != nil {
		return "", "", err
	}
	if l.first(CanonicalizeFallbackLocal) == "no" {
		at := l.result.values[CanonicalizeFallbackLocal][0].Origin
		return "", "", fmt.Errorf("%s: CanonicalizeFallbackLocal no: no name server knows %s as any of %s", at, l.host, strings.Join(names, " "))
	}
	return "", "", nil
}

// follow is what stands for a name by CanonicalizePermittedCNAMEs.
func (l *lookup) follow(name, alias string) string {
	if alias == "" || alias == name {
		return name
	}
	for _, rule := range l.permitted() {
		from, to, _ := strings.Cut(rule, ":")
		if matchList(name, from) && matchList(alias, to) {
			return alias
		}
	}
	return name
}

func (l *lookup) permitted() []string {
	rules := l.words(CanonicalizePermittedCNAMEs)
	if len(rules) == 1 && strings.EqualFold(rules[0], None) {
		return nil
	}
	return rules
}

func (l *lookup) words(k Keyword) []string {
	if v := l.result.values[k]; len(v) > 0 {
		return v[0].Text
	}
	return nil
}

func (l *lookup) maxDots() int {
	if text := l.first(CanonicalizeMaxDots); text != "" {
		n, _ := strconv.Atoi(text) // check has let numbers through only
		return n
	}
	return 1
}

// family is the network of addresses that a host may have.
func (l *lookup) family() string {
	switch l.first(AddressFamily) {
	case "inet":
		return "ip4"
	case "inet6":
		return "ip6"
	}
	return "ip"
}

// name is one that was looked for.
type name struct {
	once  sync.Once
	found bool
	alias string // what it is an alias for, in lower case; itself where it is none; "" = not looked for
}

// resolve asks for a name once for all hosts. Names that can't be found out are not there, as to OpenSSH.
func (c *Config) resolve(ctx context.Context, family, text string, alias bool) *name {
	id := fmt.Sprint(family, " ", text, " ", alias)
	c.namesMu.Lock()
	n := c.names[id]
	if n == nil {
		n = &name{}
		c.names[id] = n
	}
	c.namesMu.Unlock()
	n.once.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, resolveWithin)
		defer cancel()
		resolver := c.local.Resolver
		if resolver == nil {
			resolver = net.DefaultResolver
		}
		addresses, err := resolver.LookupNetIP(ctx, family, text)
		if n.found = err == nil && len(addresses) > 0; !n.found || !alias {
			return
		}
		// Of an alias of an alias the library may tell the one in the middle (where a name has no address of one family).
		for range maxAliases {
			of, err := resolver.LookupCNAME(ctx, text)
			if err != nil || of == text {
				break
			}
			n.alias, text = strings.ToLower(strings.TrimSuffix(of, ".")), of
		}
	})
	return n
}

// Prepare looks for the names of many hosts at once, so that Lookup does not wait for a name server once for each. It does nothing
// where the files don't say CanonicalizeHostname.
func (c *Config) Prepare(ctx context.Context, queries []Query) {
	if !c.canonical {
		return
	}
	var group errgroup.Group
	group.SetLimit(resolveAtOnce)
	for _, q := range queries {
		group.Go(func() error {
			_, _ = c.Lookup(ctx, q) // whoever asks next has the same answer, error or not
			return nil
		})
	}
	_ = group.Wait() // there are no errors
}

var errDomain = errors.New("a domain has letters, digits, \"-\", \"_\" and single dots, and begins with a letter or digit")

// checkCanonical checks the arguments of CanonicalDomains and CanonicalizePermittedCNAMEs.
func checkCanonical(k Keyword, words []string) ([]string, error) {
	words = slices.Clone(words)
	for i, word := range words {
		none := strings.EqualFold(word, None)
		switch {
		case word == "":
			return nil, errors.New("a name is empty")
		case none && len(words) > 1:
			return nil, errors.New("none stands alone")
		case none:
		case k == CanonicalizePermittedCNAMEs && word == "*":
			words[i] = "*:*"
		case k == CanonicalDomains:
			alphanumeric := func(r byte) bool { return r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z' }
			if !alphanumeric(word[0]) || strings.Contains(word, "..") || strings.ContainsFunc(word, func(r rune) bool {
				return r > 0x7f || !alphanumeric(byte(r)) && r != '-' && r != '_' && r != '.'
			}) {
				return nil, fmt.Errorf("%q: %w", word, errDomain)
			}
		default:
			words[i] = strings.ToLower(word)
			if _, to, _ := strings.Cut(word, ":"); to == "" {
				return nil, fmt.Errorf("%q: a rule is DOMAINS:DOMAINS, each with commas between patterns", word)
			}
		}
	}
	if len(words) == 0 {
		return nil, errors.New("the value is missing")
	}
	return words, nil
}
