package graph

import (
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

func (p *parser) noop(r *Resource, pl *places, n ast.Node) {
	r.Spec = &Noop{}
	p.mapping(n, "noop resource", p.common(r, pl))
}

func (p *parser) fileResource(r *Resource, pl *places, n ast.Node) {
	f := &File{}
	r.Spec = f
	last := len(pl.paths) - 1
	var pathAt, sourceAt, contentAt Position
	fields := p.common(r, pl)
	fields["path"] = func(n ast.Node) { pathAt = nodeAt(n); p.text(&f.Path, "path")(n) }
	fields["content"] = func(n ast.Node) { contentAt = nodeAt(n); p.content(&f.Content, "content")(n) }
	fields["source"] = func(n ast.Node) { sourceAt = nodeAt(n); p.text(&f.Source, "source")(n) }
	fields["state"] = p.state(&f.State)
	fields["mode"] = p.mode(&f.Mode)
	fields["owner"] = p.word(&f.Owner, "owner")
	fields["group"] = p.word(&f.Group, "group")
	fields["recurse"] = p.boolean(&f.Recurse, "recurse")
	fields["force"] = p.boolean(&f.Force, "force")
	before := len(p.problems)
	p.mapping(n, "file resource", fields, "dirname", "basename", "fragments", "purge", "symlink")
	if len(p.problems) > before {
		return
	}
	if pathAt == (Position{}) {
		pathAt = pl.names[last]
		f.Path = r.ID.Name
	}
	pl.paths[last] = pathAt
	p.filePath(f, r.ID.Name, pathAt)
	if f.Source != "" {
		switch {
		case f.Content != nil:
			p.fail(later(contentAt, sourceAt), "both content and source; give one of them")
		case f.Directory() || strings.HasSuffix(f.Source, "/"):
			p.fail(sourceAt, "source: copying a directory is not supported by this version")
		case !path.IsAbs(f.Source):
			p.fail(sourceAt, "source: %q is not absolute; it names a file on the host", f.Source)
		}
	}
	if f.Content != nil && f.Directory() {
		p.fail(contentAt, "content: %s is a directory, since its path ends in a slash", f.Path)
	}
}

// filePath checks and cleans the path.
func (p *parser) filePath(f *File, name string, at Position) {
	switch {
	case f.Path == "":
		if name != "" {
			p.fail(at, "path: empty")
		}
	case !path.IsAbs(f.Path):
		p.fail(at, "path: %q is not absolute", f.Path)
	default:
		dir := f.Directory()
		f.Path = path.Clean(f.Path)
		if f.Path == "/" {
			if f.State == Absent || !dir {
				p.fail(at, "path: the root directory can't be removed")
			}
			return
		}
		if dir {
			f.Path += "/"
		}
	}
}

func later(a, b Position) Position {
	if a.Line > b.Line || a.Line == b.Line && a.Column > b.Column {
		return a
	}
	return b
}

func (p *parser) state(dst *State) field {
	return func(n ast.Node) {
		switch s, _ := textOf(n); s {
		case "exists":
			*dst = Exists
		case "absent":
			*dst = Absent
		default:
			p.fail(nodeAt(n), "state: want exists or absent, not %s", describe(n))
		}
	}
}

// mode reads octal digits as they are written, quoted or not, with or without a leading 0 or 0o.
func (p *parser) mode(dst **fs.FileMode) field {
	return func(n ast.Node) {
		var s string
		switch v := n.(type) {
		case *ast.IntegerNode:
			s = v.Token.Value
		case *ast.StringNode:
			s = v.Value
		}
		value, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
		if err != nil || value > 0o7777 {
			p.fail(nodeAt(n), `mode: want octal digits such as "0644", not %s`, describe(n))
			return
		}
		m := fs.FileMode(value & 0o777)
		for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
			if value&bit != 0 {
				m |= flag
			}
		}
		*dst = &m
	}
}

func (p *parser) exec(r *Resource, pl *places, n ast.Node) {
	e := &Exec{}
	r.Spec = e
	var state string
	var stateAt, argsAt Position
	fields := p.common(r, pl)
	fields["cmd"] = p.text(&e.Cmd, "cmd")
	fields["args"] = func(n ast.Node) { argsAt = nodeAt(n); p.texts(&e.Args, "args")(n) }
	fields["shell"] = p.text(&e.Shell, "shell")
	fields["cwd"] = p.text(&e.Cwd, "cwd")
	fields["env"] = p.environment(&e.Env, "env")
	fields["user"] = p.word(&e.User, "user")
	fields["group"] = p.word(&e.Group, "group")
	fields["timeout"] = p.seconds("timeout", &e.Timeout)
	fields["ifcmd"] = p.text(&e.IfCmd, "ifcmd")
	fields["ifshell"] = p.text(&e.IfShell, "ifshell")
	fields["watchcmd"] = p.text(&e.WatchCmd, "watchcmd")
	fields["watchshell"] = p.text(&e.WatchShell, "watchshell")
	fields["pollint"] = p.seconds("pollint", &e.PollInt)
	fields["state"] = func(n ast.Node) { stateAt = nodeAt(n); p.text(&state, "state")(n) }
	before := len(p.problems)
	p.mapping(n, "exec resource", fields, "watchcwd", "watchfiles", "ifcwd", "ifequals", "nifcmd", "nifcwd", "nifshell",
		"creates", "mtimes", "donecmd", "donecwd", "doneshell", "send", "recv")
	if len(p.problems) > before {
		return
	}
	if e.Cmd == "" {
		e.Cmd = r.ID.Name
	}
	at := pl.names[len(pl.names)-1]
	if state != "" && state != "present" {
		p.fail(stateAt, "state: an exec can only be present")
	}
	if strings.TrimSpace(e.Cmd) == "" && r.ID.Name != "" {
		p.fail(at, "cmd: empty")
	}
	for key, line := range map[string]string{"ifcmd": e.IfCmd, "watchcmd": e.WatchCmd} {
		if line != "" && strings.TrimSpace(line) == "" {
			p.fail(at, "%s: only white space", key)
		}
	}
	if len(e.Args) > 0 && (e.Shell != "" || len(strings.Fields(e.Cmd)) > 1) {
		p.fail(argsAt, "args: only without a shell, and with a cmd of one word")
	}
	if e.Cwd != "" && !path.IsAbs(e.Cwd) {
		p.fail(at, "cwd: %q is not absolute", e.Cwd)
	}
}
