package graph

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	yamlparser "github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxSize bounds a definition in bytes. 10,000 resources are about 1 MB.
	maxSize = 16 << 20
	// maxDepth bounds nesting. The format needs 6; the YAML parser recurses, and a stack overflow can't be recovered.
	maxDepth = 32
)

// Load reads and parses the definition at path. A file that can't be read gives the error of the os package, one that
// is not a valid definition an *Error.
func Load(path string) (*Definition, error) {
	data, err := readAll(path)
	if err != nil {
		return nil, err
	}
	if IsTemplate(path) {
		return nil, &Error{Problems: []Problem{{File: path, Text: "a template, which is rendered for a host before it is applied: see mgmt-remote run"}}}
	}
	return Parse(path, data)
}

// readAll reads no more than Parse needs to see that there is too much.
func readAll(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading: nothing to lose
	// One byte more than allowed, so that Parse can tell; also ends when path is an endless device.
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

// Parse parses and checks a definition; file is its name for messages. The error, if any, is an *Error.
func Parse(file string, data []byte) (*Definition, error) {
	return newParser(file).definition(data)
}

// definition parses and checks data, and sorts the problems by place.
func (p *parser) definition(data []byte) (*Definition, error) {
	def := p.parse(data)
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b Problem) int {
			if a.At.Line != b.At.Line {
				return a.At.Line - b.At.Line
			}
			return a.At.Column - b.At.Column
		})
		e := &Error{Problems: p.problems}
		if len(e.Problems) > maxProblems {
			e.More = len(e.Problems) - maxProblems
			e.Problems = slices.Clip(e.Problems[:maxProblems])
		}
		return nil, e
	}
	return def, nil
}

// parser collects the problems of one file while it walks through the syntax tree, and what its later checks need.
type parser struct {
	file     string
	rendered string // the host that the text was rendered for; empty if it is no template's
	lines    []string
	problems []Problem
	anchors  map[string]ast.Node
	given    []given         // of each resource
	ends     [][2]Position   // of each edge: where its ends stand
	refused  map[ID]struct{} // reported already, so edges to them need no second report; without a name: the whole kind
	semas    map[string]semaAt
}

func newParser(file string) *parser {
	return &parser{file: file, anchors: map[string]ast.Node{}, refused: map[ID]struct{}{}, semas: map[string]semaAt{}}
}

func (p *parser) fail(at Position, format string, args ...any) {
	p.problems = append(p.problems, problemAt(p.file, p.lines, at, fmt.Sprintf(format, args...)))
	p.problems[len(p.problems)-1].Rendered = p.rendered
}

func (p *parser) parse(data []byte) *Definition {
	if len(data) > maxSize {
		p.fail(Position{}, "larger than %d MiB", maxSize>>20)
		return nil
	}
	source := slices.Clone(data)
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	p.lines = splitLines(data)
	if !utf8.Valid(data) {
		p.failUTF8()
		return nil
	}
	body := p.tree(data)
	if body == nil {
		return nil
	}
	def := &Definition{File: p.file, Source: source, rendered: p.rendered}
	p.mapping(body, "definition", p.definitionFields(def))
	p.check(def)
	return def
}

func (p *parser) failUTF8() {
	for i, line := range p.lines {
		column := 1
		for rest := line; rest != ""; column++ {
			r, size := utf8.DecodeRuneInString(rest)
			if r == utf8.RuneError && size == 1 {
				p.fail(Position{Line: i + 1, Column: column}, "not UTF-8")
				return
			}
			rest = rest[size:]
		}
	}
}

// tree returns the body of the one YAML document, or nil after it reported why there is none.
func (p *parser) tree(data []byte) (body ast.Node) {
	// The YAML library is fuzzed here only as far as time allows: a panic of it is a bad file, not our end.
	defer func() {
		if r := recover(); r != nil {
			p.fail(Position{}, "not readable as YAML: %v", r)
			body = nil
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if at, deep := tooDeep(tokens); deep {
		p.fail(at, "nested deeper than %d levels", maxDepth)
		return nil
	}
	f, err := yamlparser.Parse(tokens, 0)
	if err != nil {
		var syntax interface {
			GetToken() *token.Token
			GetMessage() string
		}
		if errors.As(err, &syntax) {
			p.fail(tokenAt(syntax.GetToken()), "%s", syntax.GetMessage())
		} else {
			p.fail(Position{}, "not readable as YAML: %v", err)
		}
		return nil
	}
	for _, doc := range f.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			p.fail(nodeAt(doc.Body), "a second document; one file holds one definition")
			return nil
		}
		body = doc.Body
	}
	if body == nil {
		p.fail(Position{}, "empty: nothing is defined here")
		return nil
	}
	ast.Walk(anchorVisitor{p}, body)
	return body
}

// anchorVisitor remembers what the anchors of a document name.
type anchorVisitor struct{ p *parser }

// Visit implements ast.Visitor.
func (v anchorVisitor) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok && a.Name != nil {
		name := a.Name.GetToken().Value
		if _, twice := v.p.anchors[name]; twice {
			v.p.fail(nodeAt(a), "anchor &%s is already used", name)
		}
		v.p.anchors[name] = a.Value
	}
	return v
}

// resolve follows anchors, aliases and tags to the value itself. Nil stands for null and for what can't be resolved;
// the latter is reported.
func (p *parser) resolve(n ast.Node) ast.Node {
	for range maxDepth {
		switch v := n.(type) {
		case nil, *ast.NullNode:
			return nil
		case *ast.AnchorNode:
			n = v.Value
		case *ast.TagNode:
			p.fail(nodeAt(v), "tags such as %s are not supported", v.Start.Value)
			return nil
		case *ast.AliasNode:
			target, ok := p.anchors[v.Value.GetToken().Value]
			if !ok {
				p.fail(nodeAt(v), "alias *%s: there is no such anchor", v.Value.GetToken().Value)
				return nil
			}
			n = target
		default:
			return n
		}
	}
	p.fail(nodeAt(n), "alias of itself")
	return nil
}

// tooDeep finds nesting that a recursive parser should not see: in brackets, by indentation, and in one line.
func tooDeep(tokens token.Tokens) (Position, bool) {
	flow, chain, line := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType:
			if t.Position.Line != line { // siblings below each other are no nesting
				chain = 0
			}
			chain++
		case token.MappingKeyType, token.TagType, token.AnchorType:
			chain++
		default:
			chain = 0
		}
		line = t.Position.Line
		if flow > maxDepth || chain > maxDepth || t.Position.IndentLevel > maxDepth {
			return tokenAt(t), true
		}
	}
	return Position{}, false
}

func tokenAt(t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{}
	}
	return Position{Line: t.Position.Line, Column: t.Position.Column}
}

// nodeAt is where a node begins, in the sense of what a person would point at: its first key for a mapping.
func nodeAt(n ast.Node) Position {
	switch v := n.(type) {
	case nil:
		return Position{}
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return nodeAt(v.Values[0].Key)
		}
		return tokenAt(v.Start)
	case *ast.MappingValueNode:
		return nodeAt(v.Key)
	default:
		return tokenAt(n.GetToken())
	}
}
