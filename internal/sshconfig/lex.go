package sshconfig

import (
	"errors"
	"strings"
)

// whitespace divides words, quotes and "=" aside. OpenSSH takes a form feed at the end of a line only.
const whitespace = " \t\r\n"

var errQuotes = errors.New("a quote is not closed")

// keywordOf takes the keyword off a line: up to white space, one "=" or a quote. rest begins with the first argument. An
// empty keyword is a line that says nothing.
func keywordOf(line string) (keyword, rest string) {
	line = strings.TrimLeft(strings.TrimRight(line, whitespace+"\f"), whitespace)
	keyword, rest, _ = nextWord(line)
	if strings.HasPrefix(keyword, "#") {
		return "", ""
	}
	return strings.ToLower(keyword), strings.TrimLeft(rest, whitespace)
}

// nextWord takes the first word off s, as OpenSSH does for keywords and for the criteria of Match: a word in double
// quotes ends with the quote, and one "=" divides words like white space.
func nextWord(s string) (word, rest string, err error) {
	i := strings.IndexAny(s, whitespace+`"=`)
	if i < 0 {
		return s, "", nil
	}
	if s[i] == '"' {
		inside, after, closed := strings.Cut(s[i+1:], `"`)
		if !closed {
			return "", "", errQuotes
		}
		return s[:i] + inside, strings.TrimLeft(after, whitespace), nil
	}
	word, rest = s[:i], strings.TrimLeft(s[i+1:], whitespace)
	if s[i] != '=' && strings.HasPrefix(rest, "=") {
		rest = strings.TrimLeft(rest[1:], whitespace)
	}
	return word, rest, nil
}

// splitWords divides the arguments of a keyword. Quotes of both kinds hold words together, a backslash stands before quotes,
// before itself and, outside of quotes, before a blank; "#" begins a comment where a word could begin, if there are comments.
func splitWords(s string, comments bool) ([]string, error) {
	var words []string
	for i := 0; i < len(s); i++ {
		if s[i] == ' ' || s[i] == '\t' {
			continue
		}
		if s[i] == '#' && comments {
			break
		}
		var word strings.Builder
		quote := byte(0)
	within:
		for ; i < len(s); i++ {
			c := s[i]
			switch {
			case c == '\\' && i+1 < len(s) && (strings.IndexByte(`'"\`, s[i+1]) >= 0 || quote == 0 && s[i+1] == ' '):
				i++
				word.WriteByte(s[i])
			case quote == 0 && (c == ' ' || c == '\t'):
				break within
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case quote != 0 && c == quote:
				quote = 0
			default:
				word.WriteByte(c)
			}
		}
		if quote != 0 {
			return nil, errQuotes
		}
		words = append(words, word.String())
	}
	return words, nil
}
