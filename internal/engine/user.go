package engine

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// userResource is a user account in /etc/passwd. It never touches passwords or home directories: a new account has a locked
// password, and what a removed one owned stays. usermod(8) gives files in the home directory to a changed uid.
type userResource struct {
	name string
	spec *graph.User
}

func newUser(name string, spec *graph.User) (resource, error) {
	if err := refuseName("user", name); err != nil {
		return nil, err
	}
	if spec.Group != "" {
		if err := refuseName("group", spec.Group); err != nil {
			return nil, err
		}
	}
	for _, group := range spec.Groups {
		if err := refuseName("group", group); err != nil {
			return nil, err
		}
	}
	return &userResource{name: name, spec: spec}, nil
}

func (u *userResource) paths() []string { return []string{passwdFile, groupFile} }

func (u *userResource) check(context.Context) (string, error) { return checkAccount(u.plan) }

func (u *userResource) apply(ctx context.Context) (string, error) { return applyAccount(ctx, u.plan) }

func (u *userResource) plan(now accounts, tools toolset) (p accountPlan) {
	have := now.user(u.name)
	switch {
	case u.spec.State == graph.Absent && have == nil:
	case u.spec.State == graph.Absent:
		p.change("remove user %s", u.name)
		if tools == busyboxTools {
			p.run("deluser", u.name)
		} else {
			p.run("userdel", u.name)
		}
	case have == nil:
		p.change("create user %s", u.name)
		u.demandUID(&now, &p)
		u.demandPrimary(&now, &p)
		u.demandGroups(&now, &p)
		if tools == busyboxTools {
			u.createBusybox(&now, &p)
		} else {
			u.create(&now, &p)
		}
	default:
		u.modify(&now, &p, have, tools)
	}
	return p
}

// demandUID notes that the declared uid is somebody else's.
func (u *userResource) demandUID(now *accounts, p *accountPlan) {
	if u.spec.UID == nil || u.spec.AllowDuplicateUID {
		return
	}
	for _, other := range now.users {
		if other.uid == *u.spec.UID && other.name != u.name {
			p.need("uid %d is taken by user %s", other.uid, other.name)
		}
	}
}

// demandPrimary notes that there is no such primary group.
func (u *userResource) demandPrimary(now *accounts, p *accountPlan) {
	switch {
	case u.primary(now) != nil:
	case u.spec.Group != "":
		p.need("there is no group %s in %s", u.spec.Group, groupFile)
	case u.spec.GID != nil:
		p.need("there is no group with gid %d in %s", *u.spec.GID, groupFile)
	}
}

// demandGroups notes which supplementary groups there are not.
func (u *userResource) demandGroups(now *accounts, p *accountPlan) {
	for _, group := range u.spec.Groups {
		if now.group(group) == nil {
			p.need("there is no group %s in %s", group, groupFile)
		}
	}
}

// primary is the declared primary group; nil if none is declared or there is no such group.
func (u *userResource) primary(now *accounts) *groupEntry {
	switch {
	case u.spec.Group != "":
		return now.group(u.spec.Group)
	case u.spec.GID != nil:
		return now.groupOf(*u.spec.GID)
	}
	return nil
}

// groups are the declared supplementary groups, sorted.
func (u *userResource) groups() []string {
	list := slices.Clone(u.spec.Groups)
	slices.Sort(list)
	return slices.Compact(list)
}

func (u *userResource) create(now *accounts, p *accountPlan) {
	argv := []string{"useradd", "-M"} // no home directory
	if u.spec.UID != nil {
		argv = append(argv, "-u", number(*u.spec.UID))
		if u.spec.AllowDuplicateUID {
			argv = append(argv, "-o")
		}
	}
	switch primary := u.primary(now); {
	case primary != nil:
		argv = append(argv, "-g", number(primary.gid))
	case now.group(u.name) != nil: // useradd would want to make a group of that name
		argv = append(argv, "-g", number(now.group(u.name).gid))
	}
	if len(u.spec.Groups) > 0 {
		argv = append(argv, "-G", strings.Join(u.groups(), ","))
	}
	if u.spec.HomeDir != "" {
		argv = append(argv, "-d", u.spec.HomeDir)
	}
	if u.spec.Shell != "" {
		argv = append(argv, "-s", u.spec.Shell)
	}
	p.run(append(argv, u.name)...)
}

func (u *userResource) createBusybox(now *accounts, p *accountPlan) {
	argv := []string{"adduser", "-D", "-H"} // no password, no home directory
	if u.spec.UID != nil {
		argv = append(argv, "-u", number(*u.spec.UID))
		if u.spec.AllowDuplicateUID && slices.ContainsFunc(now.users, func(a account) bool { return a.uid == *u.spec.UID }) {
			p.need("adduser of BusyBox gives no uid twice; install the package shadow")
		}
	}
	primary := u.primary(now)
	if primary == nil {
		primary = now.group(u.name)
	}
	if primary != nil {
		argv = append(argv, "-G", primary.name)
	}
	if u.spec.HomeDir != "" {
		argv = append(argv, "-h", u.spec.HomeDir)
	}
	if u.spec.Shell != "" {
		argv = append(argv, "-s", u.spec.Shell)
	}
	p.run(append(argv, u.name)...)
	var has []string
	if primary != nil && u.spec.Groups != nil {
		has = []string{primary.name} // the primary group becomes a supplementary one, too
	}
	u.regroupBusybox(p, has, u.groups())
}

func (u *userResource) modify(now *accounts, p *accountPlan, have *account, tools toolset) {
	argv := []string{"usermod"}
	if u.spec.UID != nil && *u.spec.UID != have.uid {
		p.change("uid %d → %d", have.uid, *u.spec.UID)
		argv = append(argv, "-u", number(*u.spec.UID))
		if u.spec.AllowDuplicateUID {
			argv = append(argv, "-o")
		}
		u.demandUID(now, p)
	}
	switch primary := u.primary(now); {
	case primary != nil && primary.gid != have.gid:
		p.change("primary group %s → %s", groupWords(now, have.gid), groupWords(now, primary.gid))
		argv = append(argv, "-g", number(primary.gid))
	case primary == nil && u.spec.Group != "":
		p.change("primary group %s → %s", groupWords(now, have.gid), u.spec.Group)
		u.demandPrimary(now, p)
	case primary == nil && u.spec.GID != nil && *u.spec.GID != have.gid:
		p.change("primary group %s → %d", groupWords(now, have.gid), *u.spec.GID)
		u.demandPrimary(now, p)
	}
	if u.spec.HomeDir != "" && u.spec.HomeDir != have.home {
		p.change("home directory %s → %s", have.home, u.spec.HomeDir)
		argv = append(argv, "-d", u.spec.HomeDir)
	}
	if u.spec.Shell != "" && u.spec.Shell != have.shell {
		p.change("shell %s → %s", have.shell, u.spec.Shell)
		argv = append(argv, "-s", u.spec.Shell)
	}
	before, after := now.memberships(u.name), u.groups()
	regroup := u.spec.Groups != nil && !slices.Equal(before, after)
	if regroup {
		p.change("groups %s → %s", listWords(before), listWords(after))
		u.demandGroups(now, p)
	}
	if tools == busyboxTools {
		if len(argv) > 1 {
			p.need("BusyBox has no program that changes this; install the package shadow for usermod")
		}
		if regroup {
			u.regroupBusybox(p, before, after)
		}
		return
	}
	if regroup {
		argv = append(argv, "-G", strings.Join(after, ","))
	}
	if len(argv) > 1 {
		p.run(append(argv, u.name)...)
	}
}

func (u *userResource) regroupBusybox(p *accountPlan, before, after []string) {
	for _, group := range before {
		if !slices.Contains(after, group) {
			p.run("delgroup", u.name, group)
		}
	}
	for _, group := range after {
		if !slices.Contains(before, group) {
			p.run("addgroup", u.name, group)
		}
	}
}

func number(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// groupWords names a group for people.
func groupWords(now *accounts, gid uint32) string {
	if g := now.groupOf(gid); g != nil {
		return g.name + " (" + number(gid) + ")"
	}
	return number(gid)
}

// listWords writes a list for people.
func listWords(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ",")
}
