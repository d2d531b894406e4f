package graph

import (
	"fmt"
	"strings"
	"unicode"
)

// maxProblems is how many problems of one file are shown; after that many the cause is usually one and the same.
const maxProblems = 10

// maxExcerpt is the widest piece of a line that is shown, in characters.
const maxExcerpt = 120

// Problem is one thing that is wrong with a definition.
type Problem struct {
	// Rendered names a host if File is a template: At and Line are of the text that it renders to for this host. It is empty
	// for definitions, and for problems of a template itself.
	Rendered string
	File     string
	At       Position // zero if the problem has no place
	Text     string   // what is wrong and, where that is not plain, what to do
	Line     string   // the offending line, without its end; empty if the problem has no place
}

// Error is everything that is wrong with one definition.
type Error struct {
	Problems []Problem // in the order of the file, at most ten
	More     int       // how many further ones are not in Problems
}

// Error gives one paragraph for each problem: file:line:column, the text, the line and a caret below it.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\nand %d more", e.More)
	}
	return b.String()
}

// String formats the problem as a person wants to see it, without a final line end.
func (p Problem) String() string {
	file := p.File
	if p.Rendered != "" {
		file += ", rendered for host " + p.Rendered
	}
	if p.At.Line == 0 {
		return file + ": " + p.Text
	}
	head := fmt.Sprintf("%s:%d:%d: %s", p.File, p.At.Line, p.At.Column, p.Text)
	if p.Rendered != "" {
		head = fmt.Sprintf("%s, line %d, column %d: %s", file, p.At.Line, p.At.Column, p.Text)
	}
	line, column := excerpt(p.Line, p.At.Column)
	number := fmt.Sprintf("%5d", p.At.Line)
	return fmt.Sprintf("%s\n%s | %s\n%s | %s^", head, number, line, strings.Repeat(" ", len(number)), strings.Repeat(" ", column-1))
}

// excerpt returns the piece of line around column and the column within it. What a terminal could act upon is
// replaced, since definitions come from anywhere.
func excerpt(line string, column int) (string, int) {
	runes := []rune(line)
	for i, r := range runes {
		switch {
		case r == '\t':
			runes[i] = ' '
		case !unicode.IsPrint(r):
			runes[i] = '?'
		}
	}
	column = min(max(column, 1), len(runes)+1)
	start := 0
	if column > maxExcerpt*2/3 {
		start = column - maxExcerpt*2/3
	}
	end := min(len(runes), start+maxExcerpt)
	return string(runes[start:end]), column - start
}

// ErrorAt makes an error about a place in the definition, in the same form as those of Parse. It is for callers who
// know more than this package, for example that Remote is not an address.
func (d *Definition) ErrorAt(at Position, format string, args ...any) error {
	p := problemAt(d.File, splitLines(d.Source), at, fmt.Sprintf(format, args...))
	p.Rendered = d.rendered
	return &Error{Problems: []Problem{p}}
}

func problemAt(file string, lines []string, at Position, text string) Problem {
	// Names and values from the file are in the text: nothing in them reaches a terminal as a command.
	text = strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
	p := Problem{File: file, At: at, Text: text}
	if at.Line >= 1 && at.Line <= len(lines) {
		p.Line = lines[at.Line-1]
	}
	return p
}

func splitLines(data []byte) []string {
	return strings.Split(strings.ReplaceAll(strings.TrimPrefix(string(data), "\ufeff"), "\r\n", "\n"), "\n")
}
