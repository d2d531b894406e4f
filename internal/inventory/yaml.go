package inventory

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
)

// readYAML reads our own format, or Ansible's.
func (b *Builder) readYAML(p *problems, format Format, data []byte) {
	t := &tree{problems: p}
	body := t.parseYAML(data)
	top := t.mapping(body, "inventory")
	if format == formatSomeYAML {
		format = FormatAnsibleYAML
		if slices.ContainsFunc(top, func(p pair) bool { return p.key == "hosts" || p.key == "groups" }) {
			format = FormatYAML
		}
	}
	if format == FormatAnsibleYAML {
		a := newAnsible(b, t)
		for _, g := range top {
			a.yamlGroup(g, "", 0)
		}
		a.done()
		return
	}
	own := &ownFormat{Builder: b, tree: t}
	for _, key := range top {
		switch key.key {
		case "hosts":
			own.hosts(key.value, "")
		case "groups":
			for _, g := range t.mapping(key.value, "groups") {
				own.group(g)
			}
		default:
			t.fail(key.at, "unknown key %q; there are groups, hosts", key.key)
		}
	}
	for _, c := range own.children {
		if g := b.groups[c.name]; g == nil {
			t.fail(c.at, "group %s: children: there is no group %s", c.parent, c.name)
		} else {
			g.parents[c.parent] = struct{}{}
		}
	}
}

// ownFormat reads docs/inventory.md's.
type ownFormat struct {
	*Builder
	*tree
	children []child
}

// child is a group that another one names as a part.
type child struct {
	name, parent string
	at           *yaml.Node
}

// hosts reads names with what is said of them; in is the group they are in, "" for none.
func (o *ownFormat) hosts(n *yaml.Node, in string) {
	if n != nil && n.Kind != yaml.MappingNode {
		for _, e := range o.texts(n, "hosts") {
			o.named(e, in)
		}
		return
	}
	for _, h := range o.mapping(n, "hosts") {
		machines := o.named(h.at, in)
		for _, s := range o.mapping(h.value, h.key) {
			if s.key == "address" && s.value != nil {
				o.addresses(s, h.key, machines)
				continue
			}
			o.setting(s, h.key, "", func(set func(*settings)) {
				for _, m := range machines {
					set(&m.said)
				}
			})
		}
	}
}

// named makes the hosts of a node set.
func (o *ownFormat) named(at *yaml.Node, in string) []*machine {
	names, err := hostNames(at.Value)
	if err != nil {
		o.fail(at, "%v", err)
		return nil
	}
	machines := make([]*machine, len(names))
	for i, name := range names {
		machines[i] = o.machine(name, Origin{File: o.file, Line: at.Line, Group: in})
		if in != "" {
			machines[i].groups[in] = struct{}{}
		}
	}
	return machines
}

// addresses gives each host of a node set its own.
func (o *ownFormat) addresses(s pair, what string, machines []*machine) {
	text, ok := o.scalar(s.value, what+": address")
	if !ok || len(machines) == 0 {
		return
	}
	list, err := expandAddress(text)
	if err == nil && len(list) != len(machines) {
		err = fmt.Errorf("%d hosts and %d addresses: brackets in both go together, as in web[1-3] and 10.0.0.[1-3]", len(machines), len(list))
	}
	if err != nil {
		o.fail(s.value, "%s: address: %v", what, err)
		return
	}
	for i, m := range machines {
		addr, err := checkField(Address, list[i])
		if err != nil {
			o.fail(s.value, "%s: address: %v", what, err)
			return
		}
		m.said.field(Address, Value{Text: addr, Origin: Origin{File: o.file, Line: s.at.Line}})
	}
}

// ownFields are the keys that hosts and groups have in common.
var ownFields = []Field{Port, User, Prefix, Jump, Identity, Become, BecomeUser, BecomeMethod}

// setting reads one key of a host or a group, and hands what it says to apply.
func (o *ownFormat) setting(s pair, what, in string, apply func(func(*settings))) {
	value := func(text string, at *yaml.Node) Value {
		return Value{Text: text, Origin: Origin{File: o.file, Line: at.Line, Group: in}}
	}
	switch key := Field(s.key); {
	case slices.Contains(ownFields, key):
		if s.value == nil {
			return
		}
		text, ok := o.scalar(s.value, what+": "+s.key)
		if !ok {
			return
		}
		text, err := checkField(key, text)
		if err != nil {
			o.fail(s.value, "%s: %s: %v", what, s.key, err)
			return
		}
		apply(func(said *settings) { said.field(key, value(text, s.at)) })
	case s.key == "labels":
		o.labels(s.value, what, func(key, text string, at *yaml.Node) {
			apply(func(said *settings) { said.label(key, value(text, at)) })
		})
	case s.key == "vars":
		for _, v := range o.mapping(s.value, what+": vars") {
			if err := validVar(v.key); err != nil {
				o.fail(v.at, "%s: %v", what, err)
			} else if text, ok := o.variable(v.value, what+": vars: "+v.key); ok {
				apply(func(said *settings) { said.variable(v.key, value(text, v.at)) })
			}
		}
	default:
		known := []string{"become", "become_method", "become_user", "identity", "jump", "labels", "port", "prefix", "user", "vars"}
		if in == "" {
			known = append(known, "address")
		} else {
			known = append(known, "children", "hosts")
		}
		slices.Sort(known)
		o.fail(s.at, "%s: unknown key %q; there are %s", what, s.key, strings.Join(known, ", "))
	}
}

// labels are a mapping, or a list of those without values.
func (o *ownFormat) labels(n *yaml.Node, what string, found func(key, text string, at *yaml.Node)) {
	check := func(key, text string, at *yaml.Node) {
		if err := validLabel(key); err != nil {
			o.fail(at, "%s: %v", what, err)
			return
		}
		found(key, text, at)
	}
	if n != nil && n.Kind != yaml.MappingNode {
		for _, e := range o.texts(n, what+": labels") {
			check(e.Value, "", e)
		}
		return
	}
	for _, l := range o.mapping(n, what+": labels") {
		if text, ok := o.scalar(l.value, what+": labels: "+l.key); ok {
			check(l.key, text, l.at)
		}
	}
}

// group reads one group.
func (o *ownFormat) group(g pair) {
	if err := validGroup(g.key); err != nil {
		o.fail(g.at, "%v", err)
		return
	}
	group := o.Builder.group(g.key)
	what := "group " + g.key
	for _, s := range o.mapping(g.value, what) {
		switch s.key {
		case "hosts":
			o.hosts(s.value, g.key)
		case "children":
			for _, e := range o.texts(s.value, what+": children") {
				for _, name := range o.childNames(e, what) {
					o.children = append(o.children, child{name: name, parent: g.key, at: e})
				}
			}
		default:
			o.setting(s, what, g.key, func(set func(*settings)) { set(&group.said) })
		}
	}
}

func (o *ownFormat) childNames(e *yaml.Node, what string) []string {
	names, err := nodeset.Parse(e.Value)
	for _, name := range names {
		if err == nil {
			err = validGroup(name)
		}
	}
	if err != nil {
		o.fail(e, "%s: children: %v", what, err)
		return nil
	}
	return names
}
