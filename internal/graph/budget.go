package graph

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode"
)

// maxCost bounds what one rendering may do, in bytes that are made on the way; see budget. It is enough for a quarter of a
// million turns of loops.
const maxCost = 64 << 20

// stepCost is what a turn of a loop or a call of a function costs beside the bytes that it makes.
const stepCost = 256

// stepName is the function that countSteps puts into loops.
const stepName = "_step"

var errCost = errors.New("renders for too long or to too much: a loop without end, or text that grows too fast?")

// budget is what is left of the time and memory for one rendering. Package template has no limits of its own: a loop
// over a large number, or text that doubles in each turn, would go on for ever.
type budget struct {
	left int
}

func (b *budget) spend(n int) error {
	if b.left -= n; b.left < 0 {
		b.left = 0
		return errCost
	}
	return nil
}

// output takes what is rendered, up to the size of a definition.
type output struct {
	bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if o.Len()+len(p) > maxSize {
		return 0, errCost
	}
	return o.Buffer.Write(p)
}

// countSteps makes each turn of the loops below n, and each call of the template that n is, cost something.
func countSteps(n *parse.ListNode) {
	insertStep(n)
	loops(n)
}

func insertStep(n *parse.ListNode) {
	step := template.Must(template.New("").Funcs(functions(nil)).Parse("{{" + stepName + "}}"))
	n.Nodes = append([]parse.Node{step.Root.Nodes[0]}, n.Nodes...)
}

// loops inserts steps into the loops below n.
func loops(n *parse.ListNode) {
	if n == nil {
		return
	}
	for _, child := range n.Nodes {
		switch c := child.(type) {
		case *parse.IfNode:
			loops(c.List)
			loops(c.ElseList)
		case *parse.WithNode:
			loops(c.List)
			loops(c.ElseList)
		case *parse.RangeNode:
			loops(c.List)
			loops(c.ElseList)
			insertStep(c.List)
		}
	}
}

// functions are what a template can call, in place of or besides those of package template. Each pays before it makes
// anything.
func functions(b *budget) template.FuncMap {
	printing := func(factor int, f func(...any) string) func(...any) (string, error) {
		return func(args ...any) (string, error) {
			if err := b.spend(stepCost + factor*size(args...)); err != nil {
				return "", err
			}
			return f(args...), nil
		}
	}
	changing := func(f func(string) string) func(string) (string, error) {
		return func(s string) (string, error) { return f(s), b.spend(stepCost + len(s)) }
	}
	return template.FuncMap{
		stepName:   func() (string, error) { return "", b.spend(stepCost) },
		"print":    printing(1, fmt.Sprint),
		"println":  printing(1, fmt.Sprintln),
		"html":     printing(6, template.HTMLEscaper),
		"js":       printing(6, template.JSEscaper),
		"urlquery": printing(3, template.URLQueryEscaper),
		"printf":   func(format string, args ...any) (string, error) { return printf(b, format, args...) },
		"yaml":     func(v any) (string, error) { return yaml(b, v) },
		"lower":    changing(strings.ToLower),
		"upper":    changing(strings.ToUpper),
		"match": func(pattern, s string) (bool, error) {
			if err := b.spend(stepCost + len(pattern)*len(s)); err != nil {
				return false, err
			}
			return path.Match(pattern, s)
		},
		"split": func(separator, s string) ([]string, error) {
			parts := strings.Count(s, separator) + 1
			if err := b.spend(stepCost + 16*parts); err != nil { // 16 bytes are what a string takes beside its text
				return nil, err
			}
			return strings.Split(s, separator), nil
		},
		"join": func(separator string, list []string) (string, error) {
			if err := b.spend(stepCost + size(list) + len(separator)*len(list)); err != nil {
				return "", err
			}
			return strings.Join(list, separator), nil
		},
	}
}

// size is about how many bytes the values have as text.
func size(values ...any) int {
	n := 0
	for _, v := range values {
		switch v := v.(type) {
		case string:
			n += len(v)
		case []string:
			for _, s := range v {
				n += len(s) + 1
			}
		case map[string]string:
			for key, s := range v {
				n += len(key) + len(s) + 2
			}
		case Data:
			for _, s := range v.texts() {
				n += len(s) + 1
			}
		default:
			n += 32
		}
	}
	return n
}

// wide finds directives whose width is not obviously small.
var wide = regexp.MustCompile(`%[^%a-zA-Z]*(?:[0-9]{4}|\*)`)

func printf(b *budget, format string, args ...any) (string, error) {
	if wide.MatchString(format) {
		return "", errors.New("want a width below 1000 in each directive")
	}
	// Each directive makes at most its width or the longest value, and %+q ten bytes of each.
	if err := b.spend(stepCost + len(format) + strings.Count(format, "%")*(1000+10*size(args...))); err != nil {
		return "", err
	}
	return fmt.Sprintf(format, args...), nil
}

// yaml writes a value such that YAML reads it as just that: text in quotes, whatever is in it. JSON is YAML, but what is
// not printable stays escaped, because YAML allows less of it in the open.
func yaml(b *budget, v any) (string, error) {
	if err := b.spend(stepCost + 10*size(v)); err != nil {
		return "", err
	}
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	var out strings.Builder
	for _, r := range strings.TrimSuffix(text.String(), "\n") {
		switch {
		case unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&out, `\U%08x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String(), nil
}
