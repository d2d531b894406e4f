package graph

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// given says where the values of those keys stand that a mapping gives.
type given map[string]Position

// at is the place to point at when key is wrong: its value, or the resource's name, which stands in for many keys.
func (g given) at(key string) Position {
	if at, ok := g[key]; ok {
		return at
	}
	return g["name"]
}

// read prepares to read a resource of one kind: it sets r.Spec and returns what to do with each key, and what to check
// when all keys were read without a problem. It may be called without ever reading anything, to see the keys.
type read func(p *parser, r *Resource) (map[string]field, func(given))

// kinds are the kinds that this version applies, in alphabetical order. Whatever depends on the kind while parsing is here.
// known are keys that mgmt has and this version has not.
var kinds = []struct {
	kind  Kind
	read  read
	known []string
}{
	{KindExec, readExec, []string{
		"watchcwd", "watchfiles", "ifcwd", "ifequals", "nifcmd", "nifcwd", "nifshell", "creates", "mtimes", "donecmd", "donecwd",
		"doneshell", "send", "recv",
	}},
	{KindFile, readFile, []string{"purge", "symlink"}},
	{KindGroup, readGroup, nil},
	{KindKV, readKV, nil},
	{KindNoop, readNoop, nil},
	{KindPkg, readPkg, []string{"allownonfree", "allowunsupported"}},
	{KindSvc, readSvc, nil},
	{KindTimer, readTimer, nil},
	{KindUser, readUser, nil},
}

// mgmtKinds are the kinds of mgmt 1.x that this version lacks; a name that ends in a colon stands for a family.
var mgmtKinds = []string{
	"augeas", "aws:", "bmc:", "cloudflare:", "config:", "consul:", "cron", "deploy:", "dhcp:", "docker:", "esphome", "exit",
	"firewalld", "fwattr", "fwupd", "fwupd:", "gpio", "graph", "gsettings", "gzip", "hetzner:", "hostname", "http:", "line", "mount",
	"msg", "net", "nspawn", "panic", "password", "pippet", "print", "schedule", "sysctl", "tar", "test", "tftp:", "value", "virt",
	"virt:", "vsftpd", "wg:", "world:",
}

// Kinds returns the kinds that this version applies, in alphabetical order.
func Kinds() []Kind {
	out := make([]Kind, len(kinds))
	for i := range kinds {
		out[i] = kinds[i].kind
	}
	return out
}

// Keys returns the keys that the format has, sorted: those of each kind under its name, those of other mappings under
// "definition", "edge", "collect" and "meta". The keys name, comment and meta, which every resource has, are under
// "resource".
func Keys() map[string][]string {
	p := newParser("")
	keys := map[string][]string{}
	add := func(what string, fields map[string]field) { keys[what] = slices.Sorted(maps.Keys(fields)) }
	add("definition", p.definitionFields(&Definition{}))
	add("edge", p.edgeFields(&Edge{}, &[2]Position{}))
	add("collect", p.collectFields(&Collect{}))
	add("meta", p.metaFields(&Meta{}))
	add("resource", p.resourceFields(&Resource{}))
	for _, k := range kinds {
		fields, _ := k.read(p, &Resource{})
		add(string(k.kind), fields)
	}
	return keys
}

func kindNames() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, string(k.kind))
	}
	return names
}

// lacking says in words why there is no such kind.
func lacking(kind string) string {
	for _, k := range mgmtKinds {
		if kind == k || strings.HasSuffix(k, ":") && strings.HasPrefix(kind, k) {
			return "kind " + strconv.Quote(kind) + " needs mgmt itself: run with `--payload mgmt`; the kinds here are " + strings.Join(kindNames(), ", ")
		}
	}
	return "unknown kind " + strconv.Quote(kind) + suggest(kind, kindNames())
}

func readNoop(_ *parser, r *Resource) (map[string]field, func(given)) {
	r.Spec = &Noop{}
	return map[string]field{}, func(given) {}
}

func (p *parser) resources(def *Definition, n ast.Node) {
	m, ok := n.(ast.MapNode)
	if !ok {
		p.fail(nodeAt(n), "resources: want kinds with lists of resources, not %s", describe(n))
		return
	}
	for iter := m.MapRange(); iter.Next(); {
		name := iter.Key().GetToken().Value
		i := slices.Index(Kinds(), Kind(name))
		if i < 0 {
			p.fail(nodeAt(iter.Key()), "%s", lacking(name))
			p.refused[ID{Kind: Kind(name)}] = struct{}{}
			continue
		}
		if value := p.resolve(iter.Value()); value != nil {
			p.list(value, name, func(n ast.Node) { p.resource(def, i, n) })
		}
	}
}

// resource reads one resource of kinds[i].
func (p *parser) resource(def *Definition, i int, n ast.Node) {
	k := &kinds[i]
	r := Resource{ID: ID{Kind: k.kind}, At: nodeAt(n)}
	fields, check := k.read(p, &r)
	maps.Copy(fields, p.resourceFields(&r))
	before := len(p.problems)
	at := p.mapping(n, string(k.kind)+" resource", fields, k.known...)
	switch {
	case len(p.problems) > before:
	case r.ID.Name == "" || r.ID.Name == ExportMark:
		p.fail(r.At, "%s resource without a name", k.kind)
	case r.Exported() && k.kind != KindFile:
		p.fail(at["name"], "%s: only files can be exported; a resource of the kind %s would let one host run commands on others",
			r.ID.Name, k.kind)
	default:
		check(at)
	}
	if len(p.problems) > before {
		p.refused[r.ID] = struct{}{}
		return
	}
	def.Resources = append(def.Resources, r)
	p.given = append(p.given, at)
}

// resourceFields are the keys that every resource has.
func (p *parser) resourceFields(r *Resource) map[string]field {
	var comment string
	return map[string]field{
		"name":    p.text(&r.ID.Name, "name"),
		"comment": p.text(&comment, "comment"),
		"meta":    func(n ast.Node) { p.meta(&r.Meta, n) },
	}
}
