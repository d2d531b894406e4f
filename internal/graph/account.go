package graph

import (
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// accountName is what useradd and groupadd of shadow and busybox accept, as far as they agree: useradd(8) on CAVEATS. Some
// of them take no upper case or no dot; they say so themselves.
var accountName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)

// maxID is the highest UID and GID; the one above it means "no such ID" to system calls, as in chown(2).
const maxID = math.MaxUint32 - 1

func readUser(p *parser, r *Resource) (map[string]field, func(given)) {
	u := &User{}
	r.Spec = u
	var groupsAt []Position
	fields := map[string]field{
		"state":             p.state(&u.State),
		"uid":               p.id(&u.UID, "uid"),
		"gid":               p.id(&u.GID, "gid"),
		"group":             p.text(&u.Group, "group"),
		"groups":            p.texts(&u.Groups, "groups", &groupsAt),
		"homedir":           p.text(&u.HomeDir, "homedir"),
		"shell":             p.text(&u.Shell, "shell"),
		"allowduplicateuid": p.boolean(&u.AllowDuplicateUID, "allowduplicateuid"),
	}
	return fields, func(at given) {
		p.account(r.ID, u.State, at)
		if u.GID != nil && u.Group != "" {
			p.fail(at["group"], "both gid and group; give one of them")
		}
		if u.Group != "" {
			p.accountName(at["group"], "group", u.Group)
		}
		for i, g := range u.Groups {
			if slices.Contains(u.Groups[:i], g) {
				p.fail(groupsAt[i], "groups: %s is given twice", g)
			}
			p.accountName(groupsAt[i], "groups", g)
		}
		for key, value := range map[string]string{"homedir": u.HomeDir, "shell": u.Shell} {
			// A colon separates the fields of passwd(5), and a line is a user.
			if value != "" && (!path.IsAbs(value) || strings.ContainsFunc(value, unicode.IsControl) || strings.Contains(value, ":")) {
				p.fail(at[key], "%s: want an absolute path without colons and control characters, not %q", key, value)
			}
		}
	}
}

func readGroup(p *parser, r *Resource) (map[string]field, func(given)) {
	g := &Group{}
	r.Spec = g
	fields := map[string]field{
		"state": p.state(&g.State),
		"gid":   p.id(&g.GID, "gid"),
	}
	return fields, func(at given) { p.account(r.ID, g.State, at) }
}

// account checks the name of a user or group.
func (p *parser) account(id ID, state State, at given) {
	p.accountName(at["name"], "name", id.Name)
	if id.Name == "root" && state == Absent {
		p.fail(at["name"], "name: the %s root can't be removed", id.Kind)
	}
}

func (p *parser) accountName(at Position, key, name string) {
	if !accountName.MatchString(name) {
		p.fail(at, "%s: %q can't be a name: want a letter or _, then letters, digits and any of . _ -, at most 32 in all", key, name)
	}
}

// id takes a UID or GID.
func (p *parser) id(dst **uint32, what string) field {
	return p.integer(what, 0, maxID, func(v int64) { *dst = new(uint32(v)) })
}

// checkNumbers reports users that share a UID, and groups that share a GID.
func (p *parser) checkNumbers(def *Definition) {
	users, groups := map[uint32]*Resource{}, map[uint32]*Resource{}
	for i := range def.Resources {
		r := &def.Resources[i]
		switch spec := r.Spec.(type) {
		case *User:
			if spec.UID == nil || spec.State == Absent {
				continue
			}
			first := users[*spec.UID]
			allowed := first == nil || spec.AllowDuplicateUID && first.Spec.(*User).AllowDuplicateUID
			if !allowed {
				p.fail(p.given[i]["uid"], "uid: %s has %d already; where that is meant, both need allowduplicateuid: true", first.ID, *spec.UID)
			}
			users[*spec.UID] = r
		case *Group:
			if spec.GID == nil || spec.State == Absent {
				continue
			}
			if first := groups[*spec.GID]; first != nil {
				p.fail(p.given[i]["gid"], "gid: %s has %d already", first.ID, *spec.GID)
			}
			groups[*spec.GID] = r
		}
	}
}
