// Package nodeset reads and writes many names as one short text, in the notation of ClusterShell's nodeset:
// "web[1-20,30]-[1-2].dc1" are 42 names. What ClusterShell reads means the same here; two things are added, because
// machines are called so: brackets may hold words, as in "[a,b]", and letters, as in "[a-f]".
//
//	web[1-3]          web1 web2 web3
//	web[01-10/3]      web01 web04 web07 web10: leading zeros stay, and /3 takes each third
//	r[1-2]n[1-2]      r1n1 r1n2 r2n1 r2n2
//	a,b               union
//	web[1-9]!web3     difference: without web3
//	web[1-9]&web[3-4] intersection
//	web[1-3]^web[2-4] what is in one of both only: web1 web4
//
// Operators have the same rank and are applied from left to right. Nothing here knows which names there are, reads a
// file or keeps state; everything is a pure function, safe to call from anywhere.
package nodeset

import (
	"errors"
	"fmt"
	"strings"
)

// MaxNames is how many names an expression may stand for, counted before any is made. A fleet is smaller; a typing
// mistake such as [1-100000000] is not.
const MaxNames = 1_000_000

// Parse returns the names that an expression stands for, each once, in the order in which they are first named. Its errors say at
// which character, counted from 1, and quote no more of the expression than a number or a character: there may be a
// secret in it.
func Parse(expr string) ([]string, error) {
	operands, err := Split(expr)
	if err != nil {
		return nil, err
	}
	var s Set
	budget := MaxNames
	for _, o := range operands {
		names, err := expand(o.Text, o.At, budget)
		if err != nil {
			return nil, err
		}
		budget -= len(names)
		s.Apply(o.Op, names)
	}
	return s.Names(), nil
}

// Expand returns the names that one operand, without operators, stands for, in the order of its brackets: the last one
// changes fastest. A name is returned twice where brackets name it twice.
func Expand(operand string) ([]string, error) { return expand(operand, 0, MaxNames) }

// Count returns how many names Expand makes of an operand, without making them. The error is Expand's.
func Count(operand string) (int, error) {
	dims, err := parseOperand(operand, 0)
	if err != nil {
		return 0, err
	}
	return count(dims, 0, MaxNames)
}

// Op is what happens to the names so far with those of an operand.
type Op byte

// The operators. An expression begins with a union.
const (
	Union        Op = ','
	Difference   Op = '!'
	Intersection Op = '&'
	Symmetric    Op = '^'
)

const operators = ",!&^"

// Operand is a piece of an expression between operators.
type Operand struct {
	Op   Op     // the operator before it
	Text string // without white space around it; never empty
	At   int    // the bytes before it in the expression
}

// Split cuts an expression at its operators. What stands in brackets is left alone, whatever it is.
func Split(expr string) ([]Operand, error) {
	var operands []Operand
	op, start := Union, 0
	add := func(end int) error {
		text := strings.TrimLeft(expr[start:end], " \t")
		at := end - len(text)
		text = strings.TrimRight(text, " \t")
		switch {
		case text != "":
			operands = append(operands, Operand{Op: op, Text: text, At: at})
			return nil
		case start == 0 && end == len(expr):
			return errors.New("no name was given")
		case start == 0:
			return errorAt(end, "a name is missing before %q", expr[end])
		default:
			return errorAt(start-1, "a name is missing after %q", byte(op))
		}
	}
	for i := 0; i < len(expr); i++ {
		switch c := expr[i]; {
		case c == '[':
			end := strings.IndexByte(expr[i:], ']')
			if end < 0 {
				return nil, errorAt(i, "the bracket is not closed")
			}
			i += end
		case strings.IndexByte(operators, c) >= 0:
			if err := add(i); err != nil {
				return nil, err
			}
			op, start = Op(c), i+1
		}
	}
	return operands, add(len(expr))
}

// Set is a set of names that keeps the order in which they came. The zero value is empty and ready for use.
type Set struct {
	names []string
	at    map[string]int // index in names; one that was taken out is not in it
}

// Apply changes the set by an operator and the names to its right.
func (s *Set) Apply(op Op, names []string) {
	if s.at == nil {
		s.at = make(map[string]int, len(names))
	}
	switch op {
	case Difference:
		for _, n := range names {
			delete(s.at, n)
		}
	case Intersection:
		keep := make(map[string]int, min(len(names), len(s.at)))
		for _, n := range names {
			if i, ok := s.at[n]; ok {
				keep[n] = i
			}
		}
		s.at = keep
	case Symmetric:
		seen := make(map[string]struct{}, len(names))
		for _, n := range names {
			if _, twice := seen[n]; twice {
				continue
			}
			seen[n] = struct{}{}
			if _, ok := s.at[n]; ok {
				delete(s.at, n)
			} else {
				s.add(n)
			}
		}
	default:
		for _, n := range names {
			s.add(n)
		}
	}
}

func (s *Set) add(name string) {
	if _, ok := s.at[name]; !ok {
		s.at[name] = len(s.names)
		s.names = append(s.names, name)
	}
}

// Names returns what is in the set, each name once. The slice is the caller's.
func (s *Set) Names() []string {
	names := make([]string, 0, len(s.at))
	for i, n := range s.names {
		if at, ok := s.at[n]; ok && at == i {
			names = append(names, n)
		}
	}
	return names
}

// errorAt makes an error about what stands after so many bytes. An expression is ASCII where an error can be about it,
// but for what is not a name anyway.
func errorAt(at int, format string, args ...any) error {
	return fmt.Errorf("character %d: %s", at+1, fmt.Sprintf(format, args...))
}
