package graph

import (
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

func readFile(p *parser, r *Resource) (map[string]field, func(given)) {
	f := &File{}
	r.Spec = f
	var dirname, basename string
	var fragmentsAt []Position
	fields := map[string]field{
		"path":      p.text(&f.Path, "path"),
		"dirname":   p.text(&dirname, "dirname"),
		"basename":  p.text(&basename, "basename"),
		"state":     p.state(&f.State),
		"content":   p.content(&f.Content, "content"),
		"source":    p.text(&f.Source, "source"),
		"fragments": p.texts(&f.Fragments, "fragments", &fragmentsAt),
		"mode":      p.mode(&f.Mode),
		"owner":     p.word(&f.Owner, "owner"),
		"group":     p.word(&f.Group, "group"),
		"recurse":   p.boolean(&f.Recurse, "recurse"),
		"force":     p.boolean(&f.Force, "force"),
	}
	return fields, func(at given) {
		before := len(p.problems)
		if f.Path == "" {
			f.Path = strings.TrimPrefix(r.ID.Name, ExportMark)
		}
		p.override(f, dirname, basename, at)
		written := f.Path
		p.filePath(f, at)
		if len(f.Fragments) == 0 {
			f.Fragments = nil
		}
		if r.Exported() && len(p.problems) == before {
			p.export(f, written, at)
		}
		if len(p.problems) == before {
			p.contentOf(f, at, fragmentsAt)
		}
	}
}

// override replaces parts of the path. As in mgmt, the directory part ends in a slash, and so does the base of a
// directory.
func (p *parser) override(f *File, dirname, basename string, at given) {
	if dirname != "" && !strings.HasSuffix(dirname, "/") {
		p.fail(at["dirname"], "dirname: %q does not end in a slash", dirname)
	}
	if strings.HasPrefix(basename, "/") {
		p.fail(at["basename"], "basename: %q begins with a slash", basename)
	}
	cut := strings.LastIndexByte(strings.TrimSuffix(f.Path, "/"), '/') + 1
	if dirname == "" {
		dirname = f.Path[:cut]
	}
	if basename == "" {
		basename = f.Path[cut:]
	}
	f.Path = dirname + basename
}

// filePath checks and cleans the path.
func (p *parser) filePath(f *File, at given) {
	where := at.at("path")
	if _, ok := at["path"]; !ok {
		where = at.at("dirname")
	}
	if !path.IsAbs(f.Path) {
		p.fail(where, "path: %q is not absolute", f.Path)
		return
	}
	f.Path = cleanPath(f.Path)
	if f.Path == "/" && f.State == Absent {
		p.fail(where, "path: the root directory can't be removed")
	}
}

// cleanPath is path.Clean, but keeps a final slash.
func cleanPath(s string) string {
	clean := path.Clean(s)
	if strings.HasSuffix(s, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// contentOf checks what says what is in the file.
func (p *parser) contentOf(f *File, at given, fragmentsAt []Position) {
	var sources []string
	for _, key := range []string{"content", "source", "fragments"} {
		if key == "content" && f.Content != nil || key == "source" && f.Source != "" || key == "fragments" && f.Fragments != nil {
			sources = append(sources, key)
		}
	}
	if len(sources) == 0 {
		return
	}
	last := sources[0]
	for _, key := range sources {
		if at[key].after(at[last]) {
			last = key
		}
	}
	switch {
	case f.State == Absent:
		p.fail(at[sources[0]], "%s: the file should be absent", sources[0])
	case len(sources) > 1:
		p.fail(at[last], "both %s; give one of them", strings.Join(sources, " and "))
	case f.Source != "":
		p.source(f, at["source"])
	case f.Directory():
		p.fail(at[last], "%s: %s is a directory, since its path ends in a slash", last, f.Path)
	case f.Fragments != nil:
		p.fragments(f, fragmentsAt)
	}
}

func (p *parser) source(f *File, at Position) {
	dir := strings.HasSuffix(f.Source, "/")
	if !path.IsAbs(f.Source) {
		p.fail(at, "source: %q is not absolute; it names a file on the host", f.Source)
		return
	}
	f.Source = cleanPath(f.Source)
	switch {
	case dir != f.Directory():
		p.fail(at, "source: path and source must both end in a slash, for directories, or neither")
	case f.Path == f.Source || dir && strings.HasPrefix(f.Path, f.Source):
		p.fail(at, "source: %s would be copied into itself", f.Source)
	case dir && !f.Recurse:
		p.fail(at, "source: copying a directory needs recurse: true")
	}
}

func (p *parser) fragments(f *File, at []Position) {
	for i, fragment := range f.Fragments {
		if !path.IsAbs(fragment) {
			p.fail(at[i], "fragments: %q is not absolute", fragment)
			continue
		}
		fragment = cleanPath(fragment)
		f.Fragments[i] = fragment
		if fragment == f.Path || strings.HasSuffix(fragment, "/") && strings.HasPrefix(f.Path, fragment) {
			p.fail(at[i], "fragments: %s would become a part of itself by %s", f.Path, fragment)
		}
	}
}

// export checks what is offered to other hosts. They place it in a directory of their own choice, and what is made there
// must not be more than a file with some content. The path as it was written is given, because Clean hides dots.
func (p *parser) export(f *File, written string, at given) {
	switch base := path.Base("/" + written); {
	case f.Force:
		p.fail(at["force"], "force: not for exported files: other hosts say themselves what may be replaced")
	case f.Recurse || strings.HasSuffix(f.Source, "/"):
		p.fail(at.at("recurse"), "recurse: not for exported files: one file is exported, not a tree")
	case f.Fragments != nil:
		p.fail(at["fragments"], "fragments: not for exported files; give content or source")
	case f.State == Absent:
		p.fail(at["state"], "state: an exported file can't be absent: it would remove files of other hosts")
	case base == "/" || base == "." || base == "..":
		p.fail(at.at("path"), "path: %q has no name that a file could get on other hosts", written)
	case f.Mode != nil && *f.Mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0:
		p.fail(at["mode"], "mode: no setuid, setgid or sticky bit for exported files")
	case f.Content != nil && len(*f.Content) > MaxShared:
		p.fail(at["content"], "content: %d KiB; an exported file can have %d", len(*f.Content)>>10, MaxShared>>10)
	case f.Content == nil && f.Source == "" && !f.Directory():
		p.fail(at["name"], "an exported file needs content or source, or a path that ends in a slash for a directory")
	}
}

func (p *parser) state(dst *State) field {
	return choice(p, dst, "state", []string{Exists.String(), Absent.String()}, []State{Exists, Absent})
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
