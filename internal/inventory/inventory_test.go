package inventory

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// build makes an inventory of sources that are called a, b, …
func build(t testing.TB, format Format, sources ...string) (*Inventory, error) {
	t.Helper()
	var b Builder
	for i, s := range sources {
		if err := b.Read(Source{Name: string(rune('a' + i)), Format: format, Data: []byte(s)}); err != nil {
			return nil, err
		}
	}
	return b.Inventory()
}

func mustBuild(t testing.TB, format Format, sources ...string) *Inventory {
	t.Helper()
	inv, err := build(t, format, sources...)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// dump is all that is known about hosts, a line for each, without origins.
func dump(inv *Inventory) string {
	var b strings.Builder
	for _, e := range inv.Entries {
		fmt.Fprintf(&b, "%s %s in %s", e.Host.Name, e.Host, strings.Join(e.Groups, ","))
		if p := e.Host.Prefix; p != "" {
			b.WriteString(" prefix=" + p)
		}
		if p := e.Host.Password; p != "" {
			b.WriteString(" password=" + p.Reveal())
		}
		for _, f := range []Field{Jump, Identity} {
			if v, ok := e.Fields[f]; ok {
				fmt.Fprintf(&b, " %s=%s", f, v.Text)
			}
		}
		for _, k := range sortedKeys(e.Labels) {
			fmt.Fprintf(&b, " label:%s=%s", k, e.Labels[k].Text)
		}
		for _, k := range sortedKeys(e.Vars) {
			fmt.Fprintf(&b, " %s=%s", k, e.Vars[k].Text)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func wantDump(t *testing.T, inv *Inventory, want string) {
	t.Helper()
	if got := strings.TrimSpace(dump(inv)); got != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant\n%s", got, strings.TrimSpace(want))
	}
}

const own = `
hosts:
  web[1-2].dc1:
    address: 10.0.0.[1-2]
    labels: {role: web, canary: }
  db1:
    address: "[2001:db8::7]"
    port: 2222
    labels: [old]
    vars: {size: 10, tags: [a, {b: null}], on: true, note: "x: y"}
groups:
  all:
    user: ops
    vars: {level: all}
  web:
    hosts: web[1-2].dc1
    prefix: /srv/run
    vars: {level: web, port: 80}
  db:
    hosts:
      db1: {vars: {level: host}}
      db2:
    labels: {tier: back}
  site:
    children: [web, db]
    vars: {level: site, port: 8080}
    jump: ops@bastion
    identity: ~/.ssh/site
`

func TestOwnFormat(t *testing.T) {
	wantDump(t, mustBuild(t, FormatAuto, own), `
web1.dc1 web1.dc1=ops@10.0.0.1 in all,site,web prefix=/srv/run jump=ops@bastion identity=~/.ssh/site label:canary= label:role=web level=web port=80
web2.dc1 web2.dc1=ops@10.0.0.2 in all,site,web prefix=/srv/run jump=ops@bastion identity=~/.ssh/site label:canary= label:role=web level=web port=80
db1 db1=ops@[2001:db8::7]:2222 in all,site,db jump=ops@bastion identity=~/.ssh/site label:old= label:tier=back level=host note=x: y on=true port=8080 size=10 tags=["a",{"b":null}]
db2 ops@db2 in all,site,db jump=ops@bastion identity=~/.ssh/site label:tier=back level=site port=8080
`)
}

func TestOrigins(t *testing.T) {
	inv := mustBuild(t, FormatAuto, own, "hosts: {db2: {port: 7}}\n")
	for name, want := range map[string]map[string]string{
		"web1.dc1": {"named": "a:3", "address": "a:4", "user": "a:13, group all", "prefix": "a:17, group web", "var level": "a:18, group web", "label role": "a:5"},
		"db2":      {"named": "a:22, group db", "port": "b:1", "var level": "a:26, group site", "label tier": "a:23, group db"},
	} {
		e := inv.Entry(name)
		got := map[string]string{"named": e.Named.String()}
		for k, v := range e.Fields {
			got[string(k)] = v.Origin.String()
		}
		for k, v := range e.Labels {
			got["label "+k] = v.Origin.String()
		}
		for k, v := range e.Vars {
			got["var "+k] = v.Origin.String()
		}
		for k, w := range want {
			if got[k] != w {
				t.Errorf("%s: %s is from %q, want %q", name, k, got[k], w)
			}
		}
	}
	if got := (Origin{}).String(); got != "default" {
		t.Error(got)
	}
}

func TestOwnFormatRefuses(t *testing.T) {
	for source, say := range map[string]string{
		"hosts: {a: {prot: 22}}":                         `a:1:13: a: unknown key "prot"; there are address, become, become_method, become_user, identity, jump, labels, port, prefix, user, vars`,
		"groups: {g: {address: x}}":                      `a:1:14: group g: unknown key "address"; there are become, become_method, become_user, children, hosts, identity,`,
		"hosts: {}\nhost: {}":                            `a:2:1: unknown key "host"; there are groups, hosts`,
		"hosts: {a: {port: 0}}":                          "a:1:19: a: port: port is not a number from 1 to 65535",
		"hosts: {a: {port: [1]}}":                        "a: port: want one value, not a list",
		"hosts: {a: {user: 'a b'}}":                      "a: user: user name has white space",
		"hosts: {a: {jump: 'b,,c'}}":                     "a:1:19: a: jump: jump host \"\": address is empty",
		"hosts: {a: {prefix: x}}":                        "a: prefix: is not an absolute path",
		"hosts: {a: {address: 'a b'}}":                   "a: address: address \"a b\" has characters",
		"hosts: {a: {address: 'x{{ y }}'}}":              "is a Jinja template",
		"hosts: {'a[1-2]': {address: b}}":                "2 hosts and 1 addresses",
		"hosts: {'a[1-2': }":                             "a:1:9: character 2: the bracket is not closed",
		"hosts: {'a b': }":                               "white space within a name",
		"hosts: {'a/b': }":                               "host name",
		"hosts: {a: , a: }":                              `a:1:14: hosts: "a" is given twice`,
		"hosts: {a: {vars: {'b-c': 1}}}":                 `variable "b-c"`,
		"hosts: {a: {labels: {'b c': 1}}}":               `label "b c"`,
		"hosts: {a: {labels: {b: [c]}}}":                 "labels: b: want one value, not a list",
		"hosts: {a: {labels: [[c]]}}":                    "want one value, not a list",
		"hosts: {a: {vars: 7}}":                          `vars: want keys and values, not "7"`,
		"hosts: {a: 7}":                                  `a: want keys and values, not "7"`,
		"groups: {'a b': }":                              `group "a b"`,
		"groups: {g: {children: [h]}}":                   "a:1:25: group g: children: there is no group h",
		"groups: {g: {children: h}, h: {children: [g]}}": "group g is in itself: g in h in g",
		"groups: {g: {children: all}}":                   "", // there is no group all in this file
		"groups: {all: , g: {children: all}}":            "group all is in g, but it is the group of all hosts",
		"hosts: [a,\n\n b":                               "a:3: did not find expected ',' or ']'",
		"hosts: {a: }\n---\nhosts: {b: }":                "a:2:1: a second document",
		"hosts: {a: *b}":                                 "unknown anchor 'b'",
		"a: &a [*a]\nhosts: *a":                          "",
		"hosts: &a {x: {vars: {y: *a}}}":                 "nested deeper than",
		"hosts: {a: {vars: {b: !vault x}}}":              "ansible-vault",
		"$ANSIBLE_VAULT;1.1;AES256\n0":                   "a:1: encrypted with ansible-vault",
		"hosts: {\xff: }":                                "not a text in UTF-8",
		"hosts: {a: {<<: 7}}":                            "<< wants keys and values",
		"hosts: {a: &a {<<: *a}}":                        "",
		"hosts: {[a]: }":                                 "a key is a list",
		"hosts: ['']":                                    "no name was given",
		"hosts: [~]":                                     "an empty element",
	} {
		_, err := build(t, formatSomeYAML, source)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: error %v, want one with %q", source, err, say)
		}
	}
}

// All problems of a file are told at once, and no more than a person reads.
func TestAllProblemsAreTold(t *testing.T) {
	var s strings.Builder
	s.WriteString("hosts:\n")
	for i := range 15 {
		fmt.Fprintf(&s, "  h%d: {prot: 1}\n", i)
	}
	_, err := build(t, FormatYAML, s.String())
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 11 || !strings.HasPrefix(lines[9], "a:11:") || lines[10] != "and 5 more" {
		t.Error(err)
	}
}

func TestMergeKeysAndAnchors(t *testing.T) {
	wantDump(t, mustBuild(t, FormatYAML, `
hosts:
  a: &base
    port: 7
    user: u
    vars: {x: 1}
  b:
    <<: *base
    port: 8
  c: *base
`), `
a a=u@a:7 in all,ungrouped x=1
b b=u@b:8 in all,ungrouped x=1
c c=u@c:7 in all,ungrouped x=1
`)
}

// Little text that stands for a lot ends in an error and not in memory.
func TestAliasesOfAliases(t *testing.T) {
	var s strings.Builder
	s.WriteString("hosts: {h: {vars: {a0: &a0 [x,x,x,x,x,x,x,x,x,x]")
	for i := 1; i < 12; i++ {
		r := fmt.Sprintf("*a%d", i-1)
		fmt.Fprintf(&s, ",\n a%d: &a%d [%s]", i, i, strings.Join([]string{r, r, r, r, r, r, r, r, r, r}, ","))
	}
	s.WriteString("}}}\n")
	_, err := build(t, FormatYAML, s.String())
	if err == nil || !strings.Contains(err.Error(), "too much for one inventory") {
		t.Error(err)
	}
}

func TestLaterSourcesGoAbove(t *testing.T) {
	wantDump(t, mustBuild(t, FormatYAML,
		"hosts: {a: {port: 1, vars: {x: 1, y: 1}}}\ngroups: {g: {hosts: a, user: u1}}\n",
		"hosts: {a: {port: 2, vars: {x: 2}}, b: }\ngroups: {g: {hosts: b, user: u2}}\n"), `
a a=u2@a:2 in all,g x=2 y=1
b u2@b in all,g
`)
}

func TestList(t *testing.T) {
	wantDump(t, mustBuild(t, FormatAuto, `
# the fleet
root@web[1-2]:2222   # two
db=[2001:db8::7]
[n1,n2]x
`), `
web1-2222 root@web1:2222 in all,ungrouped
web2-2222 root@web2:2222 in all,ungrouped
db db=[2001:db8::7] in all,ungrouped
n1x n1x in all,ungrouped
n2x n2x in all,ungrouped
`)
	_, err := build(t, FormatList, "a\n\nb[\nu:hunter2@h")
	if err == nil || !strings.Contains(err.Error(), `a:3: host "b[": character 2`) || !strings.Contains(err.Error(), "a:4: ") || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       Format
	}{
		{"x.yaml", "", formatSomeYAML},
		{"x.YML", "", formatSomeYAML},
		{"x.json", "", FormatAnsibleJSON},
		{"x.ini", "a", FormatAnsibleINI},
		{"hosts", "\n# x\n  {\"a\": {}}", FormatAnsibleJSON},
		{"hosts", "---\nx", formatSomeYAML},
		{"hosts", "# x\nall:\n  hosts:", formatSomeYAML},
		{"hosts", "hosts: {a: }", formatSomeYAML},
		{"hosts", "web1\n\n[db]\ndb1\n", FormatAnsibleINI},
		{"hosts", "web1 ansible_host=x\n", FormatAnsibleINI},
		{"hosts", "web[01:20]\n", FormatAnsibleINI},
		{"hosts", "[web:children]\n", FormatAnsibleINI},
		{"hosts", "web1:22\n", FormatList},
		{"hosts", "a=root@web1\n[2001:db8::7]:22\nweb[1-2]:22\n[::1]\n", FormatList},
		{"hosts", "[1-3]x\n", FormatList},
		{"-", "", FormatList},
	} {
		if got := Detect(c.name, []byte(c.data)); got != c.want {
			t.Errorf("%s with %q: got %s, want %s", c.name, c.data, got, c.want)
		}
	}
}

func TestAdd(t *testing.T) {
	var b Builder
	if err := b.Read(Source{Name: "inv", Format: FormatYAML, Data: []byte(own)}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"root@db[1-2]", "db2:2222", "new=10.9.9.9", "db1:22"} {
		_, err := b.Add(text)
		if text == "db2:2222" || text == "db1:22" {
			if err == nil || !strings.Contains(err.Error(), "is used twice") {
				t.Errorf("%s: %v", text, err)
			}
		} else if err != nil {
			t.Error(err)
		}
	}
	inv, err := b.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	got := dump(inv)
	for _, line := range []string{
		"db1 db1=root@[2001:db8::7]:2222 in all,site,db", // the address and the port are the inventory's
		"db2 root@db2 in all,site,db",
		"new new=ops@10.9.9.9 in all,ungrouped",
	} {
		if !strings.Contains(got, "\n"+line) {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
	if o := inv.Entry("db1").Fields[User].Origin; o.String() != "-H" {
		t.Error(o)
	}
}

func TestSecretsOfInventoriesAreNeverPrinted(t *testing.T) {
	inv := mustBuild(t, FormatAnsibleINI, "a ansible_password=hunter2 ansible_become_pass=hunter2\n[g]\na\n[g:vars]\nansible_ssh_pass=hunter2\n")
	if got := inv.Entry("a").Host.Password.Reveal(); got != "hunter2" {
		t.Fatal(got)
	}
	if got := inv.Entry("a").Fields[BecomePassword].Secret().Reveal(); got != "hunter2" {
		t.Fatal(got)
	}
	e := inv.Entry("a")
	for _, s := range []string{fmt.Sprintf("%v %+v %#v", e, *e, e.Fields), fmt.Sprint(inv.Warnings)} {
		if strings.Contains(s, "hunter2") {
			t.Errorf("shows a password: %s", s)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{own, dynamic, "[g]\na[1:3]:22 x='1' # c\n[g:vars]\na = 1\n", "all:\n  hosts: {a: }\n", "u@h[1-3]:22\n[::1]\n", "hosts: {a: &a {<<: *a}}", "$ANSIBLE_VAULT;"} {
		for _, format := range Formats() {
			f.Add(string(format), s)
		}
	}
	f.Fuzz(func(t *testing.T, format, data string) {
		if !slices.Contains(Formats(), Format(format)) {
			return
		}
		var b Builder
		if err := b.Read(Source{Name: "x", Format: Format(format), Data: []byte(data)}); err != nil {
			return
		}
		inv, err := b.Inventory()
		if err != nil {
			return
		}
		for _, e := range inv.Entries {
			if err := ValidName(e.Host.Name); err != nil {
				t.Fatal(err)
			}
			if e.Host.Port < 1 || e.Host.Port > 65535 || e.Host.Addr == "" {
				t.Fatalf("%+v", e.Host)
			}
			again, err := ParseHost(e.Host.String())
			if err != nil || again.Name != e.Host.Name || again.Address() != e.Host.Address() || again.User != e.Host.User {
				t.Fatalf("%q is printed as %q: %+v, %v", e.Host.Name, e.Host, again, err)
			}
			if inv.Entry(e.Host.Name) != e {
				t.Fatalf("%s is there twice", e.Host.Name)
			}
		}
	})
}

// fleetOf writes 10,000 hosts in a format.
func fleetOf(format Format) string {
	var b strings.Builder
	switch format {
	case FormatYAML:
		b.WriteString("hosts:\n")
	case FormatAnsibleYAML:
		b.WriteString("all:\n hosts:\n")
	case FormatAnsibleINI:
		b.WriteString("[web]\n")
	case FormatAnsibleJSON:
		b.WriteString(`{"web": {"hosts": ["web0"`)
		for i := 1; i < 10_000; i++ {
			fmt.Fprintf(&b, `,"web%d"`, i)
		}
		b.WriteString(`]}, "_meta": {"hostvars": {"x": {}`)
	}
	for i := range 10_000 {
		addr := fmt.Sprintf("10.0.%d.%d", i/250, i%250)
		switch format {
		case FormatYAML:
			fmt.Fprintf(&b, "  web%d:\n    address: %s\n    port: 22\n    labels: {rack: r%d}\n    vars: {x: %d, y: abc}\n", i, addr, i/40, i)
		case FormatAnsibleYAML:
			fmt.Fprintf(&b, "  web%d:\n    ansible_host: %s\n    ansible_port: 22\n    rack: r%d\n    x: %d\n    y: abc\n", i, addr, i/40, i)
		case FormatAnsibleINI:
			fmt.Fprintf(&b, "web%d ansible_host=%s ansible_port=22 rack=r%d x=%d y=abc\n", i, addr, i/40, i)
		case FormatAnsibleJSON:
			fmt.Fprintf(&b, `,"web%d": {"ansible_host": "%s", "ansible_port": 22, "rack": "r%d", "x": %d, "y": "abc"}`, i, addr, i/40, i)
		case FormatList:
			fmt.Fprintf(&b, "web%d=root@%s:22\n", i, addr)
		}
	}
	if format == FormatAnsibleJSON {
		b.WriteString("}}}")
	}
	return b.String()
}

func BenchmarkRead10000(b *testing.B) {
	for _, format := range Formats()[1:] {
		b.Run(string(format), func(b *testing.B) {
			source := fleetOf(format)
			for b.Loop() {
				if inv := mustBuild(b, format, source); len(inv.Entries) != 10_000 {
					b.Fatal(len(inv.Entries))
				}
			}
		})
	}
}
