package inventory

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

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
		"a:14: 2 passwords in a file, where others may see them; use keys, or have them asked for",
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
