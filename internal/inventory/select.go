package inventory

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
)

// Select returns the entries that an expression selects, in the order of the inventory. It is
//
//	web1  web[1-20]  web*      hosts, groups and labels of that name
//	~^web[0-9]+                hosts whose name matches a regular expression; it ends at white space or at a ) that closes nothing
//	dc=1  role=web*            hosts with a label of that value
//	a,b  a:b                   in either
//	a & b                      in both
//	a & !b  a,!b  a!b          in a, not in b
//	!b                         all but b
//	a^b                        in exactly one
//	(…)
//
// Operators have the same rank and are applied from left to right. A name that nothing bears is an error, also behind a "!":
// who is protected by a name should be there. Errors say at which character.
func (inv *Inventory) Select(expr string) ([]*Entry, error) {
	s := &selection{inv: inv, text: expr}
	chosen, err := s.expression(0)
	if err == nil && s.at < len(s.text) {
		err = s.fail(s.at, "no ( is open here")
	}
	if err != nil {
		return nil, err
	}
	var entries []*Entry
	for i, e := range inv.Entries {
		if chosen[i] {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// selection reads an expression once, from left to right, and knows which hosts are selected so far. Sets of hosts are
// marks, one for each entry.
type selection struct {
	inv  *Inventory
	text string
	at   int
	// What operands are looked up in; made when first needed.
	byHost  map[string]int
	byGroup map[string][]int
	byLabel map[string][]int // those without a value
}

func (s *selection) fail(at int, format string, args ...any) error {
	return fmt.Errorf("character %d: %s", at+1, fmt.Sprintf(format, args...))
}

func (s *selection) space() {
	for s.at < len(s.text) && strings.IndexByte(" \t\n", s.text[s.at]) >= 0 {
		s.at++
	}
}

// expression reads up to the end or to a closing parenthesis.
func (s *selection) expression(depth int) ([]bool, error) {
	if depth > maxDepth {
		return nil, s.fail(s.at, "parentheses are nested deeper than %d levels", maxDepth)
	}
	chosen := make([]bool, len(s.inv.Entries))
	for first := true; ; first = false {
		op, err := s.operator(first)
		if err != nil {
			return nil, err
		}
		if op == end {
			return chosen, nil
		}
		if first && op == nodeset.Difference { // all but
			for i := range chosen {
				chosen[i] = true
			}
		}
		operand, err := s.operand(depth)
		if err != nil {
			return nil, err
		}
		for i, in := range operand {
			switch op {
			case nodeset.Union:
				chosen[i] = chosen[i] || in
			case nodeset.Intersection:
				chosen[i] = chosen[i] && in
			case nodeset.Difference:
				chosen[i] = chosen[i] && !in
			case nodeset.Symmetric:
				chosen[i] = chosen[i] != in
			}
		}
	}
}

// end is no operator: the expression, or what is in parentheses, is over.
const end nodeset.Op = 0

// operator reads what stands between two operands. A "!" may follow another operator, as in Ansible's "a:!b"; ":&" is "&".
func (s *selection) operator(first bool) (nodeset.Op, error) {
	s.space()
	start, last := s.at, s.at
	var written strings.Builder
	for s.at < len(s.text) && strings.IndexByte(",:&!^", s.text[s.at]) >= 0 {
		written.WriteByte(s.text[s.at])
		last = s.at
		s.at++
		s.space()
	}
	ops := strings.ReplaceAll(written.String(), ":", ",")
	done := s.at == len(s.text) || s.text[s.at] == ')'
	switch {
	case ops == "" && done && !first:
		return end, nil
	case ops == "" && done:
		return end, s.fail(start, "a host, group or label is missing")
	case ops == "" && !first:
		return end, s.fail(start, "an operator is missing: use , or & or !")
	case ops != "" && first && ops != "!":
		return end, s.fail(start, "a host, group or label is missing before %q", s.text[start:start+1])
	case ops != "" && done:
		return end, s.fail(last, "a host, group or label is missing after %q", s.text[last:last+1])
	}
	switch ops {
	case "", ",":
		return nodeset.Union, nil
	case "&", ",&":
		return nodeset.Intersection, nil
	case "!", ",!", "&!":
		return nodeset.Difference, nil
	case "^":
		return nodeset.Symmetric, nil
	}
	return end, s.fail(start, "%q is no operator", written.String())
}

// operand reads one: something in parentheses, a regular expression or a word.
func (s *selection) operand(depth int) ([]bool, error) {
	start := s.at
	switch s.text[s.at] {
	case '(':
		s.at++
		chosen, err := s.expression(depth + 1)
		if err != nil {
			return nil, err
		}
		if s.at == len(s.text) {
			return nil, s.fail(start, "the parenthesis is not closed")
		}
		s.at++
		return chosen, nil
	case '~':
		s.at++
		re, err := s.regex()
		if err != nil {
			return nil, err
		}
		chosen := make([]bool, len(s.inv.Entries))
		found := false
		for i, e := range s.inv.Entries {
			chosen[i] = re.MatchString(e.Host.Name)
			found = found || chosen[i]
		}
		if !found {
			return nil, s.fail(start, "no host's name matches the regular expression %q", re)
		}
		return chosen, nil
	}
	word, err := s.word()
	if err != nil {
		return nil, err
	}
	patterns, err := nodeset.Expand(word)
	if err != nil {
		return nil, s.fail(start, "in %q: %v", word, err)
	}
	chosen := make([]bool, len(s.inv.Entries))
	var unknown []string
	for _, p := range patterns {
		if !s.pattern(p, chosen) {
			unknown = append(unknown, p)
		}
	}
	if unknown != nil {
		return nil, s.fail(start, "no host, group or label is %s; `mgmt-remote hosts` lists all that there are", shortList(unknown))
	}
	return chosen, nil
}

// pattern marks what one pattern selects, and reports whether that is anything.
func (s *selection) pattern(p string, chosen []bool) (found bool) {
	s.index()
	mark := func(set []int) {
		found = true
		for _, i := range set {
			chosen[i] = true
		}
	}
	if key, value, ok := strings.Cut(p, "="); ok {
		for i, e := range s.inv.Entries {
			if v, has := e.Labels[key]; has && glob(value, v.Text) {
				chosen[i], found = true, true
			}
		}
		return found
	}
	if !strings.ContainsAny(p, "*?") {
		if i, ok := s.byHost[p]; ok {
			chosen[i], found = true, true
		}
		for _, index := range []map[string][]int{s.byGroup, s.byLabel} {
			if set, ok := index[p]; ok {
				mark(set)
			}
		}
		return found
	}
	for i, e := range s.inv.Entries {
		if glob(p, e.Host.Name) {
			chosen[i], found = true, true
		}
	}
	for _, index := range []map[string][]int{s.byGroup, s.byLabel} {
		for name, set := range index {
			if glob(p, name) {
				mark(set)
			}
		}
	}
	return found
}

// index makes what patterns are looked up in.
func (s *selection) index() {
	if s.byHost != nil {
		return
	}
	s.byHost = make(map[string]int, len(s.inv.Entries))
	s.byGroup, s.byLabel = map[string][]int{}, map[string][]int{}
	for name := range s.inv.groups {
		s.byGroup[name] = nil
	}
	for i, e := range s.inv.Entries {
		s.byHost[e.Host.Name] = i
		for _, g := range e.Groups {
			s.byGroup[g] = append(s.byGroup[g], i)
		}
		for key, v := range e.Labels {
			if v.Text == "" {
				s.byLabel[key] = append(s.byLabel[key], i)
			}
		}
	}
}

// glob reports whether all of text matches: * is any text, ? any character.
func glob(pattern, text string) bool {
	star, back := -1, 0 // the last *, and what it did not take yet
	i, j := 0, 0
	for j < len(text) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, back = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == text[j]):
			i, j = i+1, j+1
		case star >= 0:
			back++
			i, j = star+1, back
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// word reads a pattern: up to white space, an operator or a parenthesis that are not in brackets.
func (s *selection) word() (string, error) {
	start := s.at
	for s.at < len(s.text) && strings.IndexByte(" \t\n,:&!^()", s.text[s.at]) < 0 {
		if s.text[s.at] == '[' {
			closing := strings.IndexByte(s.text[s.at:], ']')
			if closing < 0 {
				return "", s.fail(s.at, "the bracket is not closed")
			}
			s.at += closing
		}
		s.at++
	}
	return s.text[start:s.at], nil
}

// regex reads what follows "~".
func (s *selection) regex() (*regexp.Regexp, error) {
	start, open, class := s.at, 0, false
	for s.at < len(s.text) {
		c := s.text[s.at]
		switch {
		case strings.IndexByte(" \t\n", c) >= 0, c == ')' && open == 0 && !class:
			goto read
		case c == '\\' && s.at+1 < len(s.text):
			s.at++
		case c == '[':
			class = true
		case c == ']':
			class = false
		case c == '(' && !class:
			open++
		case c == ')' && !class:
			open--
		}
		s.at++
	}
read:
	if start == s.at {
		return nil, s.fail(start, "a regular expression is missing after ~")
	}
	re, err := regexp.Compile(s.text[start:s.at])
	if err != nil {
		return nil, s.fail(start, "%v", err)
	}
	return re, nil
}
