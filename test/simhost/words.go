package simhost

import "strings"

// split splits a command line as a shell does, as far as simple words, quotes and backslashes go. It is false where a
// quote is open or a character is special: then the line is not one of ours.
func split(line string) (words []string, ok bool) {
	var word strings.Builder
	inWord := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case '\'', '"':
			end := strings.IndexByte(line[i+1:], c)
			if end < 0 || c == '"' && strings.ContainsAny(line[i+1:i+1+end], "$`\\") {
				return nil, false
			}
			word.WriteString(line[i+1 : i+1+end])
			i += end + 1
			inWord = true
		case '\\':
			if i++; i == len(line) {
				return nil, false
			}
			word.WriteByte(line[i])
			inWord = true
		case '$', '`', ';', '&', '|', '<', '>', '(', ')', '\n':
			return nil, false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, true
}

// variables reads the assignments in front of a script, up to the first line that is something else. A single brace
// in front of them is skipped.
func variables(script []byte) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(string(script)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "{" && len(out) == 0 {
			continue
		}
		name, quoted, found := strings.Cut(line, "=")
		if !found || name == "" || strings.ContainsAny(name, " \t'\"$#(") {
			break
		}
		words, ok := split(quoted)
		if !ok || len(words) > 1 {
			break
		}
		out[name] = strings.Join(words, "")
	}
	return out
}
