package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// MaxSize bounds a source, in bytes. 10,000 hosts with variables are about 1 MB.
const MaxSize = 64 << 20

// Format is how a source is written.
type Format string

// The formats.
const (
	FormatAuto        Format = "auto"         // found out from the name and the content
	FormatYAML        Format = "yaml"         // our own
	FormatAnsibleINI  Format = "ansible-ini"  // Ansible's, with [group] sections
	FormatAnsibleYAML Format = "ansible-yaml" // Ansible's, with all: on top
	FormatAnsibleJSON Format = "ansible-json" // what a dynamic inventory answers to --list
	FormatList        Format = "list"         // one host or node set per line, as for -H
)

// Formats are all formats, the automatic one first.
func Formats() []Format {
	return []Format{FormatAuto, FormatYAML, FormatAnsibleINI, FormatAnsibleYAML, FormatAnsibleJSON, FormatList}
}

// Source is a file, or what came from elsewhere, as bytes.
type Source struct {
	Name   string // for messages and origins
	Format Format // "" = FormatAuto
	Data   []byte
}

// maxProblems is how many problems of one source are told.
const maxProblems = 10

// problems are what is wrong with one source.
type problems struct {
	file string
	list []string
	more int
}

func (p *problems) add(line, column int, format string, args ...any) {
	if len(p.list) == maxProblems {
		p.more++
		return
	}
	place := p.file
	switch {
	case line > 0 && column > 0:
		place = fmt.Sprintf("%s:%d:%d", p.file, line, column)
	case line > 0:
		place = fmt.Sprintf("%s:%d", p.file, line)
	}
	p.list = append(p.list, place+": "+fmt.Sprintf(format, args...))
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	text := strings.Join(p.list, "\n")
	if p.more > 0 {
		text += fmt.Sprintf("\nand %d more", p.more)
	}
	return errors.New(text)
}

// Read adds what a source says. The error tells all that is wrong with it, one problem per line, each with file and
// line; the builder is of no use any more then.
func (b *Builder) Read(src Source) error {
	p := &problems{file: src.Name}
	data := bytes.TrimPrefix(src.Data, []byte("\ufeff"))
	switch {
	case len(data) > MaxSize:
		p.add(0, 0, "larger than %d MiB", MaxSize>>20)
		return p.err()
	case !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0:
		p.add(0, 0, "not a text in UTF-8")
		return p.err()
	case bytes.HasPrefix(data, []byte("$ANSIBLE_VAULT;")):
		p.add(1, 0, "encrypted with ansible-vault, which is not supported: decrypt it, or use --inventory-cmd 'ansible-inventory -i FILE'")
		return p.err()
	}
	format := src.Format
	if format == "" || format == FormatAuto {
		format = Detect(src.Name, data)
	}
	switch format {
	case FormatYAML, FormatAnsibleYAML, formatSomeYAML:
		b.readYAML(p, format, data)
	case FormatAnsibleJSON:
		b.readJSON(p, data)
	case FormatAnsibleINI:
		b.readINI(p, data)
	case FormatList:
		b.readList(p, data)
	default:
		p.add(0, 0, "format %q is not one of %v", format, Formats())
	}
	return p.err()
}

// formatSomeYAML is FormatYAML or FormatAnsibleYAML: the keys on top tell.
const formatSomeYAML Format = "some yaml"

var (
	// Ansible's own pattern for a section.
	iniSection = regexp.MustCompile(`^\[([^:\]\s]+)(?::(\w+))?\]\s*(?:[#;].*)?$`)
	yamlTop    = regexp.MustCompile(`^("[^"]+"|[\w.-]+)\s*:\s*([#{].*)?$`)
	iniHost    = regexp.MustCompile(`^\S+\s+\w+\s*=|\[[^\]]*:[^\]:]*\][^:]*$`)
)

// Detect finds the format by the ending of the name, or by the first lines that say something. Without a name the content alone counts.
func Detect(name string, data []byte) Format {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml":
		return formatSomeYAML
	case ".json":
		return FormatAnsibleJSON
	case ".ini":
		return FormatAnsibleINI
	}
	first := true
	for line := range bytes.Lines(data) {
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		switch {
		case first && text[0] == '{':
			return FormatAnsibleJSON
		case first && (text == "---" || yamlTop.MatchString(text)):
			return formatSomeYAML
		case iniSection.MatchString(text), iniHost.MatchString(text) && !strings.Contains(text, "::"):
			return FormatAnsibleINI
		}
		first = false
	}
	return FormatList
}

// readList reads a host or a node set per line, as -H takes them.
func (b *Builder) readList(p *problems, data []byte) {
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text, _, _ := strings.Cut(string(line), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if _, err := b.add(text, Origin{File: p.file, Line: number}); err != nil {
			p.add(number, 0, "%v", err)
		}
	}
}

// Add adds the hosts of -H: a host in one of the forms of ParseHost, or a node set of them, with operators. What stands
// there goes before what sources said of a host of that name. It returns the names.
func (b *Builder) Add(text string) ([]string, error) { return b.add(text, Origin{File: "-H"}) }

func (b *Builder) add(text string, from Origin) ([]string, error) {
	hosts, err := b.parseHosts(text)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(hosts))
	for _, h := range hosts {
		key := from.File + "\x00" + h.Name
		if other, twice := b.given[key]; twice && other != h.Host {
			return nil, Unique([]Host{other, h.Host})
		}
		if b.given == nil {
			b.given = map[string]Host{}
		}
		b.given[key] = h.Host
		names = append(names, h.Name)
		m := b.machine(h.Name, from)
		value := func(text string) Value { return Value{Text: text, Origin: from} }
		if h.Addr != h.Name {
			m.said.field(Address, value(h.Addr))
		}
		if h.port {
			m.said.field(Port, value(fmt.Sprint(h.Port)))
		}
		if h.User != "" {
			m.said.field(User, value(h.User))
		}
		if h.Password != "" {
			m.said.field(Password, Value{Text: hidden, Origin: from, secret: &h.Password})
			b.warn("the password of %s is in a URL, where others can see it; use a key or --ask-pass", h.Name)
		}
	}
	return names, nil
}
