package engine

import (
	"reflect"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

const (
	somePasswd = `# comment
root:x:0:0:root:/root:/bin/bash

bob:x:1000:100:Bob,,,:/home/bob:
nis-like
+nis:x:5:5::/:/bin/sh
bad:x:-1:0::/:/bin/sh
big:x:4294967294:4294967294::/:/bin/sh
six:x:1:1:/:/bin/sh
`
	someGroup = `root:x:0:
users:x:100:bob,,alice
+:::
wheel:x:10:bob
bad:x:many:
docker:x:999:alice,bob
`
)

func TestParsePasswd(t *testing.T) {
	want := []account{
		{"root", 0, 0, "/root", "/bin/bash"},
		{"bob", 1000, 100, "/home/bob", ""},
		{"big", 4294967294, 4294967294, "/", "/bin/sh"},
	}
	if got := parsePasswd(somePasswd); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestParseGroups(t *testing.T) {
	want := []groupEntry{{"root", 0, nil}, {"users", 100, []string{"bob", "alice"}}, {"wheel", 10, []string{"bob"}}, {"docker", 999, []string{"alice", "bob"}}}
	got := parseGroups(someGroup)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	a := accounts{groups: got}
	if list := a.memberships("bob"); !reflect.DeepEqual(list, []string{"docker", "users", "wheel"}) {
		t.Errorf("bob is in %v", list)
	}
}

func FuzzAccounts(f *testing.F) {
	f.Add(somePasswd, someGroup)
	f.Add("+::::::\n:x:0:0:::", "a:x:1:a,b\n:x:1:")
	f.Fuzz(func(t *testing.T, passwd, group string) {
		for _, u := range parsePasswd(passwd) {
			if u.name == "" || strings.ContainsAny(u.name, ":\n") || !strings.Contains(passwd, u.name+":") {
				t.Errorf("user %+v", u)
			}
		}
		for _, g := range parseGroups(group) {
			if g.name == "" || strings.ContainsAny(g.name, ":\n") {
				t.Errorf("group %+v", g)
			}
			for _, m := range g.members {
				if m == "" || strings.ContainsAny(m, ":,\n") {
					t.Errorf("member %q", m)
				}
			}
		}
	})
}

func ptr[T any](v T) *T { return &v }

func TestUserPlan(t *testing.T) {
	now := accounts{
		users: []account{{"root", 0, 0, "/root", "/bin/bash"}, {"bob", 1000, 100, "/home/bob", "/bin/sh"}, {"twin", 1000, 100, "/", "/bin/sh"}},
		groups: []groupEntry{
			{"root", 0, nil}, {"users", 100, nil}, {"carl", 77, nil}, {"wheel", 10, []string{"bob"}}, {"docker", 999, []string{"bob"}}, {"dev", 5, nil},
		},
	}
	for _, c := range []struct {
		name     string
		spec     graph.User
		words    string
		commands string // of shadow
		busybox  string // "" where there is a problem
	}{
		{"nobody", graph.User{State: graph.Absent}, "", "", ""},
		{"bob", graph.User{State: graph.Absent}, "remove user bob", "userdel bob", "deluser bob"},
		{"bob", graph.User{}, "", "", ""},
		{"bob", graph.User{UID: ptr(uint32(1000)), Group: "users", HomeDir: "/home/bob", Shell: "/bin/sh", Groups: []string{"wheel", "docker", "wheel"}}, "", "", ""},
		{"eve", graph.User{}, "create user eve", "useradd -M eve", "adduser -D -H eve"},
		{"carl", graph.User{}, "create user carl", "useradd -M -g 77 carl", "adduser -D -H -G carl carl"},
		{
			"eve", graph.User{UID: ptr(uint32(7)), GID: ptr(uint32(100)), Groups: []string{"wheel", "dev"}, HomeDir: "/srv", Shell: "/bin/x"}, "create user eve",
			"useradd -M -u 7 -g 100 -G dev,wheel -d /srv -s /bin/x eve",
			"adduser -D -H -u 7 -G users -h /srv -s /bin/x eve; delgroup eve users; addgroup eve dev; addgroup eve wheel",
		},
		{"eve", graph.User{UID: ptr(uint32(0))}, "create user eve (but uid 0 is taken by user root)", "", ""},
		{"eve", graph.User{UID: ptr(uint32(0)), AllowDuplicateUID: true}, "create user eve", "useradd -M -u 0 -o eve", ""},
		{"eve", graph.User{Group: "no"}, "create user eve (but there is no group no in /etc/group)", "", ""},
		{"eve", graph.User{GID: ptr(uint32(8))}, "create user eve (but there is no group with gid 8 in /etc/group)", "", ""},
		{"eve", graph.User{Groups: []string{"wheel", "no"}}, "create user eve (but there is no group no in /etc/group)", "", ""},
		{"bob", graph.User{Group: "no"}, "primary group users (100) → no (but there is no group no in /etc/group)", "", ""},
		{"bob", graph.User{GID: ptr(uint32(8))}, "primary group users (100) → 8 (but there is no group with gid 8 in /etc/group)", "", ""},
		{
			"bob", graph.User{UID: ptr(uint32(7)), Group: "dev", HomeDir: "/srv", Shell: "/bin/x"},
			"uid 1000 → 7, primary group users (100) → dev (5), home directory /home/bob → /srv, shell /bin/sh → /bin/x",
			"usermod -u 7 -g 5 -d /srv -s /bin/x bob", "",
		},
		{"bob", graph.User{UID: ptr(uint32(0))}, "uid 1000 → 0 (but uid 0 is taken by user root)", "", ""},
		// The uid is as declared, though another one has it, too: nothing about that changes.
		{
			"bob", graph.User{UID: ptr(uint32(1000)), Groups: []string{"dev", "wheel"}}, "groups docker,wheel → dev,wheel",
			"usermod -G dev,wheel bob", "delgroup bob docker; addgroup bob dev",
		},
		{"bob", graph.User{Groups: []string{}}, "groups docker,wheel → none", "usermod -G  bob", "delgroup bob docker; delgroup bob wheel"},
		{"bob", graph.User{Groups: nil}, "", "", ""},
	} {
		checkPlan(t, &userResource{name: c.name, spec: &c.spec}, now, c.words, c.commands, c.busybox)
	}
}

func TestGroupPlan(t *testing.T) {
	now := accounts{
		users:  []account{{"root", 0, 0, "/root", "/bin/bash"}},
		groups: []groupEntry{{"root", 0, nil}, {"users", 100, nil}},
	}
	for _, c := range []struct {
		name                     string
		spec                     graph.Group
		words, commands, busybox string
	}{
		{"users", graph.Group{}, "", "", ""},
		{"users", graph.Group{GID: ptr(uint32(100))}, "", "", ""},
		{"no", graph.Group{State: graph.Absent}, "", "", ""},
		{"users", graph.Group{State: graph.Absent}, "remove group users", "groupdel users", "delgroup users"},
		{"root", graph.Group{State: graph.Absent}, "remove group root (but it is the primary group of user root)", "", ""},
		{"dev", graph.Group{}, "create group dev", "groupadd dev", "addgroup dev"},
		{"dev", graph.Group{GID: ptr(uint32(5))}, "create group dev", "groupadd -g 5 dev", "addgroup -g 5 dev"},
		{"dev", graph.Group{GID: ptr(uint32(0))}, "create group dev (but gid 0 is taken by group root)", "", ""},
		{"users", graph.Group{GID: ptr(uint32(0))}, "gid 100 → 0 (but gid 0 is taken by group root)", "", ""},
		{"users", graph.Group{GID: ptr(uint32(5))}, "gid 100 → 5", "groupmod -g 5 users", ""},
	} {
		checkPlan(t, &groupResource{name: c.name, spec: &c.spec}, now, c.words, c.commands, c.busybox)
	}
}

func checkPlan(t *testing.T, r interface {
	plan(accounts, toolset) accountPlan
}, now accounts, words, commands, busybox string,
) {
	t.Helper()
	join := func(p accountPlan) string {
		if p.problem != "" {
			return ""
		}
		var list []string
		for _, argv := range p.commands {
			list = append(list, strings.Join(argv, " "))
		}
		return strings.Join(list, "; ")
	}
	p := r.plan(now, shadowTools)
	if p.String() != words || join(p) != commands {
		t.Errorf("%+v: %q by %q, want %q by %q", r, p.String(), join(p), words, commands)
	}
	if p = r.plan(now, busyboxTools); join(p) != busybox {
		t.Errorf("%+v: by BusyBox %q (%s), want %q", r, join(p), p.problem, busybox)
	}
}

func TestRefusedNames(t *testing.T) {
	for _, name := range []string{"", "-r", "a:b", "a,b", "a b", "a\nb", "../x"} {
		if _, err := newUser(name, &graph.User{}); err == nil {
			t.Errorf("user %q", name)
		}
		if _, err := newGroup(name, &graph.Group{}); err == nil {
			t.Errorf("group %q", name)
		}
		if _, err := newUser("x", &graph.User{Groups: []string{name}}); err == nil {
			t.Errorf("supplementary group %q", name)
		}
		if _, err := newUser("x", &graph.User{Group: name}); err == nil && name != "" {
			t.Errorf("primary group %q", name)
		}
	}
}

func TestAccountsLocked(t *testing.T) {
	for output, want := range map[string]bool{
		"useradd: existing lock file /etc/passwd.lock with PID 1\nuseradd: cannot lock /etc/passwd; try again later.\n": true,
		"useradd: Permission denied.\nuseradd: cannot lock /etc/passwd; try again later.\n":                             false,
		"useradd: user 'bob' already exists\n": false,
	} {
		if accountsLocked(output) != want {
			t.Errorf("%q: want %v", output, want)
		}
	}
}
