package nodeset

import (
	"math"
	"strconv"
	"strings"
)

// maxDigits bounds the numbers in brackets, so that they fit into 64 bits.
const maxDigits = 18

// expand is Expand for an operand that stands after so many bytes of an expression, and for at most so many names.
func expand(text string, at, most int) ([]string, error) {
	dims, err := parseOperand(text, at)
	if err != nil {
		return nil, err
	}
	n, err := count(dims, at, most)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, n)
	buf := make([]byte, 0, len(text)+maxDigits*len(dims))
	var walk func(i int, buf []byte)
	walk = func(i int, buf []byte) {
		if i == len(dims) {
			names = append(names, string(buf))
			return
		}
		for _, it := range dims[i].items {
			it.each(func(value []byte) { walk(i+1, append(buf, value...)) })
		}
	}
	walk(0, buf)
	return names, nil
}

// count returns how many names there are, and an error where they are more than most.
func count(dims []dimension, at, most int) (int, error) {
	total := 1
	for _, d := range dims {
		n := d.count()
		if n > most || total > most/n {
			return 0, errorAt(at, "these are more than %d names", MaxNames)
		}
		total *= n
	}
	return total, nil
}

// dimension is one bracket of an operand, or a piece of literal text, which is a bracket with one word.
type dimension struct{ items []item }

func (d dimension) count() int {
	n := 0
	for _, it := range d.items {
		n += it.count()
		if n > MaxNames { // further ones can't make it fewer, and must not make it overflow
			return MaxNames + 1
		}
	}
	return n
}

// item is an element of a bracket: a word, or a range of numbers or letters.
type item struct {
	prefix     string // the word; a range has none
	ranged     bool
	letter     bool // first and last are ASCII letters
	width      int  // numbers are filled up with zeros to so many digits
	first      uint64
	last, step uint64
}

func (it item) count() int {
	if !it.ranged {
		return 1
	}
	return int(min((it.last-it.first)/it.step, MaxNames)) + 1
}

// each calls f for every value; the bytes are f's until it returns.
func (it item) each(f func([]byte)) {
	if !it.ranged {
		f([]byte(it.prefix))
		return
	}
	var digits [2 * maxDigits]byte
	for v := it.first; v <= it.last; v += it.step {
		b := digits[:0]
		if it.letter {
			f(append(b, byte(v)))
			continue
		}
		for limit, w := uint64(10), 1; w < it.width; w, limit = w+1, limit*10 {
			if v < limit {
				b = append(b, '0')
			}
		}
		f(strconv.AppendUint(b, v, 10))
	}
}

func parseOperand(text string, at int) ([]dimension, error) {
	var dims []dimension
	literal := func(from, to int) {
		if from < to {
			dims = append(dims, dimension{items: []item{{prefix: text[from:to]}}})
		}
	}
	start := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t':
			return nil, errorAt(at+i, "white space within a name; names are separated by ','")
		case ']':
			return nil, errorAt(at+i, "no bracket is open here")
		case '[':
			literal(start, i)
			end := strings.IndexByte(text[i:], ']')
			if end < 0 {
				return nil, errorAt(at+i, "the bracket is not closed")
			}
			d, err := parseBracket(text[i+1:i+end], at+i+1)
			if err != nil {
				return nil, err
			}
			dims = append(dims, d)
			i += end
			start = i + 1
		}
	}
	literal(start, len(text))
	return dims, nil
}

func parseBracket(text string, at int) (dimension, error) {
	var d dimension
	for piece := range strings.SplitSeq(text, ",") {
		it, err := parseItem(strings.Trim(piece, " \t"), at)
		if err != nil {
			return d, err
		}
		d.items = append(d.items, it)
		at += len(piece) + 1
	}
	return d, nil
}

func parseItem(text string, at int) (item, error) {
	for i := range len(text) {
		if c := text[i]; !isDigit(c) && !isLetter(c) && strings.IndexByte("-/_. \t", c) < 0 {
			return item{}, errorAt(at, "brackets hold numbers, words and ranges such as [1-20], not %q", text[i:i+1])
		}
	}
	body, stepText, stepped := strings.Cut(text, "/")
	from, to, ranged := strings.Cut(body, "-")
	from, to = strings.TrimSpace(from), strings.TrimSpace(to)
	switch {
	case text == "":
		return item{}, errorAt(at, "an element of the bracket is missing")
	case strings.ContainsAny(from+to, " \t"):
		return item{}, errorAt(at, "white space within an element of the bracket")
	case !ranged && !stepped:
		return item{prefix: from}, nil
	case !ranged:
		return item{}, errorAt(at, "only a range has a step, as in [0-10/2]")
	}
	it := item{ranged: true, step: 1}
	if stepped {
		n, err := strconv.ParseUint(strings.TrimSpace(stepText), 10, 32)
		if err != nil || n == 0 {
			return item{}, errorAt(at, "the step is not a number from 1 on")
		}
		it.step = n
	}
	switch {
	case len(from) == 1 && len(to) == 1 && isLetter(from[0]) && isLetter(to[0]):
		it.letter, it.first, it.last = true, uint64(from[0]), uint64(to[0])
		if from[0]&0x20 != to[0]&0x20 {
			return item{}, errorAt(at, "a range of letters is all small or all large")
		}
	case allDigits(from) && allDigits(to):
		if len(from) > maxDigits || len(to) > maxDigits {
			return item{}, errorAt(at, "a number has more than %d digits", maxDigits)
		}
		if padded(from) || padded(to) {
			if len(from) != len(to) {
				return item{}, errorAt(at, "with leading zeros both ends of a range have as many digits, as in [08-12]")
			}
			it.width = len(from)
		}
		it.first, it.last = number(from), number(to)
	default:
		return item{}, errorAt(at, "a range is two numbers, as in [1-20], or two letters, as in [a-f]")
	}
	if it.first > it.last {
		return item{}, errorAt(at, "the range runs backwards")
	}
	return it, nil
}

// number is the value of at most maxDigits digits.
func number(digits string) uint64 {
	var n uint64
	for i := range len(digits) {
		n = n*10 + uint64(digits[i]-'0')
	}
	return min(n, math.MaxInt64)
}

func padded(digits string) bool { return len(digits) > 1 && digits[0] == '0' }

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func allDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}
