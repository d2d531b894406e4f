package sshconfig

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// keyTokens are those of KnownHostsCommand about a key that a host has shown.
const keyTokens = "HIKft"

// knownHostsCommand is a program and its arguments. What is known by now is put into them; what is known only when a host has shown its key
// is left for ExpandKeyTokens. OpenSSH puts nothing into the name of the program, and passes over one that it can't run.
func (s *settings) knownHostsCommand() (argv []string) {
	v := s.result.values[KnownHostsCommand]
	if len(v) == 0 || strings.EqualFold(v[0].Text[0], None) {
		return nil
	}
	words, err := splitWords(v[0].Text[0], false)
	switch {
	case err != nil:
	case len(words) == 0 || !filepath.IsAbs(words[0]):
		err = errors.New("the command begins with the absolute path of a program")
	default:
		argv = words
		for i := range words[1:] {
			if argv[i+1], err = s.keyCommandArgument(words[i+1]); err != nil {
				break
			}
		}
	}
	if err != nil {
		if s.err == nil {
			s.err = fmt.Errorf("%s: %s: %w", v[0].Origin, KnownHostsCommand, err)
		}
		return nil
	}
	return argv
}

func (s *settings) keyCommandArgument(text string) (string, error) {
	// A "%" in what is put in is doubled, to be one again after ExpandKeyTokens.
	double := func(s string) string { return strings.ReplaceAll(s, "%", "%%") }
	text, err := expandEnv(text, func(name string) (string, bool) {
		value, is := s.config.local.Getenv(name)
		return double(value), is
	})
	if err != nil {
		return "", err
	}
	var unsafe error
	text, err = expandTokens(strings.ReplaceAll(text, "%%", "%%%%"), fileTokens+keyTokens, func(t byte) string {
		if strings.IndexByte(keyTokens, t) >= 0 {
			return "%" + string(t)
		}
		if given := s.given(t); strings.HasPrefix(given, "-") {
			unsafe = fmt.Errorf("%q is no name that is given to a program, which could take it for an option", given)
		}
		return double(s.token(t))
	})
	if err == nil {
		err = unsafe
	}
	return text, err
}

// ExpandKeyTokens puts what is known of a host's key into the arguments of a KnownHostsCommand: %H, %I, %K, %f and %t.
func ExpandKeyTokens(argv []string, value func(token byte) string) ([]string, error) {
	expanded := make([]string, len(argv))
	for i, text := range argv {
		if i > 0 {
			var err error
			if text, err = expandTokens(text, keyTokens, value); err != nil {
				return nil, err
			}
		}
		expanded[i] = text
	}
	return expanded, nil
}
