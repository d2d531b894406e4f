package engine

import (
	"context"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// groupResource is a group in /etc/group. Its members are not its business: they are declared with the users. Files keep
// the number of a group that gets another one, or that is removed.
type groupResource struct {
	name string
	spec *graph.Group
}

func newGroup(name string, spec *graph.Group) (resource, error) {
	if err := refuseName("group", name); err != nil {
		return nil, err
	}
	return &groupResource{name: name, spec: spec}, nil
}

// paths has /etc/passwd, too: whether a group can be removed depends on the users.
func (g *groupResource) paths() []string { return []string{groupFile, passwdFile} }

func (g *groupResource) check(context.Context) (string, error) { return checkAccount(g.plan) }

func (g *groupResource) apply(ctx context.Context) (string, error) { return applyAccount(ctx, g.plan) }

func (g *groupResource) plan(now accounts, tools toolset) (p accountPlan) {
	have := now.group(g.name)
	if g.spec.State == graph.Absent {
		if have == nil {
			return p
		}
		p.change("remove group %s", g.name)
		for _, user := range now.users {
			if user.gid == have.gid {
				p.need("it is the primary group of user %s", user.name)
			}
		}
		if tools == busyboxTools {
			p.run("delgroup", g.name)
		} else {
			p.run("groupdel", g.name)
		}
		return p
	}
	var option []string
	if g.spec.GID != nil {
		option = []string{"-g", number(*g.spec.GID)}
		if other := now.groupOf(*g.spec.GID); other != nil && other.name != g.name {
			p.need("gid %d is taken by group %s", other.gid, other.name)
		}
	}
	switch {
	case have == nil:
		p.change("create group %s", g.name)
		tool := "groupadd"
		if tools == busyboxTools {
			tool = "addgroup"
		}
		p.run(append(append([]string{tool}, option...), g.name)...)
	case g.spec.GID != nil && *g.spec.GID != have.gid:
		p.change("gid %d → %d", have.gid, *g.spec.GID)
		if tools == busyboxTools {
			p.need("BusyBox has no program that changes this; install the package shadow for groupmod")
		}
		p.run(append(append([]string{"groupmod"}, option...), g.name)...)
	}
	return p
}
