package inventory

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Origin is where a value comes from.
type Origin struct {
	File  string `json:"file,omitempty"`  // as it was named; "-H" for the command line; empty for what nobody said
	Line  int    `json:"line,omitempty"`  // 0: the whole of File
	Group string `json:"group,omitempty"` // the group that it was said of; empty where it was the host itself
}

// String is "hosts.yaml:7, group web", or "default".
func (o Origin) String() string {
	if o.File == "" {
		return "default"
	}
	text := o.place()
	if o.Group != "" {
		text += ", group " + o.Group
	}
	return text
}

func (o Origin) place() string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// Value is one thing that a source says, and where.
type Value struct {
	Text   string  `json:"value"`
	Origin Origin  `json:"origin"`
	secret *Secret // of a password, whose Text says nothing; a pointer, because fmt looks into fields that have no capital
}

// Secret is what a value stands for that is not to be shown; "" = nothing is.
func (v Value) Secret() Secret {
	if v.secret == nil {
		return ""
	}
	return *v.secret
}

// Field names what an inventory can say about the way to a host.
type Field string

// The fields.
const (
	Address  Field = "address"  // host name or IP literal
	Port     Field = "port"     // of the SSH server
	User     Field = "user"     // login name
	Password Field = "password" // Ansible inventories only
	Prefix   Field = "prefix"   // directory to work in
	Jump     Field = "jump"     // jump hosts, as ssh -J takes them
	Identity Field = "identity" // private key file

	Become       Field = "become"        // "true": everything is run as another user
	BecomeUser   Field = "become_user"   // who that is
	BecomeMethod Field = "become_method" // sudo or doas

	BecomePassword Field = "become_password" // for that; Ansible inventories only
)

// Fields that are used here only.
const (
	connection Field = "ansible_connection"
	priority   Field = "ansible_group_priority"
)

// Fields are those that an entry may have, in the order in which they are shown.
func Fields() []Field {
	return []Field{Address, Port, User, Password, Prefix, Jump, Identity, Become, BecomeUser, BecomeMethod, BecomePassword}
}

// All is the group of all hosts, Ungrouped that of hosts that are in no other one. They exist without being said.
const (
	All       = "all"
	Ungrouped = "ungrouped"
)

// Inventory is which hosts there are and what is known about them. It does not change, and can be used by several goroutines.
type Inventory struct {
	Entries  []*Entry // in the order in which the sources name them
	Warnings []string // what is left out of the sources, or better were not in them
	byName   map[string]*Entry
	groups   map[string]struct{} // names of all that were said, with All and Ungrouped
}

// Entry is what is known about a host, with what its groups say. Nobody changes it: entries share their maps.
type Entry struct {
	Host   Host             // of Fields; defaults where nothing was said
	Named  Origin           // where the host was first named
	Groups []string         // all it is in, also by their children: parents before children, All first
	Fields map[Field]Value  // what was said, without defaults
	Labels map[string]Value // a label without a value has an empty text
	Vars   map[string]Value // variables for templates; what is no plain value is JSON
}

// Entry returns the host of that name, nil if there is none.
func (inv *Inventory) Entry(name string) *Entry { return inv.byName[name] }

// Names are the names of entries.
func Names(entries []*Entry) []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Host.Name
	}
	return names
}

// settings is what one group or host is said to have.
type settings struct {
	fields map[Field]Value
	labels map[string]Value
	vars   map[string]Value
}

func (s *settings) field(f Field, v Value)       { set(&s.fields, f, v) }
func (s *settings) label(key string, v Value)    { set(&s.labels, key, v) }
func (s *settings) variable(key string, v Value) { set(&s.vars, key, v) }

func set[K comparable](m *map[K]Value, key K, v Value) {
	if *m == nil {
		*m = map[K]Value{}
	}
	(*m)[key] = v
}

// over returns s with what o says on top of it. The result may share maps with both.
func (s settings) over(o settings) settings {
	return settings{fields: overlay(s.fields, o.fields), labels: overlay(s.labels, o.labels), vars: overlay(s.vars, o.vars)}
}

func overlay[K comparable](low, high map[K]Value) map[K]Value {
	switch {
	case len(high) == 0:
		return low
	case len(low) == 0:
		return high
	}
	m := make(map[K]Value, len(low)+len(high))
	maps.Copy(m, low)
	maps.Copy(m, high)
	return m
}

// group is one as the sources say it.
type group struct {
	name     string
	said     settings
	parents  map[string]struct{}
	depth    int // the longest way from All; 0 until resolve
	priority int
}

// machine is a host as the sources say it.
type machine struct {
	name   string
	named  Origin
	said   settings
	groups map[string]struct{} // it was said to be in
}

// Builder collects what sources say. Later ones add to earlier ones, and what both say of the same group or host the
// later one says. The zero value is empty and ready for use; it is for one goroutine.
type Builder struct {
	groups   map[string]*group
	machines map[string]*machine
	order    []*machine
	warnings []string
	given    map[string]Host // by file and name, as one line of a list or one -H says it
}

func (b *Builder) group(name string) *group {
	g := b.groups[name]
	if g == nil {
		if b.groups == nil {
			b.groups = map[string]*group{}
		}
		g = &group{name: name, parents: map[string]struct{}{}}
		b.groups[name] = g
	}
	return g
}

// machine returns the host of that name, which must be valid.
func (b *Builder) machine(name string, from Origin) *machine {
	m := b.machines[name]
	if m == nil {
		if b.machines == nil {
			b.machines = map[string]*machine{}
		}
		m = &machine{name: name, named: from, groups: map[string]struct{}{}}
		b.machines[name] = m
		b.order = append(b.order, m)
	}
	return m
}

func (b *Builder) warn(format string, args ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, args...))
}

// Inventory is all that the sources said. The error names groups that contain themselves.
func (b *Builder) Inventory() (*Inventory, error) {
	if err := b.rank(); err != nil {
		return nil, err
	}
	inv := &Inventory{
		byName: make(map[string]*Entry, len(b.order)), Warnings: slices.Clone(b.warnings),
		groups: map[string]struct{}{All: {}, Ungrouped: {}},
	}
	for name := range b.groups {
		inv.groups[name] = struct{}{}
	}
	shared := map[string]inherited{}
	left := map[Origin][]string{} // hosts that are left out
	for _, m := range b.order {
		from := b.inherit(m, shared)
		have := from.said.over(m.said)
		if c, ok := have.fields[connection]; ok {
			left[c.Origin] = append(left[c.Origin], m.name)
			continue
		}
		host, err := hostOf(m.name, have.fields)
		if err != nil {
			return nil, err
		}
		e := &Entry{Host: host, Named: m.named, Groups: from.names, Fields: have.fields, Labels: have.labels, Vars: have.vars}
		inv.Entries = append(inv.Entries, e)
		inv.byName[m.name] = e
	}
	for _, o := range slices.SortedFunc(maps.Keys(left), func(a, b Origin) int { return strings.Compare(a.String(), b.String()) }) {
		inv.Warnings = append(inv.Warnings, fmt.Sprintf("%s: left out, because %s says another connection than SSH: %s", o.place(), connection, shortList(left[o])))
	}
	return inv, nil
}

// inherited is what all hosts of the same groups have from them.
type inherited struct {
	names []string
	said  settings
}

// inherit merges what the groups of a host say: parents before children, and those of one rank by priority and name.
func (b *Builder) inherit(m *machine, shared map[string]inherited) inherited {
	direct := slices.Sorted(maps.Keys(m.groups))
	key := strings.Join(direct, "\n")
	if known, ok := shared[key]; ok {
		return known
	}
	all := map[string]struct{}{All: {}}
	var climb func(name string)
	climb = func(name string) {
		if _, seen := all[name]; seen {
			return
		}
		all[name] = struct{}{}
		for parent := range b.group(name).parents {
			climb(parent)
		}
	}
	for _, name := range direct {
		climb(name)
	}
	if len(all) == 1 {
		all[Ungrouped] = struct{}{}
		b.group(Ungrouped).depth = 1
	}
	var groups []*group
	for name := range all {
		groups = append(groups, b.group(name))
	}
	slices.SortFunc(groups, func(x, y *group) int {
		switch {
		case x.depth != y.depth:
			return x.depth - y.depth
		case x.priority != y.priority:
			return x.priority - y.priority
		}
		return strings.Compare(x.name, y.name)
	})
	var result inherited
	for _, g := range groups {
		result.names = append(result.names, g.name)
		result.said = result.said.over(g.said)
	}
	shared[key] = result
	return result
}

// rank finds how deep below All each group is: the longest way counts, as in Ansible.
func (b *Builder) rank() error {
	const open = -1
	var depth func(g *group, path []string) (int, error)
	depth = func(g *group, path []string) (int, error) {
		path = append(path, g.name)
		if g.name == All {
			return 0, nil
		}
		if g.depth == open {
			return 0, fmt.Errorf("group %s is in itself: %s", g.name, strings.Join(path, " in "))
		}
		if g.depth > 0 {
			return g.depth, nil
		}
		g.depth = open
		deepest := 0
		for _, parent := range slices.Sorted(maps.Keys(g.parents)) {
			d, err := depth(b.group(parent), path)
			if err != nil {
				return 0, err
			}
			deepest = max(deepest, d)
		}
		g.depth = deepest + 1
		return g.depth, nil
	}
	for _, g := range b.groups {
		g.depth, g.priority = 0, 0
		if p, ok := g.said.fields[priority]; ok {
			g.priority = atoi(p.Text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.groups)) {
		g := b.groups[name]
		if len(g.parents) > 0 && name == All {
			return fmt.Errorf("group %s is in %s, but it is the group of all hosts", All, strings.Join(slices.Sorted(maps.Keys(g.parents)), " and "))
		}
		if _, err := depth(g, nil); err != nil {
			return err
		}
	}
	return nil
}
