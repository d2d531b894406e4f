package graph

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// Limits of numbers in a definition; they keep durations far from overflow and equal mgmt's types where it has any.
const (
	maxRetry   = 1<<15 - 1
	maxDelay   = int64(366 * 24 * time.Hour / time.Millisecond)
	maxSeconds = int64(366 * 24 * time.Hour / time.Second)
	maxCount   = 1 << 20 // of burst and sema
	minLimit   = 1e-6
	maxLimit   = 1e6
)

// mgmtMeta are the keys of meta that mgmt has and this version has not.
var mgmtMeta = []string{"reset", "rewatch", "realize", "reverse", "autogroup", "hidden", "export"}

func (p *parser) meta(m *Meta, n ast.Node) {
	at := p.mapping(n, "meta", p.metaFields(m), mgmtMeta...)
	switch {
	case m.Limit > 0 && m.Burst == 0:
		m.Burst = 1
	case m.Limit == 0 && m.Burst > 0:
		p.fail(at["burst"], "burst: needs a limit")
	}
}

func (p *parser) metaFields(m *Meta) map[string]field {
	return map[string]field{
		"noop":     p.boolean(&m.Noop, "noop"),
		"retry":    p.integer("retry", -1, maxRetry, func(v int64) { m.Retry = int(v) }),
		"delay":    p.integer("delay (milliseconds)", 0, maxDelay, func(v int64) { m.Delay = time.Duration(v) * time.Millisecond }),
		"poll":     p.seconds("poll", 0, &m.Poll),
		"limit":    p.limit(&m.Limit),
		"burst":    p.integer("burst", 1, maxCount, func(v int64) { m.Burst = int(v) }),
		"sema":     func(n ast.Node) { p.list(n, "sema", func(n ast.Node) { p.sema(&m.Sema, n) }) },
		"autoedge": func(n ast.Node) { var auto bool; p.boolean(&auto, "autoedge")(n); m.NoAutoEdge = !auto },
	}
}

// limit takes a number above zero, or .inf for none.
func (p *parser) limit(dst *float64) field {
	return func(n ast.Node) {
		var value float64
		switch v := n.(type) {
		case *ast.IntegerNode, *ast.FloatNode:
			value, _ = strconv.ParseFloat(v.GetToken().Value, 64) // what is no decimal number stays 0 and is refused
		case *ast.InfinityNode:
			value = v.Value
		}
		switch {
		case math.IsInf(value, 1):
			*dst = 0
		case value < minLimit || value > maxLimit:
			p.fail(nodeAt(n), "limit: want looks per second, from %v to %v, or .inf for no limit, not %s", minLimit, maxLimit, describe(n))
		default:
			*dst = value
		}
	}
}

// sema takes "name" or "name:count".
func (p *parser) sema(dst *[]Sema, n ast.Node) {
	var text string
	before := len(p.problems)
	p.text(&text, "sema")(n)
	if len(p.problems) > before {
		return
	}
	name, digits, counted := strings.Cut(text, ":")
	s := Sema{Name: name, Count: 1}
	if counted {
		s.Count, _ = strconv.Atoi(digits) // what is no number is refused as 0 is
	}
	if name == "" || strings.ContainsFunc(name, unicode.IsControl) || s.Count < 1 || s.Count > maxCount {
		p.fail(nodeAt(n), `sema: want "name" or "name:count" with a count from 1 to %d, not %s`, maxCount, describe(n))
		return
	}
	for _, other := range *dst {
		if other.Name == name { // two places of one semaphore: with a count of 1 it would wait for itself
			p.fail(nodeAt(n), "sema: %s is given twice", name)
			return
		}
	}
	first, known := p.semas[name]
	if known && first.Count != s.Count {
		p.fail(nodeAt(n), "sema: %s has the count %d here and %d in line %d", name, s.Count, first.Count, first.line)
		return
	}
	if !known {
		p.semas[name] = semaAt{s, nodeAt(n).Line}
	}
	*dst = append(*dst, s)
}

// semaAt is a semaphore and the line that named it first.
type semaAt struct {
	Sema
	line int
}

func (p *parser) seconds(what string, low int64, dst *time.Duration) field {
	return p.integer(what+" (seconds)", low, maxSeconds, func(v int64) { *dst = time.Duration(v) * time.Second })
}
