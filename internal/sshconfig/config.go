package sshconfig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// None as Options.File means no file at all.
const None = "none"

// systemFile is what every user's ssh reads after the user's own file.
const systemFile = "/etc/ssh/ssh_config"

// Options say which files are read.
type Options struct {
	File   string // instead of both files, as ssh's -F; "" = ~/.ssh/config and /etc/ssh/ssh_config, None = none
	Local  Local  // zero fields are found out
	System string // instead of /etc/ssh/ssh_config; relative names in Include are beside it
}

// Local is what is known about this machine and who uses it.
type Local struct {
	User, UID, Home, Host string
	Getenv                func(string) (string, bool)
	Resolver              *net.Resolver // who is asked by CanonicalizeHostname; nil = as for all connections
}

// Config is what the files say. It can be used by several goroutines.
type Config struct {
	files     []*file
	final     bool // some Match line has "final": what fits is looked for twice
	canonical bool // some line is CanonicalizeHostname
	local     Local

	mu      sync.Mutex
	answers map[string]execAnswer // of Match exec

	namesMu sync.Mutex
	names   map[string]*name // that were looked for, by family and what is wanted
}

// Load reads the files. The error is a fault, and tells all that is wrong, each with file and line.
func Load(o Options) (*Config, error) {
	c := &Config{local: o.Local, answers: map[string]execAnswer{}, names: map[string]*name{}}
	if err := c.local.complete(); err != nil {
		return nil, fault.Wrap(fault.Environment, "read ssh_config", err)
	}
	system := cmp.Or(o.System, systemFile)
	p := &parser{home: c.local.Home, system: filepath.Dir(system)}
	read := func(name string, from origin) {
		f, err := p.read(name, from)
		switch {
		case err != nil:
			p.problems = append(p.problems, err)
		case f != nil:
			c.files = append(c.files, f)
		case o.File != "":
			p.problems = append(p.problems, fmt.Errorf("%s: there is no such file", name))
		}
	}
	switch o.File {
	case None:
	case "":
		if c.local.Home != "" {
			read(filepath.Join(c.local.Home, ".ssh", "config"), origin{user: true, check: true})
		}
		read(system, origin{})
	default:
		read(o.File, origin{user: true})
	}
	if err := errors.Join(p.problems...); err != nil {
		return nil, fault.Wrap(fault.Environment, "read ssh_config", err).WithRemedy("correct it, or leave it out with -F none")
	}
	c.final, c.canonical = p.final, p.canonical
	return c, nil
}

func (l *Local) complete() error {
	if l.User == "" || l.UID == "" {
		u, err := user.Current()
		if err != nil {
			return err
		}
		l.User, l.UID = cmp.Or(l.User, u.Username), cmp.Or(l.UID, u.Uid)
	}
	if l.Home == "" {
		l.Home, _ = os.UserHomeDir() // without one there is no file of the user's
	}
	if l.Host == "" {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		l.Host = name
	}
	if l.Getenv == nil {
		l.Getenv = os.LookupEnv
	}
	return nil
}

// Empty reports whether there is no file, so that nothing is said about any host.
func (c *Config) Empty() bool { return len(c.files) == 0 }

// Query is a host as somebody names it, and what is said about it elsewhere, which goes before all files.
type Query struct {
	Host string // what ssh would be given
	User string // "" = not said
	Port int    // 0 = not said
	Jump string // as ProxyJump; "" = not said
	// Proxied is a host that is reached through another, which is none of the files' business.
	Proxied bool
}

// Value is what was said with a keyword.
type Value struct {
	Text   []string // as it stands there; more than one where a keyword takes several
	Origin Origin
}

// Result is what the files say about a host.
type Result struct {
	Canonical string // what CanonicalizeHostname made of the name; "" = nothing
	values    [keywords][]Value
	lookup    *lookup
}

// Values are those of a keyword, the first being the one that counts; IdentityFile and CertificateFile may have several that do.
func (r *Result) Values(k Keyword) []Value { return r.values[k] }

// lookup is one host being looked up.
type lookup struct {
	ctx    context.Context //nolint:containedctx // it lives as long as one call of Lookup
	config *Config
	query  Query
	result *Result
	host   string // what Host lines are compared with
	name   string // in the final pass: what HostName made of the host
	final  bool
}

// Lookup says what the files say about a host. ctx bounds the commands of Match exec. The error is a fault.
func (c *Config) Lookup(ctx context.Context, q Query) (*Result, error) {
	r := &Result{}
	l := &lookup{ctx: ctx, config: c, query: q, result: r, host: q.Host}
	r.lookup = l
	err := l.pass()
	if err == nil {
		l.host = l.hostName()
		if _, ip := netip.ParseAddr(l.host); ip != nil {
			l.host = strings.ToLower(l.host)
		}
		var again bool
		named := l.host
		if again, err = l.canonicalize(); err == nil {
			l.name = l.host
			if l.host != named {
				r.Canonical = l.host
			}
			if c.final || again {
				l.final = true
				err = l.pass()
			}
		}
	}
	if err != nil {
		return nil, fault.Wrap(fault.Environment, "read ssh_config", err)
	}
	return r, nil
}

func (l *lookup) pass() error {
	for _, f := range l.config.files {
		if err := l.file(f); err != nil {
			return err
		}
	}
	return nil
}

func (l *lookup) file(f *file) error {
	for _, i := range f.candidates(l.host) {
		b := &f.blocks[i]
		switch {
		case b.hosts != nil:
			if !matchBlock(l.host, b.hosts) {
				continue
			}
		case b.match != nil:
			yes, err := l.matches(b.match)
			if err != nil {
				return err
			}
			if !yes {
				continue
			}
		}
		for _, d := range b.content {
			if d.keyword != includeFiles {
				if err := l.take(d); err != nil {
					return err
				}
				continue
			}
			for _, included := range d.files {
				if err := l.file(included); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// take takes a value, if it is the first of its keyword.
func (l *lookup) take(d directive) error {
	have := &l.result.values[d.keyword]
	switch d.keyword {
	case IdentityFile, CertificateFile: // all count, each once
		if slices.ContainsFunc(*have, func(v Value) bool { return v.Text[0] == d.values[0] }) {
			return nil
		}
	case ProxyCommand, ProxyJump: // the first of both
		jump := l.first(ProxyJump)
		switch {
		case l.query.Jump != "" || len(l.result.values[ProxyCommand]) > 0:
			return nil
		case jump != "" && (d.keyword == ProxyJump || jump != inventory.NoJump):
			return nil
		}
	default:
		if len(*have) > 0 {
			return nil
		}
	}
	*have = append(*have, Value{d.values, d.at})
	if d.keyword == HostName && !l.final {
		if _, err := l.expandHostName(); err != nil {
			return fmt.Errorf("%s: HostName: %w", d.at, err)
		}
	}
	return nil
}

func (l *lookup) first(k Keyword) string {
	if v := l.result.values[k]; len(v) > 0 {
		return v[0].Text[0]
	}
	return ""
}

func (l *lookup) expandHostName() (string, error) {
	return expandTokens(l.first(HostName), "h", func(byte) string { return l.query.Host })
}

// hostName is where the host is, as far as that is known by now.
func (l *lookup) hostName() string {
	if l.name != "" {
		return l.name
	}
	if name, _ := l.expandHostName(); name != "" { // take has looked at it
		return name
	}
	return l.query.Host
}

func (l *lookup) user() string { return cmp.Or(l.query.User, l.first(User), l.config.local.User) }

func (l *lookup) port() string {
	if l.query.Port != 0 {
		return strconv.Itoa(l.query.Port)
	}
	return cmp.Or(l.first(Port), strconv.Itoa(inventory.DefaultPort))
}

func (l *lookup) jump() string {
	jump := cmp.Or(l.query.Jump, l.first(ProxyJump))
	if jump == inventory.NoJump {
		return ""
	}
	return jump
}
