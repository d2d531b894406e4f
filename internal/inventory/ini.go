package inventory

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
)

// readINI reads Ansible's INI format: hosts with their variables line by line, below [group], [group:vars] and
// [group:children].
func (b *Builder) readINI(p *problems, data []byte) {
	a := newAnsible(b, &tree{problems: p})
	r := &iniReader{ansible: a, group: Ungrouped, declared: map[string]struct{}{All: {}, Ungrouped: {}}, wanted: map[string]int{}}
	for line := range bytes.Lines(data) {
		r.line++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		if err := r.read(text); err != nil {
			p.add(r.line, 0, "%v", err)
		}
	}
	for _, name := range sortedKeys(r.wanted) {
		if _, ok := r.declared[name]; !ok {
			p.add(r.wanted[name], 0, "there is no group %s", name)
		}
	}
	a.done()
}

type iniReader struct {
	*ansible
	line     int
	group    string // the section's
	kind     string // "", "vars" or "children"
	declared map[string]struct{}
	wanted   map[string]int // groups that are named as if they were declared, with the line
}

func (r *iniReader) read(text string) error {
	if text[0] == '[' {
		if m := iniSection.FindStringSubmatch(text); m != nil {
			return r.section(m[1], m[2])
		}
	}
	switch r.kind {
	case "vars":
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("want KEY=VALUE in a section of variables")
		}
		g := r.ansible.group(r.group)
		return r.assign(&g.said, strings.TrimSpace(key), iniValue(strings.TrimSpace(value)), Origin{File: r.file, Line: r.line, Group: r.group})
	case "children":
		words, err := splitWords(text)
		if err != nil {
			return err
		}
		if len(words) != 1 {
			return errors.New("want one group per line in a section of children")
		}
		if _, known := r.wanted[words[0]]; !known {
			r.wanted[words[0]] = r.line
		}
		return r.child(words[0], r.group)
	}
	words, err := splitWords(text)
	if err != nil || len(words) == 0 {
		return err
	}
	from := Origin{File: r.file, Line: r.line, Group: r.group}
	if r.group == Ungrouped {
		from.Group = "" // what is in another group as well is not in this one
	}
	machines, err := r.hosts(words[0], from)
	if err != nil {
		return err
	}
	for _, word := range words[1:] {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return errors.New("want KEY=VALUE after the host's name, or one host per line")
		}
		for _, m := range machines {
			if err := r.assign(&m.said, key, iniValue(value), Origin{File: r.file, Line: r.line}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *iniReader) section(name, kind string) error {
	r.group, r.kind = name, kind
	switch kind {
	case "vars":
		if _, known := r.wanted[name]; !known {
			r.wanted[name] = r.line
		}
		return validGroup(name)
	case "", "children", "hosts":
		r.declared[name] = struct{}{}
		if kind == "hosts" {
			r.kind = ""
		}
		if name == All || name == Ungrouped {
			return nil
		}
		return r.child(name, "")
	}
	r.kind = ""
	return errors.New("a section is [GROUP], [GROUP:vars] or [GROUP:children]")
}

// What Ansible takes for Python's literals, where a comment may follow.
var iniLiteral = regexp.MustCompile(`^(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(-?\d+(?:\.\d+)?|True|False|None))\s*(?:#.*)?$`)

// iniValue takes the quotes off a value, and a comment that follows a value that ends for certain; in others # is a part.
func iniValue(text string) string {
	if m := iniLiteral.FindStringSubmatch(text); m != nil {
		return m[1] + m[2] + m[3]
	}
	return text
}

// splitWords splits a line as a POSIX shell does, without expansions; a word that begins with # ends the line.
func splitWords(text string) ([]string, error) {
	var words []string
	var word []byte
	in, quote := false, byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote == 0 && (c == ' ' || c == '\t'):
			if in {
				words, word, in = append(words, string(word)), word[:0], false
			}
			continue
		case quote == 0 && c == '#' && !in:
			return words, nil
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(text) && (quote == 0 || text[i+1] == '"' || text[i+1] == '\\'):
			i++
			word = append(word, text[i])
		default:
			word = append(word, c)
		}
		in = true
	}
	if quote != 0 {
		return nil, errors.New("a quotation mark is not closed")
	}
	if in {
		words = append(words, string(word))
	}
	return words, nil
}
