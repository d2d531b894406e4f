package sshconfig

import "strings"

// matchPattern reports whether s is what a pattern of OpenSSH means: "*" is anything, "?" one character.
func matchPattern(s, pattern string) bool {
	star, back := -1, 0 // the last "*", and where in s it is tried to end
	i, p := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, back = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			i++
			p++
		case star >= 0:
			back++
			i, p = back, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchList reports whether s is in a list of patterns with commas between them: one matches, and none that begins with "!".
func matchList(s, list string) bool {
	found := false
	for pattern := range strings.SplitSeq(list, ",") {
		negated := strings.HasPrefix(pattern, "!")
		if matchPattern(s, strings.TrimPrefix(pattern, "!")) {
			if negated {
				return false
			}
			found = true
		}
	}
	return found
}

// matchHost is matchList for host names, which have no case.
func matchHost(host, list string) bool {
	return matchList(strings.ToLower(host), strings.ToLower(list))
}

// matchBlock reports whether the patterns of a Host line mean host. Case counts there, as it does for OpenSSH.
func matchBlock(host string, patterns []string) bool {
	found := false
	for _, pattern := range patterns {
		negated := strings.HasPrefix(pattern, "!")
		if matchPattern(host, strings.TrimPrefix(pattern, "!")) {
			if negated {
				return false
			}
			found = true
		}
	}
	return found
}

// isLiteral reports whether a pattern means one name alone.
func isLiteral(pattern string) bool {
	return !strings.ContainsAny(pattern, "*?") && !strings.HasPrefix(pattern, "!")
}
