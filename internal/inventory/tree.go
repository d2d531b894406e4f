package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxDepth bounds nesting, also that of aliases of themselves.
	maxDepth = 64
	// maxNodes bounds how much is looked at in one source. Aliases of aliases can make a lot of little.
	maxNodes = 3_000_000
)

// tree walks through the syntax tree of a source and collects what is wrong. JSON becomes such a tree, too.
type tree struct {
	*problems
	nodes int // looked at
}

func (t *tree) fail(n *yaml.Node, format string, args ...any) {
	t.add(n.Line, n.Column, format, args...)
}

var yamlPlace = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// parseYAML returns the one document, nil after it reported why there is none.
func (t *tree) parseYAML(data []byte) (body *yaml.Node) {
	defer func() {
		if r := recover(); r != nil { // of the library; a bad file is not our end
			t.add(0, 0, "not readable as YAML: %v", r)
			body = nil
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := dec.Decode(&doc)
	if err == nil {
		if err = dec.Decode(&second); err == nil {
			t.add(second.Line, second.Column, "a second document; one file is one inventory")
			return nil
		}
	}
	if !errors.Is(err, io.EOF) {
		m := yamlPlace.FindStringSubmatch(err.Error())
		if m == nil {
			m = []string{"", "", err.Error()}
		}
		line, _ := strconv.Atoi(m[1]) // 0 where there is none
		t.add(line, 0, "%s", m[2])
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil // empty
	}
	return t.resolve(doc.Content[0])
}

// resolve follows aliases. It returns nil for null, and for what it reported.
func (t *tree) resolve(n *yaml.Node) *yaml.Node {
	if t.nodes++; t.nodes == maxNodes {
		t.fail(n, "too much for one inventory: aliases make more than %d values", maxNodes)
	}
	if t.nodes >= maxNodes {
		return nil
	}
	for range maxDepth {
		switch {
		case n.Kind == yaml.AliasNode:
			n = n.Alias
		case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
			return nil
		case n.Tag == "!vault":
			t.fail(n, "encrypted with ansible-vault, which is not supported")
			return nil
		default:
			return n
		}
	}
	t.fail(n, "alias of itself")
	return nil
}

// pair is a key with its value; the value is nil for null.
type pair struct {
	key   string
	at    *yaml.Node // the key
	value *yaml.Node
}

// mapping returns the keys and values of n, in order; what n belongs to is named by what. n may be nil. Merge keys (<<) are
// followed: what they bring in has less weight than what stands beside them.
func (t *tree) mapping(n *yaml.Node, what string) []pair {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		t.fail(n, "%s: want keys and values, not %s", what, describe(n))
		return nil
	}
	var pairs []pair
	seen := make(map[string]struct{}, len(n.Content)/2)
	t.pairs(n, what, 0, seen, &pairs)
	return pairs
}

func (t *tree) pairs(n *yaml.Node, what string, depth int, seen map[string]struct{}, pairs *[]pair) {
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Tag == "!!merge" {
			merged = append(merged, n.Content[i+1])
			continue
		}
		if k.Kind != yaml.ScalarNode || k.Tag == "!!null" {
			t.fail(k, "%s: a key is %s", what, describe(k))
			continue
		}
		if _, twice := seen[k.Value]; twice {
			if depth == 0 {
				t.fail(k, "%s: %q is given twice", what, k.Value)
			}
			continue
		}
		seen[k.Value] = struct{}{}
		*pairs = append(*pairs, pair{key: k.Value, at: k, value: t.resolve(n.Content[i+1])})
	}
	for _, m := range merged {
		m = t.resolve(m)
		list := []*yaml.Node{m}
		if m != nil && m.Kind == yaml.SequenceNode {
			list = m.Content
		}
		for _, one := range list {
			if one != nil {
				one = t.resolve(one)
			}
			switch {
			case one == nil || one.Kind != yaml.MappingNode:
				t.fail(n, "%s: << wants keys and values", what)
			case depth == maxDepth:
				t.fail(n, "%s: << of itself", what)
				return
			default:
				t.pairs(one, what, depth+1, seen, pairs)
			}
		}
	}
}

// scalar returns the text of a plain value as it is written.
func (t *tree) scalar(n *yaml.Node, what string) (string, bool) {
	switch {
	case n == nil:
		return "", true
	case n.Kind != yaml.ScalarNode:
		t.fail(n, "%s: want one value, not %s", what, describe(n))
		return "", false
	}
	return n.Value, true
}

// texts returns the elements of a list, or one text as the only one.
func (t *tree) texts(n *yaml.Node, what string) []*yaml.Node {
	if n == nil {
		return nil
	}
	list := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		list = n.Content
	}
	var texts []*yaml.Node
	for _, e := range list {
		if v := t.resolve(e); v == nil {
			t.fail(e, "%s: an empty element", what)
		} else if _, ok := t.scalar(v, what); ok {
			texts = append(texts, v)
		}
	}
	return texts
}

// variable returns a value as templates get it: plain ones as they are written, others as JSON.
func (t *tree) variable(n *yaml.Node, what string) (string, bool) {
	if n == nil || n.Kind == yaml.ScalarNode {
		return t.scalar(n, what)
	}
	value, ok := t.data(n, what, 0)
	if !ok {
		return "", false
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.fail(n, "%s: %v", what, err)
		return "", false
	}
	return string(text), true
}

// data makes of a tree what encoding/json takes.
func (t *tree) data(n *yaml.Node, what string, depth int) (any, bool) {
	if n = t.resolve(n); n == nil {
		return nil, true
	}
	if depth > maxDepth {
		t.fail(n, "%s: nested deeper than %d levels", what, maxDepth)
		return nil, false
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for _, p := range t.mapping(n, what) {
			if p.value == nil {
				m[p.key] = nil
				continue
			}
			v, ok := t.data(p.value, what, depth+1)
			if !ok {
				return nil, false
			}
			m[p.key] = v
		}
		return m, true
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, e := range n.Content {
			v, ok := t.data(e, what, depth+1)
			if !ok {
				return nil, false
			}
			list[i] = v
		}
		return list, true
	}
	switch n.Tag {
	case "!!bool":
		return strings.EqualFold(n.Value, "true"), true
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) { // 0x10 and .inf are not
			return json.Number(n.Value), true
		}
	}
	return n.Value, true
}

// describe says in words what sort of value a person wrote.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys and values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.Tag == "!!null":
		return "nothing"
	case len(n.Value) > 40 || strings.ContainsAny(n.Value, "\n\x1b"):
		return "a text"
	}
	return fmt.Sprintf("%q", n.Value)
}

// parseJSON makes the same tree of JSON, of which YAML's rules differ in escapes and white space.
func (t *tree) parseJSON(data []byte) *yaml.Node {
	j := jsonReader{dec: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	j.dec.UseNumber()
	n, err := j.value(0)
	if err == nil {
		if _, err = j.dec.Token(); errors.Is(err, io.EOF) {
			return t.resolve(n)
		}
		if err == nil {
			err = errors.New("something follows after the end")
		}
	}
	j.advance(j.dec.InputOffset())
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("ends too early")
	}
	t.add(j.line, 0, "not readable as JSON: %v", err)
	return nil
}

// jsonReader keeps count of lines.
type jsonReader struct {
	dec    *json.Decoder
	data   []byte
	offset int64
	line   int
}

func (j *jsonReader) advance(offset int64) {
	j.line += bytes.Count(j.data[j.offset:offset], []byte{'\n'})
	j.offset = offset
}

func (j *jsonReader) value(depth int) (*yaml.Node, error) {
	tok, err := j.dec.Token()
	if err != nil {
		return nil, err
	}
	j.advance(j.dec.InputOffset())
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: j.line}
	switch v := tok.(type) {
	case nil:
		n.Tag = "!!null"
	case bool:
		n.Tag, n.Value = "!!bool", strconv.FormatBool(v)
	case json.Number:
		n.Tag, n.Value = "!!float", v.String()
		if !strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!int"
		}
	case string:
		n.Tag, n.Value = "!!str", v
	case json.Delim:
		if depth > maxDepth {
			return nil, fmt.Errorf("nested deeper than %d levels", maxDepth)
		}
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		if v == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for j.dec.More() {
			e, err := j.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, e)
		}
		if _, err := j.dec.Token(); err != nil {
			return nil, err
		}
		j.advance(j.dec.InputOffset())
	}
	return n, nil
}
