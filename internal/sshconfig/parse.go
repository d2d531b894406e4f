package sshconfig

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Origin is where a value stands.
type Origin struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

// String is FILE:LINE.
func (o Origin) String() string { return fmt.Sprintf("%s:%d", o.File, o.Line) }

const (
	maxDepth = 16       // of files that include files, as in OpenSSH
	maxFile  = 16 << 20 // bytes
)

// file is one file as it was parsed. Its first block has no condition.
type file struct {
	blocks []block
	// To find the blocks for a host without a look at all of them: by the names that Host lines say, and all others.
	byName map[string][]int
	others []int
}

// block is a Host or Match line and what belongs to it.
type block struct {
	hosts   []string // of a Host line
	match   []criterion
	content []directive
}

// directive is one line: a value, or files that are included.
type directive struct {
	keyword Keyword
	values  []string
	files   []*file
	at      Origin
}

// parser reads files. Its errors are collected, so that all are told at once.
type parser struct {
	home     string
	system   string // the directory of the system's file
	ignored  string // IgnoreUnknown
	final    bool   // some Match line has "final": what fits is looked for twice
	problems []error
	reading  int // files read

	canonical bool // some line is CanonicalizeHostname
}

func (p *parser) fail(at Origin, format string, args ...any) {
	p.problems = append(p.problems, fmt.Errorf("%s: %w", at, fmt.Errorf(format, args...)))
}

// origin says how a file comes to be read.
type origin struct {
	user  bool // the user's file, or one that it includes
	check bool // nobody else may be able to write to it
	depth int
}

// read parses a file. nil is one that is not there.
func (p *parser) read(name string, from origin) (*file, error) {
	if from.depth > maxDepth {
		return nil, fmt.Errorf("%s: files include each other more than %d deep", name, maxDepth)
	}
	if p.reading++; p.reading > 10_000 {
		return nil, fmt.Errorf("%s: more than 10,000 files are included", name)
	}
	data, err := readFile(name, from.check)
	if err != nil || data == nil {
		return nil, err
	}
	f := &file{blocks: []block{{}}, byName: map[string][]int{}}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		p.line(f, line, Origin{name, number}, from)
	}
	f.index()
	return f, nil
}

func readFile(name string, check bool) (data []byte, err error) {
	f, err := os.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && check {
		if owner.Uid != 0 && int(owner.Uid) != os.Getuid() {
			return nil, fmt.Errorf("%s: belongs to somebody else: who can write it can have commands run as you", name)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("%s: others can write to it, and have commands run as you: chmod go-w %s", name, name)
		}
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: larger than %d MiB", name, maxFile>>20)
	}
	return slices.Grow(data, 1), err
}

func (f *file) index() {
	for i, b := range f.blocks {
		if b.hosts == nil || slices.ContainsFunc(b.hosts, func(h string) bool { return !isLiteral(h) }) {
			f.others = append(f.others, i)
			continue
		}
		for _, h := range b.hosts {
			if list := f.byName[h]; len(list) == 0 || list[len(list)-1] != i {
				f.byName[h] = append(list, i)
			}
		}
	}
}

// candidates are the blocks that may be about host, in order.
func (f *file) candidates(host string) []int {
	named := f.byName[host]
	if len(named) == 0 {
		return f.others
	}
	all := slices.Concat(f.others, named)
	slices.Sort(all)
	return all
}

// line takes one line.
func (p *parser) line(f *file, text string, at Origin, from origin) {
	if strings.ContainsRune(text, 0) {
		p.fail(at, "there is a NUL in this line")
		return
	}
	name, rest := keywordOf(text)
	if name == "" {
		return
	}
	if rest == "" {
		p.fail(at, "%s: the value is missing", name)
		return
	}
	k, known := byName[name]
	if !known {
		if !matchList(name, strings.ToLower(p.ignored)) {
			p.fail(at, "unknown keyword %q; IgnoreUnknown above it lets it pass", name)
		}
		return
	}
	words, err := splitWords(rest, true)
	if err != nil {
		p.fail(at, "%s: %w", name, err)
		return
	}
	last := &f.blocks[len(f.blocks)-1]
	switch k {
	case unused:
	case ignoreUnknown:
		if p.ignored == "" && len(words) > 0 {
			p.ignored = words[0]
		}
	case hostBlock:
		if slices.Contains(words, "") || len(words) == 0 {
			p.fail(at, "host: a name is empty")
			return
		}
		f.blocks = append(f.blocks, block{hosts: words})
	case matchBlocks:
		criteria, err := parseMatch(rest, at)
		if err != nil {
			p.fail(at, "match: %w", err)
			return
		}
		p.final = p.final || slices.ContainsFunc(criteria, func(c criterion) bool { return c.what == "final" })
		f.blocks = append(f.blocks, block{match: criteria})
	case includeFiles:
		d := directive{keyword: includeFiles, at: at}
		for _, word := range words {
			d.files = append(d.files, p.include(word, at, from)...)
		}
		last.content = append(last.content, d)
	default:
		values, err := check(k, words, rest)
		if err != nil {
			p.fail(at, "%s: %w", k, err)
			return
		}
		p.canonical = p.canonical || k == CanonicalizeHostname
		last.content = append(last.content, directive{keyword: k, values: values, at: at})
	}
}

// include reads the files that a word of an Include line means.
func (p *parser) include(word string, at Origin, from origin) (files []*file) {
	path := word
	switch {
	case word == "":
		p.fail(at, "include: a name is empty")
		return nil
	case word[0] == '~' && !from.user:
		p.fail(at, "include: %q: files of the system don't include those of a user", word)
		return nil
	case word[0] == '~':
		var err error
		if path, err = expandTilde(word, p.home); err != nil {
			p.fail(at, "include: %w", err)
			return nil
		}
	case !filepath.IsAbs(word) && from.user:
		path = filepath.Join(p.home, ".ssh", word)
	case !filepath.IsAbs(word):
		path = filepath.Join(p.system, word)
	}
	names, err := filepath.Glob(path)
	if err != nil {
		p.fail(at, "include: %q: %w", word, err)
		return nil
	}
	for _, name := range names {
		f, err := p.read(name, origin{user: from.user, check: true, depth: from.depth + 1})
		switch {
		case err != nil:
			p.fail(at, "include: %w", err)
		case f != nil:
			files = append(files, f)
		}
	}
	return files
}
