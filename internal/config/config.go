// Package config reads configuration files: which there are, whether they can be trusted, and what is in them. It knows
// nothing of the flags that they set.
//
// A file is one YAML mapping. Its keys are names of flags with a value or a list of values, or names of commands with the
// same for them alone.
package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxSize is that of any sane file.
	maxSize = 1 << 20
	// maxDepth is that of commands: "graph check" is two.
	maxDepth = 4

	systemFile = "/etc/mgmt-remote/mgmt-remote.yaml"
)

// Setting is what one key says.
type Setting struct {
	Command string   // its words, "graph check"; empty: for all commands
	Flag    string   // its name
	Values  []string // as a command line would have them
	List    bool     // the file has a list, also of one or none
	Origin  string   // FILE:LINE:COLUMN
}

// Files returns where configuration is looked for, the first goes before the second: the person's and the machine's.
func Files(getenv func(string) string) []string {
	dir := getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // the XDG base directory specification: relative paths are to be ignored
		dir = ""
		if home := getenv("HOME"); filepath.IsAbs(home) {
			dir = filepath.Join(home, ".config")
		}
	}
	if dir == "" {
		return []string{systemFile}
	}
	return []string{filepath.Join(dir, "mgmt-remote", "mgmt-remote.yaml"), systemFile}
}

// Read reads a file. Whoever can write it can have any program run, so none but its owner may, as with ssh's.
func Read(name string) ([]Setting, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing to lose
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := trusted(info); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, err
	}
	return Parse(name, data)
}

// Parse reads what is in a file; all that is wrong with its form is in the error, each with its place.
func Parse(name string, data []byte) ([]Setting, error) {
	p := parser{file: name}
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s: larger than %d MiB", name, maxSize>>20)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil // nothing in it, or nothing but comments
	case err != nil:
		return nil, p.syntax(err)
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		p.section(doc.Content[0], nil)
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		p.fail(&second, "a second document; one is what a configuration has")
	case !errors.Is(err, io.EOF):
		return nil, p.syntax(err)
	}
	if len(p.problems) > 0 {
		return nil, errors.Join(p.problems...)
	}
	return p.settings, nil
}

type parser struct {
	file     string
	settings []Setting
	problems []error
}

func (p *parser) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d:%d", p.file, n.Line, n.Column) }

func (p *parser) fail(n *yaml.Node, format string, args ...any) {
	p.problems = append(p.problems, fmt.Errorf("%s: %s", p.at(n), fmt.Sprintf(format, args...)))
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// syntax gives an error of the YAML library the form of the others.
func (p *parser) syntax(err error) error {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	line, _ := strconv.Atoi(m[1]) // none: the library does not know
	return fmt.Errorf("%s:%d: %s", p.file, cmp.Or(line, 1), m[2])
}

// section takes a mapping: the file's, or that of a command.
func (p *parser) section(n *yaml.Node, command []string) {
	if n.Tag == "!!null" && len(command) == 0 {
		return
	}
	if n.Kind != yaml.MappingNode {
		p.fail(n, "want keys and values")
		return
	}
	if len(command) > maxDepth {
		p.fail(n, "nested too deeply")
		return
	}
	seen := map[string]struct{}{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" || key.Value == "" {
			p.fail(key, "want the name of a flag or of a command")
			continue
		}
		if _, twice := seen[key.Value]; twice {
			p.fail(key, "%q is given twice", key.Value)
			continue
		}
		seen[key.Value] = struct{}{}
		if value.Kind == yaml.MappingNode {
			p.section(value, append(slices.Clip(command), key.Value))
			continue
		}
		s := Setting{Command: strings.Join(command, " "), Flag: key.Value, Origin: p.at(key)}
		if value.Kind != yaml.SequenceNode {
			if text, ok := p.scalar(value, key.Value); ok {
				s.Values = []string{text}
				p.settings = append(p.settings, s)
			}
			continue
		}
		s.List = true
		for _, element := range value.Content {
			if text, ok := p.scalar(element, key.Value); ok {
				s.Values = append(s.Values, text)
			}
		}
		p.settings = append(p.settings, s)
	}
}

func (p *parser) scalar(n *yaml.Node, key string) (string, bool) {
	switch {
	case n.Kind == yaml.AliasNode:
		p.fail(n, "%s: aliases are not taken here", key)
	case n.Kind != yaml.ScalarNode:
		p.fail(n, "%s: want a value or a list of values", key)
	case n.Tag == "!!null":
		p.fail(n, "%s: no value", key)
	default:
		return n.Value, true
	}
	return "", false
}
