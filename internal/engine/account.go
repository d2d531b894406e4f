package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
)

// The files that hold the accounts of this machine (passwd(5), group(5)). Accounts from elsewhere (LDAP, sssd and the
// like) are not ours to manage: the tools can't change them either.
const (
	passwdFile = "/etc/passwd"
	groupFile  = "/etc/group"
)

// accountLock is held while users and groups are changed: the tools lock the files, and give up when they are locked.
var accountLock = newLock()

// account is a line of passwd(5), without what is not managed.
type account struct {
	name     string
	uid, gid uint32
	home     string
	shell    string
}

// groupEntry is a line of group(5).
type groupEntry struct {
	name    string
	gid     uint32
	members []string // whose supplementary group it is
}

// accounts are all users and groups of this machine.
type accounts struct {
	users  []account
	groups []groupEntry
}

func readAccounts() (accounts, error) {
	users, err := os.ReadFile(passwdFile)
	if err != nil {
		return accounts{}, err
	}
	groups, err := os.ReadFile(groupFile)
	if err != nil {
		return accounts{}, err
	}
	return accounts{users: parsePasswd(string(users)), groups: parseGroups(string(groups))}, nil
}

// parsePasswd reads passwd(5). Like the C library it skips what is no entry.
func parsePasswd(text string) []account {
	var list []account
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 7 || !isEntry(f[0]) {
			continue
		}
		uid, errU := strconv.ParseUint(f[2], 10, 32)
		gid, errG := strconv.ParseUint(f[3], 10, 32)
		if errU != nil || errG != nil {
			continue
		}
		list = append(list, account{name: f[0], uid: uint32(uid), gid: uint32(gid), home: f[5], shell: f[6]})
	}
	return list
}

// parseGroups reads group(5). Like the C library it skips what is no entry.
func parseGroups(text string) []groupEntry {
	var list []groupEntry
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 4 || !isEntry(f[0]) {
			continue
		}
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			continue
		}
		g := groupEntry{name: f[0], gid: uint32(gid)}
		for member := range strings.SplitSeq(f[3], ",") {
			if member != "" {
				g.members = append(g.members, member)
			}
		}
		list = append(list, g)
	}
	return list
}

// isEntry tells a name from a comment and from a reference to NIS ("+", "-").
func isEntry(name string) bool { return name != "" && !strings.ContainsRune("#+-", rune(name[0])) }

// user finds a user by name; nil if there is none.
func (a *accounts) user(name string) *account {
	if i := slices.IndexFunc(a.users, func(u account) bool { return u.name == name }); i >= 0 {
		return &a.users[i]
	}
	return nil
}

// group finds a group by name; nil if there is none.
func (a *accounts) group(name string) *groupEntry {
	if i := slices.IndexFunc(a.groups, func(g groupEntry) bool { return g.name == name }); i >= 0 {
		return &a.groups[i]
	}
	return nil
}

// groupOf finds a group by number; nil if there is none.
func (a *accounts) groupOf(gid uint32) *groupEntry {
	if i := slices.IndexFunc(a.groups, func(g groupEntry) bool { return g.gid == gid }); i >= 0 {
		return &a.groups[i]
	}
	return nil
}

// memberships are the supplementary groups of a user, sorted.
func (a *accounts) memberships(user string) []string {
	var list []string
	for _, g := range a.groups {
		if slices.Contains(g.members, user) {
			list = append(list, g.name)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// accountPlan is what there is to do about a user or a group. The zero value is nothing.
type accountPlan struct {
	changes  []string   // in words
	problem  string     // why it can't be done; "" if it can
	commands [][]string // what does it, in this order
}

func (p *accountPlan) String() string {
	words := strings.Join(p.changes, ", ")
	if words != "" && p.problem != "" {
		words += " (but " + p.problem + ")"
	}
	return words
}

func (p *accountPlan) change(format string, args ...any) {
	p.changes = append(p.changes, fmt.Sprintf(format, args...))
}

func (p *accountPlan) run(argv ...string) { p.commands = append(p.commands, argv) }

// need notes a problem; the first one is told.
func (p *accountPlan) need(format string, args ...any) {
	if p.problem == "" {
		p.problem = fmt.Sprintf(format, args...)
	}
}

// toolset says which programs change accounts here.
type toolset uint8

const (
	shadowTools  toolset = iota // useradd(8) and the like
	busyboxTools                // adduser and the like, as Alpine has them; they can't change what there is
)

func accountTools() (toolset, error) {
	switch {
	case runtime.GOOS != "linux":
		return 0, errors.New("users and groups can be managed on Linux only")
	case command.Find("useradd") != "":
		return shadowTools, nil
	case command.Find("adduser") != "":
		return busyboxTools, nil
	}
	return 0, errors.New("this machine has neither useradd nor adduser; install the package shadow, shadow-utils or passwd")
}

// planner makes a plan from what there is.
type planner func(accounts, toolset) accountPlan

// checkAccount is check for users and groups. What stands in the way of a change is only told here: something that
// comes before this resource may clear it away.
func checkAccount(plan planner) (string, error) {
	now, err := readAccounts()
	if err != nil {
		return "", err
	}
	tools, err := accountTools()
	if err != nil {
		return "", err
	}
	p := plan(now, tools)
	return p.String(), nil
}

// applyAccount is apply for users and groups.
func applyAccount(ctx context.Context, plan planner) (string, error) {
	return accountLock.hold(ctx, func() (string, error) {
		tools, err := accountTools()
		if err != nil {
			return "", err
		}
		now, err := readAccounts()
		if err != nil {
			return "", err
		}
		p := plan(now, tools)
		if len(p.changes) > 0 && p.problem != "" {
			return "", errors.New(p.problem)
		}
		var output strings.Builder
		for _, argv := range p.commands {
			out, err := act(ctx, accountsLocked, nil, argv...)
			output.WriteString(out)
			if err != nil {
				return output.String(), err
			}
		}
		if now, err = readAccounts(); err != nil {
			return output.String(), err
		}
		if p = plan(now, tools); len(p.changes) > 0 {
			return output.String(), fmt.Errorf("the tools report success, but there is still to do: %s", p.String())
		}
		return output.String(), nil
	})
}

// accountsLocked knows what the tools of shadow say when another program holds a lock. Without the right to lock they
// say the same, after that.
func accountsLocked(output string) bool {
	return strings.Contains(output, "cannot lock ") && !strings.Contains(output, "Permission denied")
}

// refuseName refuses names that a tool would take for an option or that would break the format of the files. What else is
// allowed differs between distributions, and their tools know.
func refuseName(what, name string) error {
	if name == "" || name[0] == '-' || strings.ContainsAny(name, ":,/ \t\n\x00") {
		return fmt.Errorf("%q can't be the name of a %s", name, what)
	}
	return nil
}
