package sshconfig

import (
	"crypto/sha1" // OpenSSH's %C is this hash; it protects nothing
	"encoding/hex"
	"fmt"
	"os/user"
	"path/filepath"
	"strings"
)

// expandTokens replaces the tokens of allowed, and "%%". value gives their text.
func expandTokens(s, allowed string, value func(token byte) string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch {
		case i == len(s):
			return "", fmt.Errorf("%q ends with a single %%: write %%%%", s)
		case s[i] == '%':
			b.WriteByte('%')
		case strings.IndexByte(allowed, s[i]) >= 0:
			b.WriteString(value(s[i]))
		default:
			return "", fmt.Errorf("%q: there is no token %%%c here", s, s[i])
		}
	}
	return b.String(), nil
}

// commandSafe are the characters that no shell takes for anything but themselves.
const commandSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@%+=:,/[]~"

// expandCommand is expandTokens for what a shell is going to read. Names that come from elsewhere, an inventory say, must not have in
// them what the shell would take for a command; what stands in the files is theirs who wrote the command, too.
func (l *lookup) expandCommand(s, allowed string) (string, error) {
	var unsafe error
	text, err := expandTokens(s, allowed, func(t byte) string {
		given := l.given(t)
		if strings.HasPrefix(given, "-") || strings.ContainsFunc(given, func(r rune) bool { return !strings.ContainsRune(commandSafe, r) }) {
			unsafe = fmt.Errorf("%q is no name that is put into a command, where a shell could take it for something else", given)
		}
		return l.token(t)
	})
	if err == nil {
		err = unsafe
	}
	return text, err
}

// given is what of a token's text may come from elsewhere than from the files.
func (l *lookup) given(t byte) string {
	switch t {
	case 'h', 'k', 'n':
		return l.query.Host
	case 'j':
		return l.query.Jump
	case 'r':
		return l.query.User
	}
	return ""
}

// expandEnv replaces ${NAME}.
func expandEnv(s string, getenv func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || name == "" {
			return "", fmt.Errorf("%q: a variable is written ${NAME}", s)
		}
		text, is := getenv(name)
		if !is {
			return "", fmt.Errorf("the environment has no variable %s", name)
		}
		b.WriteString(text)
		s = after
	}
}

// expandTilde replaces "~" and "~USER" at the beginning.
func expandTilde(s, home string) (string, error) {
	if !strings.HasPrefix(s, "~") {
		return s, nil
	}
	name, rest, _ := strings.Cut(s[1:], "/")
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			return "", fmt.Errorf("%q: %w", s, err)
		}
		home = u.HomeDir
	}
	if home == "" {
		return "", fmt.Errorf("%q: you have no home directory", s)
	}
	return filepath.Join(home, rest), nil
}

// token is the text of a token for the host that is looked up.
func (l *lookup) token(t byte) string {
	local := l.config.local
	switch t {
	case 'C':
		sum := sha1.Sum([]byte(local.Host + l.hostName() + l.port() + l.user() + l.jump())) //nolint:gosec // as above
		return hex.EncodeToString(sum[:])
	case 'L':
		short, _, _ := strings.Cut(local.Host, ".")
		return short
	case 'd':
		return local.Home
	case 'h':
		return l.hostName()
	case 'i':
		return local.UID
	case 'j':
		return l.jump()
	case 'k':
		if alias := l.first(HostKeyAlias); alias != "" {
			return alias
		}
		return l.query.Host
	case 'l':
		return local.Host
	case 'n':
		return l.query.Host
	case 'p':
		return l.port()
	case 'r':
		return l.user()
	}
	return local.User // 'u'
}
