package graph

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// field takes the value of one key. The value is never nil: a key without a value counts as not given.
type field func(value ast.Node)

// mapping calls the field of each key in n, and says where the values stand. What n belongs to is named by what ("file
// resource"); known are keys that mgmt has and this version has not.
func (p *parser) mapping(n ast.Node, what string, fields map[string]field, known ...string) given {
	n = p.resolve(n)
	if n == nil {
		return nil
	}
	var values []*ast.MappingValueNode
	switch v := n.(type) {
	case *ast.MappingNode:
		values = v.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{v}
	default:
		p.fail(nodeAt(n), "%s: want keys and values, not %s", what, describe(n))
		return nil
	}
	at := make(given, len(values))
	seen := make(map[string]struct{}, len(values))
	for _, v := range values {
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			p.fail(nodeAt(v.Key), "%s: %q is not a plain key", what, v.Key.GetToken().Value)
			continue
		}
		name := key.Value
		if _, twice := seen[name]; twice {
			p.fail(nodeAt(key), "%s: key %q is given twice", what, name)
			continue
		}
		seen[name] = struct{}{}
		f, ok := fields[name]
		switch {
		case ok:
			if value := p.resolve(v.Value); value != nil {
				at[name] = nodeAt(value)
				f(value)
			}
		case slices.Contains(known, name):
			p.fail(nodeAt(key), "%s: mgmt knows the key %q, but it is not supported by this version", what, name)
		default:
			p.fail(nodeAt(key), "%s: unknown key %q%s", what, name, suggest(name, slices.Sorted(maps.Keys(fields))))
		}
	}
	return at
}

// list calls each for every element of n.
func (p *parser) list(n ast.Node, what string, each func(ast.Node)) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		p.fail(nodeAt(n), "%s: want a list, not %s", what, describe(n))
		return
	}
	for i, v := range seq.Values {
		if value := p.resolve(v); value != nil {
			each(value)
		} else if _, null := v.(*ast.NullNode); null {
			at := nodeAt(v)
			if i < len(seq.Entries) && seq.Entries[i] != nil {
				at = tokenAt(seq.Entries[i].Start)
			}
			p.fail(at, "%s: empty element", what)
		}
	}
}

func (p *parser) text(dst *string, what string) field {
	return func(n ast.Node) {
		s, ok := textOf(n)
		switch {
		case !ok:
			p.fail(nodeAt(n), "%s: want text, not %s%s", what, describe(n), quoteHint(n))
		case strings.ContainsRune(s, 0):
			p.fail(nodeAt(n), "%s: holds a NUL byte", what)
		default:
			*dst = s
		}
	}
}

// content is text in which every byte is allowed.
func (p *parser) content(dst **string, what string) field {
	return func(n ast.Node) {
		s, ok := textOf(n)
		if !ok {
			p.fail(nodeAt(n), "%s: want text, not %s%s", what, describe(n), quoteHint(n))
			return
		}
		*dst = &s
	}
}

// word is text or a number as it is written, for names that may be numbers.
func (p *parser) word(dst *string, what string) field {
	return func(n ast.Node) {
		if i, ok := n.(*ast.IntegerNode); ok {
			*dst = i.Token.Value
			return
		}
		p.text(dst, what)(n)
	}
}

func (p *parser) boolean(dst *bool, what string) field {
	return func(n ast.Node) {
		b, ok := n.(*ast.BoolNode)
		if !ok {
			p.fail(nodeAt(n), "%s: want true or false, not %s", what, describe(n))
			return
		}
		*dst = b.Value
	}
}

// choice takes one of words and sets dst to the value at its place.
func choice[T any](p *parser, dst *T, what string, words []string, values []T) field {
	return func(n ast.Node) {
		s, _ := textOf(n)
		i := slices.Index(words, s)
		if i < 0 {
			p.fail(nodeAt(n), "%s: want %s, not %s", what, strings.Join(words, " or "), describe(n))
			return
		}
		*dst = values[i]
	}
}

// integer takes a whole number from low to high.
func (p *parser) integer(what string, low, high int64, set func(int64)) field {
	return func(n ast.Node) {
		i, ok := n.(*ast.IntegerNode)
		if !ok {
			p.fail(nodeAt(n), "%s: want a whole number, not %s", what, describe(n))
			return
		}
		var value int64
		switch v := i.Value.(type) {
		case int64:
			value = v
		case uint64:
			value = int64(min(v, 1<<63-1))
		}
		if value < low || value > high {
			p.fail(nodeAt(n), "%s: %s is not between %d and %d", what, i.Token.Value, low, high)
			return
		}
		set(value)
	}
}

// texts leaves dst empty but not nil for an empty list. Where each element stands goes to at, unless that is nil.
func (p *parser) texts(dst *[]string, what string, at *[]Position) field {
	return func(n ast.Node) {
		*dst = []string{}
		p.list(n, what, func(n ast.Node) {
			var s string
			p.text(&s, what)(n)
			*dst = append(*dst, s)
			if at != nil {
				*at = append(*at, nodeAt(n))
			}
		})
	}
}

// environment takes a mapping of variable names to scalars; numbers and booleans count as they are written.
func (p *parser) environment(dst *map[string]string, what string) field {
	return func(n ast.Node) {
		m, ok := n.(ast.MapNode)
		if !ok {
			p.fail(nodeAt(n), "%s: want names and values, not %s", what, describe(n))
			return
		}
		env := make(map[string]string)
		for iter := m.MapRange(); iter.Next(); {
			key := iter.Key().GetToken().Value
			if _, plain := iter.Key().(*ast.StringNode); !plain || key == "" || strings.ContainsAny(key, "=\x00") {
				p.fail(nodeAt(iter.Key()), "%s: %q can't be the name of a variable", what, key)
				continue
			}
			var value string
			switch v := p.resolve(iter.Value()).(type) {
			case nil:
			case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
				value = v.GetToken().Value
			default:
				p.text(&value, what+": "+key)(v)
			}
			env[key] = value
		}
		*dst = env
	}
}

func textOf(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	default:
		return "", false
	}
}

// describe says in words what sort of value a person wrote.
func describe(n ast.Node) string {
	switch v := n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		s, _ := textOf(n)
		if len(s) > 20 || strings.ContainsAny(s, "\n") {
			return "text"
		}
		return fmt.Sprintf("the text %q", s)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.BoolNode:
		return strconv.FormatBool(v.Value)
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	default:
		return "this"
	}
}

func quoteHint(n ast.Node) string {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return "; quote it"
	default:
		return ""
	}
}

// suggest names the key that was probably meant, or all that exist where none is near and they are few.
func suggest(name string, keys []string) string {
	best, distance := "", 3
	for _, k := range keys {
		if d := editDistance(strings.ToLower(name), k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; there are " + strings.Join(keys, ", ")
}

// editDistance is Levenshtein's, on bytes; a and b are short.
func editDistance(a, b string) int {
	if len(a) > 30 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
