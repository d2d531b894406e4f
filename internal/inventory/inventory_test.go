package inventory

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
		"hosts: {a: {prot: 22}}":                         `a:1:13: a: unknown key "prot"; there are address, identity, jump, labels, port, prefix, user, vars`,
		"groups: {g: {address: x}}":                      `a:1:14: group g: unknown key "address"; there are children, hosts, identity,`,
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

// all < parent < child < host, and within a rank by priority, then name: as Ansible does. The rank is the longest way.
func TestPrecedence(t *testing.T) {
	wantDump(t, mustBuild(t, FormatAnsibleINI, `
[all:vars]
v=all
[top:vars]
v=top
w=top
[mid:vars]
v=mid
w=mid
[low:vars]
v=low
[a:vars]
p=a
[b:vars]
p=b
[c:vars]
ansible_group_priority=10
p=c
q=c
[d:vars]
q=d
[a]
h
[b]
h
k
[c]
k
[d]
k
[low]
h
i v=host
[top:children]
mid
low
[mid:children]
low
`), `
h h in all,a,b,top,mid,low p=b v=low w=mid
k k in all,b,d,c p=c q=c v=all
i i in all,top,mid,low v=host w=mid
`)
}

func TestAnsibleINI(t *testing.T) {
	inv := mustBuild(t, FormatAuto, `# comment
; comment
lone ansible_host=192.0.2.9
[web] # the web
web[01:03].example:2222 ansible_user=deploy nick="a b" path='c:\d' # end
w[a:c] x=1#2
w[a:e:2] step=yes
[web:vars]
ansible_ssh_private_key_file = ~/.ssh/web
http_port = 80 # comment
title = "quoted # text" # comment
raw = a # b
ansible_ssh_common_args='-o ProxyJump=bastion -C'
ansible_become_password=hunter2
[db]
db1 ansible_ssh_host=::1 ansible_password=hunter2 ansible_python_interpreter=/usr/bin/python3
web01.example
[prod:children]
web # all of it
db
[local]
localhost ansible_connection=local
`)
	wantDump(t, inv, `
lone lone=192.0.2.9 in all,ungrouped
web01.example web01.example=deploy@web01.example:2222 in all,prod,db,web jump=bastion identity=~/.ssh/web ansible_ssh_common_args=-o ProxyJump=bastion -C http_port=80 nick=a b path=c:\d raw=a # b title=quoted # text
web02.example web02.example=deploy@web02.example:2222 in all,prod,web jump=bastion identity=~/.ssh/web ansible_ssh_common_args=-o ProxyJump=bastion -C http_port=80 nick=a b path=c:\d raw=a # b title=quoted # text
web03.example web03.example=deploy@web03.example:2222 in all,prod,web jump=bastion identity=~/.ssh/web ansible_ssh_common_args=-o ProxyJump=bastion -C http_port=80 nick=a b path=c:\d raw=a # b title=quoted # text
wa wa in all,prod,web jump=bastion identity=~/.ssh/web ansible_ssh_common_args=-o ProxyJump=bastion -C http_port=80 raw=a # b step=yes title=quoted # text x=1
wb wb in all,prod,web jump=bastion identity=~/.ssh/web ansible_ssh_common_args=-o ProxyJump=bastion -C http_port=80 raw=a # b title=quoted # text x=1
wc wc in all,prod,web jump=bastion identity=~/.ssh/web ansible_ssh_common_args=-o ProxyJump=bastion -C http_port=80 raw=a # b step=yes title=quoted # text x=1
we we in all,prod,web jump=bastion identity=~/.ssh/web ansible_ssh_common_args=-o ProxyJump=bastion -C http_port=80 raw=a # b step=yes title=quoted # text
db1 db1=[::1] in all,prod,db password=hunter2 ansible_python_interpreter=/usr/bin/python3
`)
	want := []string{
		"a:13: ansible_ssh_common_args is not used: it is a variable like any other",
		"a:14: ansible_become_password is not used, and left out",
		"a:16: 1 password in a file, where others may see them; use keys or --ask-pass",
		"a:22: left out, because ansible_connection says another connection than SSH: localhost",
	}
	if !slices.Equal(inv.Warnings, want) {
		t.Errorf("warnings are %q, want %q", inv.Warnings, want)
	}
}

func TestJumpHostsOfAnsible(t *testing.T) {
	for args, want := range map[string]string{
		`-o ProxyJump=ops@bastion:2222,b`:           "ops@bastion:2222,b",
		`-o "ProxyJump bastion"`:                    "bastion",
		`-o 'ProxyJump=bastion' -o Compression=yes`: "bastion",
		`-C -J bastion`:                             "bastion",
		`-Jbastion`:                                 "bastion",
		`-o ProxyCommand="ssh -W %h:%p bastion"`:    "",
	} {
		var said settings
		a := newAnsible(&Builder{}, &tree{problems: &problems{}})
		if err := a.assign(&said, "ansible_ssh_common_args", args, Origin{File: "x"}); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		if got := said.fields[Jump].Text; got != want {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
		if more := strings.Contains(args, "-C") || strings.Contains(args, "Comp") || want == ""; more != (len(a.warnings) == 1) {
			t.Errorf("%s: warnings are %q", args, a.warnings)
		}
	}
}

func TestAnsibleINIRefuses(t *testing.T) {
	for source, say := range map[string]string{
		"[g]\na b":            "a:2: want KEY=VALUE after the host's name",
		"[g]\na b='c":         "a:2: a quotation mark is not closed",
		"[g:vars]\nx=1":       "a:1: there is no group g",
		"[g:children]\nh":     "a:2: there is no group h",
		"[g:children]\nh i":   "a:2: want one group per line",
		"[g:things]\n":        "a:1: a section is [GROUP], [GROUP:vars] or [GROUP:children]",
		"[all:vars]\nnothing": "a:2: want KEY=VALUE",
		"a ansible_ssh_common_args='-J u:hunter2@b'": "a:1: ansible_ssh_common_args: jump host \"u:***@b\": a password",
		"a ansible_port=x":                           "a:1: ansible_port: port is not a number",
		"a ansible_host='{{ x }}'":                   "a:1: ansible_host: is a Jinja template",
		"a ansible_password='{{ x }}'":               "a:1: ansible_password is a Jinja template",
		"a b-c=1":                                    `a:1: variable "b-c"`,
		"a[3:1]":                                     "the range runs backwards",
		"a[1:]":                                      "has no end",
		"a[01:3]":                                    "with leading zeros both ends",
		"a@b x=1":                                    "host name",
		"[a:children]\nb\n[b:children]\na\n[a]\n[b]": "is in itself",
		"[g:children]\nall\n[all]":                   "all is the group of all hosts",
	} {
		_, err := build(t, FormatAnsibleINI, source)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: error %v, want one with %q", source, err, say)
		}
	}
}

func TestAnsibleYAML(t *testing.T) {
	wantDump(t, mustBuild(t, FormatAuto, `---
all:
  vars: {ansible_user: ops}
  hosts:
    lone:
  children:
    web:
      hosts:
        web[01:02]: {ansible_port: 2222, list: [1, two]}
        other: {ansible_host: 192.0.2.1}
      vars: {level: web}
    prod:
      children: {web: }
      vars: {level: prod, region: eu}
ungrouped:
  hosts: {lone: {x: 1}}
`), `
lone ops@lone in all,ungrouped x=1
web01 web01=ops@web01:2222 in all,prod,web level=web list=[1,"two"] region=eu
web02 web02=ops@web02:2222 in all,prod,web level=web list=[1,"two"] region=eu
other other=ops@192.0.2.1 in all,prod,web level=web region=eu
`)
	_, err := build(t, FormatAnsibleYAML, "all:\n  host: {a: }\n")
	if err == nil || !strings.Contains(err.Error(), `a:2:3: group all: unknown key "host"; there are children, hosts, vars`) {
		t.Error(err)
	}
}

const dynamic = `{
  "_meta": {"hostvars": {
    "web1": {"ansible_host": "10.0.0.1", "n": 1.50, "deep": {"a": [true, null, "\ud83d\ude00"]}},
    "gone": {"x": 1}
  }},
  "web": {"hosts": ["web1", "web2"], "vars": {"ansible_user": "u\/v"}},
  "bare": ["web2"],
  "prod": {"children": ["web"], "vars": {"level": "prod"}},
  "all": {"children": ["prod", "ungrouped"]},
	"ungrouped": {"hosts": ["lone"]}
}`

func TestAnsibleJSON(t *testing.T) {
	inv := mustBuild(t, FormatAuto, dynamic)
	wantDump(t, inv, `
web1 web1=ssh://u%2Fv@10.0.0.1 in all,prod,web deep={"a":[true,null,"😀"]} level=prod n=1.50
web2 ssh://u%2Fv@web2 in all,bare,prod,web level=prod
lone lone in all,ungrouped
`)
	if got := inv.Entry("web1").Fields[Address].Origin.String(); got != "a:3" {
		t.Error(got)
	}
	for source, say := range map[string]string{
		`{"g": {"hosts": ["a"`:                  "a:1: not readable as JSON: ends too early",
		"{\n\n\"g\": x}":                        "a:3: not readable as JSON: invalid character 'x'",
		"{}\n{}":                                "a:2: not readable as JSON: something follows",
		"":                                      "not readable as JSON: ends too early",
		"null":                                  "says nothing",
		"[]":                                    "want keys and values, not a list",
		"{\"g\":\n{\"host\": 1}}":               `a:2: group g: unknown key "host"`,
		strings.Repeat(`{"a":`, 1000):           "nested deeper than",
		`{"g": {"hosts": {"a": {"b": 7`:         "ends too early",
		`{"g": {"vars": {"ansible_port": []}}}`: "port is not a number",
	} {
		_, err := build(t, FormatAnsibleJSON, source)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: error %v, want one with %q", source, err, say)
		}
	}
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

// Random groups: what a host has from them is what the rule says, taken literally.
func TestInheritance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "groups")
		parents := make([][]int, n) // of later groups, so there is no circle
		var ini strings.Builder
		for i := range n {
			fmt.Fprintf(&ini, "[g%d]\n", i)
			if rapid.Bool().Draw(t, "has host") {
				ini.WriteString("h\n")
			}
			fmt.Fprintf(&ini, "[g%d:vars]\nv=g%d\n[g%d:children]\n", i, i, i)
			for c := range i {
				if rapid.Bool().Draw(t, "child") {
					parents[c] = append(parents[c], i)
					fmt.Fprintf(&ini, "g%d\n", c)
				}
			}
		}
		var b Builder
		if err := b.Read(Source{Name: "x", Format: FormatAnsibleINI, Data: []byte(ini.String())}); err != nil {
			t.Fatal(err)
		}
		inv, err := b.Inventory()
		if err != nil {
			t.Fatal(err)
		}
		if inv.Entry("h") == nil {
			return
		}
		depth := make([]int, n)
		for i := n - 1; i >= 0; i-- {
			depth[i] = 1
			for _, p := range parents[i] {
				depth[i] = max(depth[i], depth[p]+1)
			}
		}
		in := map[int]bool{}
		for i := range n {
			if strings.Contains(ini.String(), fmt.Sprintf("[g%d]\nh\n", i)) {
				in[i] = true
			}
			for _, p := range parents[i] {
				in[p] = in[p] || in[i]
			}
		}
		winner := -1
		for i := range n {
			if in[i] && (winner < 0 || depth[i] >= depth[winner]) {
				winner = i
			}
		}
		if got, want := inv.Entry("h").Vars["v"].Text, fmt.Sprintf("g%d", winner); got != want {
			t.Fatalf("v is %s, want %s, in\n%s", got, want, ini.String())
		}
	})
}

func TestSecretsOfInventoriesAreNeverPrinted(t *testing.T) {
	inv := mustBuild(t, FormatAnsibleINI, "a ansible_password=hunter2 ansible_become_pass=hunter2\n[g]\na\n[g:vars]\nansible_ssh_pass=hunter2\n")
	if got := inv.Entry("a").Host.Password.Reveal(); got != "hunter2" {
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

// What docs/inventory.md says that its example says.
func TestDocumentedExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/inventory.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(page), "```yaml\n")
	example, rest, found := strings.Cut(example, "```")
	if !found {
		t.Fatal("there is no example")
	}
	inv := mustBuild(t, FormatAuto, example)
	rows := regexp.MustCompile("(?m)^\\| `([a-z0-9.]+)` \\| ([a-z]+=.*) \\|$").FindAllStringSubmatch(rest, -1)
	if len(rows) < 3 {
		t.Fatalf("the page tells of %d hosts", len(rows))
	}
	for _, row := range rows {
		e := inv.Entry(row[1])
		if e == nil {
			t.Errorf("there is no %s", row[1])
			continue
		}
		got := map[string]string{"address": e.Host.Addr, "port": fmt.Sprint(e.Host.Port)}
		for f, v := range e.Fields {
			got[string(f)] = v.Text
		}
		for _, values := range []map[string]Value{e.Labels, e.Vars} {
			for k, v := range values {
				got[k] = v.Text
			}
		}
		for _, said := range strings.Fields(row[2]) {
			if key, value, _ := strings.Cut(said, "="); got[key] != value {
				t.Errorf("%s: %s is %q, the page says %q", row[1], key, got[key], value)
			}
		}
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\| (yes)? ?\\| (yes)? ?\\|").FindAllStringSubmatch(rest, -1) {
		documented[row[1]] = true
	}
	for _, f := range append([]Field{Address, "labels", "vars", "hosts", "children"}, ownFields...) {
		if !documented[string(f)] {
			t.Errorf("the page does not describe the key %s", f)
		}
	}
	for name := range ansibleFields {
		if !strings.Contains(rest, "`"+name+"`") {
			t.Errorf("the page does not name %s", name)
		}
	}
	for _, format := range Formats()[1:] {
		if !strings.Contains(rest, "| `"+string(format)+"` |") {
			t.Errorf("the page does not name the format %s", format)
		}
	}
}

// The page's node sets are the names beside them.
func TestDocumentedNodeSets(t *testing.T) {
	page, err := os.ReadFile("../../docs/inventory.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `([^`]*\\[[^`]*)` \\| (?:in one of both only: )?([a-z0-9 ]+)(?::[^|]*)? \\|$").FindAllStringSubmatch(string(page), -1)
	tried := 0
	for _, row := range rows {
		if strings.HasPrefix(row[2], "without") || strings.HasPrefix(row[2], "in both") {
			continue
		}
		tried++
		hosts, err := ParseHosts(row[1])
		var names []string
		for _, h := range hosts {
			names = append(names, h.Name)
		}
		if err != nil || strings.Join(names, " ") != row[2] {
			t.Errorf("%s is %q, %v; the page says %q", row[1], names, err, row[2])
		}
	}
	if tried < 4 {
		t.Errorf("the page has %d node sets with their names", tried)
	}
}
