package graph

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode/utf8"
)

// maxTemplate bounds a template in bytes; what it renders to is bounded as any definition.
const maxTemplate = 1 << 20

// Data is what a template can use: {{.Host}}, {{.Vars.colour}}. Facts that nobody knows are empty.
type Data struct {
	Host   string // the name of the host in the run
	Run    string // the run's ID
	Addr   string // the host's address, as the initiator connects to it
	User   string // who applies the definition there
	Home   string // that user's home directory
	OS     string // in Go's words: linux
	Arch   string // in Go's words: amd64, arm64
	Kernel string // the kernel's release, as uname -r gives it
	BootID string // changes with each boot of the host
	Vars   map[string]string
}

// Template is a definition to be: Go's text/template, with more functions and with bounds on time and memory. The data of
// one host make a definition of it. It has no access to files, the environment or commands. It is immutable; many
// goroutines may use it.
type Template struct {
	file  string
	lines []string
	tmpl  *template.Template
}

// IsTemplate reports whether a file of this name holds a template and not a definition.
func IsTemplate(name string) bool {
	return strings.HasSuffix(name, ".yaml.tmpl") || strings.HasSuffix(name, ".yml.tmpl")
}

// LoadTemplate reads and parses the template at path. Its errors are as those of Load.
func LoadTemplate(path string) (*Template, error) {
	data, err := readAll(path)
	if err != nil {
		return nil, err
	}
	return ParseTemplate(path, data)
}

// ParseTemplate parses a template; file is its name for messages. The error, if any, is an *Error. Most mistakes only
// show when the template is rendered; see Check.
func ParseTemplate(file string, source []byte) (*Template, error) {
	t := &Template{file: file, lines: splitLines(source)}
	if len(source) > maxTemplate {
		return nil, t.problem(Position{}, fmt.Sprintf("larger than %d MiB", maxTemplate>>20))
	}
	if !utf8.Valid(source) {
		return nil, t.problem(Position{}, "not UTF-8")
	}
	text := strings.TrimPrefix(string(source), "\ufeff")
	tmpl, err := template.New(templateName).Option("missingkey=error").Funcs(functions(nil)).Parse(text)
	if err != nil {
		return nil, t.failed(err)
	}
	t.tmpl = tmpl
	for _, defined := range tmpl.Templates() {
		if defined.Tree != nil {
			countSteps(defined.Root)
		}
	}
	return t, nil
}

// Render makes the definition's text for one host. It ends after a bounded time, whatever the template says. The error, if
// any, is an *Error that shows the template's line.
func (t *Template) Render(data Data) ([]byte, error) {
	for _, s := range data.texts() {
		if !utf8.ValidString(s) {
			return nil, t.problem(Position{}, fmt.Sprintf("for host %s: %q is not UTF-8", data.Host, s))
		}
	}
	tmpl, err := t.tmpl.Clone() // shares the tree, but has its own functions
	if err != nil {
		return nil, t.failed(err)
	}
	b := &budget{left: maxCost}
	out := &output{}
	if err := tmpl.Funcs(functions(b)).Execute(out, data); err != nil {
		e := t.failed(err)
		e.Problems[0].Text = "for host " + data.Host + ": " + e.Problems[0].Text
		return nil, e
	}
	return out.Bytes(), nil
}

// Definition renders the template for one host and parses what comes out. Where that is wrong, the *Error says so and
// shows the rendered line; the rendered text is Source of a definition that is right.
func (t *Template) Definition(data Data) (*Definition, error) {
	text, err := t.Render(data)
	if err != nil {
		return nil, err
	}
	p := newParser(t.file)
	p.rendered = data.Host
	return p.definition(text)
}

// Check makes a definition before the host is known, so that mistakes show before any connection. Where data is empty, it
// takes samples. Remote of the definition can be relied upon: it is an error if it depends on anything that was empty.
func (t *Template) Check(data Data) (*Definition, error) {
	def, err := t.Definition(data.or(Data{
		Host: "sample", Run: "3f5a9c", Addr: "192.0.2.7", User: "root", Home: "/root", OS: "linux", Arch: "amd64", Kernel: "6.1.0-18-amd64",
		BootID: "0d0f2f7c-7a55-4c5f-9f3e-6b1f3c6f2a10",
	}))
	if err != nil {
		return nil, err
	}
	other, err := t.Definition(data.or(Data{
		Host: "specimen", Run: "b81d07", Addr: "2001:db8::7", User: "admin", Home: "/home/admin", OS: "linux", Arch: "arm64", Kernel: "6.12.9",
		BootID: "c3b5a1f0-2c1e-4b7a-8e39-51d0a86c7e55",
	}))
	if err == nil && other.Remote != def.Remote { // another host's definition may be wrong for reasons that do not matter here
		return nil, def.ErrorAt(def.RemoteAt, "remote: depends on facts of the host, which are not known before it is reached")
	}
	return def, nil
}

// or fills what is empty with samples.
func (d Data) or(sample Data) Data {
	to, from := d.fields(), sample.fields()
	for i := range to {
		if *to[i] == "" {
			*to[i] = *from[i]
		}
	}
	return d
}

func (d *Data) fields() []*string {
	return []*string{&d.Host, &d.Run, &d.Addr, &d.User, &d.Home, &d.OS, &d.Arch, &d.Kernel, &d.BootID}
}

// texts returns every text in d.
func (d Data) texts() []string {
	var all []string
	for _, f := range d.fields() {
		all = append(all, *f)
	}
	return slices.AppendSeq(all, maps.Values(d.Vars))
}

// templateName stands before line and column in errors of package template.
const templateName = "definition"

var (
	placeOf = regexp.MustCompile(`(?s)^template: ` + templateName + `:(\d+)(?::(\d+))?: (?:executing "[^"]*" at <.*?>: )?(.*)$`)
	noEntry = regexp.MustCompile(`^map has no entry for key "(.*)"$`)
	noField = regexp.MustCompile(`^can't evaluate field (\w+) in type graph\.Data$`)
)

// failed turns an error of package template into one of ours.
func (t *Template) failed(err error) *Error {
	if errors.Is(err, errCost) {
		return t.problem(Position{}, errCost.Error())
	}
	m := placeOf.FindStringSubmatch(err.Error())
	if m == nil {
		return t.problem(Position{}, err.Error())
	}
	var at Position
	at.Line, _ = strconv.Atoi(m[1]) // they are digits
	at.Column = 1
	if offset, err := strconv.Atoi(m[2]); err == nil && at.Line >= 1 && at.Line <= len(t.lines) {
		line := t.lines[at.Line-1]
		at.Column = 1 + utf8.RuneCountInString(line[:min(offset, len(line))])
	}
	text := m[3]
	if key := noEntry.FindStringSubmatch(text); key != nil {
		text = fmt.Sprintf("the variable %s is not given: use --var %s=VALUE", key[1], key[1])
	} else if name := noField.FindStringSubmatch(text); name != nil {
		text = fmt.Sprintf("there is no .%s; there are .Host, .Run, .Addr, .User, .Home, .OS, .Arch, .Kernel, .BootID and .Vars", name[1])
	}
	return t.problem(at, text)
}

func (t *Template) problem(at Position, text string) *Error {
	return &Error{Problems: []Problem{problemAt(t.file, t.lines, at, text)}}
}
