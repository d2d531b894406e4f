package inventory

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
)

// ansible reads Ansible's formats: https://docs.ansible.com/ansible/latest/inventory_guide/intro_inventory.html. What has
// a meaning to us becomes a field, everything else a variable.
type ansible struct {
	*Builder
	*tree
	passwords int                 // hosts and groups with one
	password  string              // where the first stands
	told      map[string]struct{} // keys that were warned about
}

func newAnsible(b *Builder, t *tree) *ansible {
	return &ansible{Builder: b, tree: t, told: map[string]struct{}{}}
}

// ansibleFields are the behavioural parameters that we have, with the older spellings.
var ansibleFields = map[string]Field{
	"ansible_host": Address, "ansible_ssh_host": Address,
	"ansible_port": Port, "ansible_ssh_port": Port,
	"ansible_user": User, "ansible_ssh_user": User,
	"ansible_private_key_file": Identity, "ansible_ssh_private_key_file": Identity,
	"ansible_password": Password, "ansible_ssh_pass": Password, "ansible_ssh_password": Password,
	"ansible_become": Become, "ansible_become_user": BecomeUser, "ansible_become_method": BecomeMethod,
	"ansible_become_password": BecomePassword, "ansible_become_pass": BecomePassword,
	string(connection): connection, string(priority): priority,
}

// proxyJump is how arguments for ssh name jump hosts.
var proxyJump = regexp.MustCompile(`(?:^|\s)(?:-J\s*|-o\s*["']?ProxyJump[= ])["']?([^\s"']+)["']?`)

// ansibleUnused are parameters that change what Ansible does on the way to a host or on it, and nothing here.
var ansibleUnused = map[string]struct{}{
	"ansible_become_exe": {}, "ansible_become_flags": {},
	"ansible_ssh_common_args": {}, "ansible_ssh_extra_args": {}, "ansible_ssh_executable": {}, "ansible_ssh_args": {},
}

var sshConnections = map[string]bool{"ssh": true, "smart": true, "paramiko": true, "paramiko_ssh": true, "ansible.builtin.ssh": true}

var ansibleSecret = regexp.MustCompile(`^ansible_\w*(pass|password|passphrase)$`)

// assign takes one variable of a host or a group.
func (a *ansible) assign(said *settings, key, text string, from Origin) error {
	v := Value{Text: text, Origin: from}
	f, known := ansibleFields[key]
	switch {
	case known && (f == Password || f == BecomePassword):
		if strings.Contains(text, "{{") {
			return fmt.Errorf("%s is a Jinja template, and those are not evaluated", key)
		}
		if a.passwords++; a.passwords == 1 {
			a.password = from.place()
		}
		secret := Secret(text)
		said.field(f, Value{Text: hidden, Origin: from, secret: &secret})
		return nil
	case known && f == connection:
		if !sshConnections[text] {
			said.field(connection, v)
		}
		return nil
	case known && f == BecomeMethod: // Ansible has many that we have not; only where one is used it matters
		said.field(f, v)
		return nil
	case known:
		text, err := checkField(f, text)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		v.Text = text
		said.field(f, v)
		return nil
	case ansibleSecret.MatchString(key):
		a.once(key, "%s: %s is not used, and left out", from.place(), key)
		return nil
	}
	rest := text
	if strings.HasSuffix(key, "_args") && strings.HasPrefix(key, "ansible_ssh_") {
		if m := proxyJump.FindStringSubmatch(text); m != nil {
			jump, err := checkField(Jump, m[1])
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			said.field(Jump, Value{Text: jump, Origin: from})
			rest = strings.TrimSpace(strings.Replace(text, m[0], "", 1))
		}
	}
	if _, unused := ansibleUnused[key]; unused && rest != "" {
		a.once(key, "%s: %s is not used: it is a variable like any other", from.place(), key)
	}
	if err := validVar(key); err != nil {
		return err
	}
	said.variable(key, v)
	return nil
}

// once warns about a key the first time that it is met in a source.
func (a *ansible) once(key, format string, args ...any) {
	if _, known := a.told[key]; !known {
		a.told[key] = struct{}{}
		a.warn(format, args...)
	}
}

// done says what was met more than once.
func (a *ansible) done() {
	if a.passwords > 0 {
		a.warn("%s: %s in a file, where others may see them; use keys, or have them asked for", a.password, plural(a.passwords, "password"))
	}
}

// hosts makes the hosts of one of Ansible's patterns: web[01:20].example, web[a:f], each with a :port if it likes.
func (a *ansible) hosts(pattern string, from Origin) ([]*machine, error) {
	port := ""
	if m := patternPort.FindStringSubmatch(pattern); m != nil {
		pattern, port = m[1], m[2]
	}
	var err error
	pattern = ansibleRange.ReplaceAllStringFunc(pattern, func(r string) string {
		parts := strings.Split(r[1:len(r)-1], ":")
		if parts[0] == "" {
			parts[0] = "0"
		}
		if parts[1] == "" {
			err = fmt.Errorf("range %s has no end", r)
		}
		out := "[" + parts[0] + "-" + parts[1]
		if len(parts) == 3 {
			out += "/" + parts[2]
		}
		return out + "]"
	})
	if err != nil {
		return nil, err
	}
	names, err := nodeset.Expand(pattern)
	if err != nil {
		return nil, err
	}
	machines := make([]*machine, len(names))
	for i, name := range names {
		if err := ValidName(name); err != nil {
			return nil, err
		}
		machines[i] = a.machine(name, from)
		if from.Group != "" && from.Group != All && from.Group != Ungrouped {
			machines[i].groups[from.Group] = struct{}{}
		}
		if port != "" {
			if err := a.assign(&machines[i].said, "ansible_port", port, Origin{File: from.File, Line: from.Line}); err != nil {
				return nil, err
			}
		}
	}
	return machines, nil
}

var (
	ansibleRange = regexp.MustCompile(`\[[^\[\]:]*:[^\[\]:]*(:[^\[\]:]*)?\]`)
	patternPort  = regexp.MustCompile(`^((?:[^:\[\]]|\[[^\]]*\])+):(\d+)$`)
)

// child makes a group a part of another.
func (a *ansible) child(name, parent string) error {
	if err := validGroup(name); err != nil {
		return err
	}
	if name == All {
		return errors.New("all is the group of all hosts, and in no other")
	}
	g := a.group(name)
	if parent != "" && parent != All {
		g.parents[parent] = struct{}{}
	}
	return nil
}

// yamlGroup reads a group of the YAML format, with its hosts and children.
func (a *ansible) yamlGroup(g pair, parent string, depth int) {
	if depth > maxDepth {
		a.fail(g.at, "groups are nested deeper than %d levels", maxDepth)
		return
	}
	if g.key != All || parent != "" {
		if err := a.child(g.key, parent); err != nil {
			a.fail(g.at, "%v", err)
			return
		}
	}
	what := "group " + g.key
	for _, s := range a.mapping(g.value, what) {
		switch s.key {
		case "hosts":
			a.yamlHosts(s.value, g.key)
		case "vars":
			a.yamlVars(s.value, what, &a.group(g.key).said, g.key)
		case "children":
			if s.value != nil && s.value.Kind != yaml.MappingNode {
				for _, e := range a.texts(s.value, what+": children") {
					if err := a.child(e.Value, g.key); err != nil {
						a.fail(e, "%v", err)
					}
				}
				continue
			}
			for _, c := range a.mapping(s.value, what+": children") {
				a.yamlGroup(c, g.key, depth+1)
			}
		default:
			a.fail(s.at, "%s: unknown key %q; there are children, hosts, vars", what, s.key)
		}
	}
}

// yamlHosts reads the hosts of a group: a mapping, or as scripts have it a list.
func (a *ansible) yamlHosts(n *yaml.Node, in string) {
	if n != nil && n.Kind != yaml.MappingNode {
		for _, e := range a.texts(n, "group "+in+": hosts") {
			if _, err := a.hosts(e.Value, Origin{File: a.file, Line: e.Line, Group: in}); err != nil {
				a.fail(e, "host %q: %v", e.Value, err)
			}
		}
		return
	}
	for _, h := range a.mapping(n, "group "+in+": hosts") {
		machines, err := a.hosts(h.key, Origin{File: a.file, Line: h.at.Line, Group: in})
		if err != nil {
			a.fail(h.at, "host %q: %v", h.key, err)
			continue
		}
		for _, m := range machines {
			a.yamlVars(h.value, "host "+h.key, &m.said, "")
		}
	}
}

func (a *ansible) yamlVars(n *yaml.Node, what string, said *settings, in string) {
	for _, v := range a.mapping(n, what) {
		text, ok := a.variable(v.value, what+": "+v.key)
		if !ok {
			continue
		}
		if err := a.assign(said, v.key, text, Origin{File: a.file, Line: v.at.Line, Group: in}); err != nil {
			a.fail(v.at, "%s: %v", what, err)
		}
	}
}

// readJSON reads what a dynamic inventory answers to --list: groups, and _meta.hostvars.
func (b *Builder) readJSON(p *problems, data []byte) {
	a := newAnsible(b, &tree{problems: p})
	body := a.parseJSON(data)
	if body == nil {
		if len(p.list) == 0 {
			p.add(0, 0, "says nothing: want an object with groups")
		}
		return
	}
	var hostvars []pair
	for _, g := range a.mapping(body, "inventory") {
		switch {
		case g.key == "_meta":
			for _, m := range a.mapping(g.value, "_meta") {
				if m.key == "hostvars" {
					hostvars = a.mapping(m.value, "hostvars")
				}
			}
		case g.value != nil && g.value.Kind == yaml.SequenceNode: // a group as a bare list of hosts
			if err := a.child(g.key, ""); err != nil && g.key != All {
				a.fail(g.at, "%v", err)
				continue
			}
			a.yamlHosts(g.value, g.key)
		default:
			a.yamlGroup(g, "", 0)
		}
	}
	for _, h := range hostvars {
		if m := b.machines[h.key]; m != nil { // Ansible, too, takes hosts from groups only
			a.yamlVars(h.value, "host "+h.key, &m.said, "")
		}
	}
	a.done()
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
