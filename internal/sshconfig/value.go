package sshconfig

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// check takes the arguments of a keyword, and returns the value in the form in which it is kept: one text, or several of
// which each is a file.
func check(k Keyword, words []string, raw string) ([]string, error) {
	switch k {
	case ProxyCommand, ProxyJump, KnownHostsCommand: // the rest of the line as it is
		text := strings.TrimLeft(raw, whitespace+"=")
		if k == ProxyJump {
			return checkJump(text)
		}
		return []string{text}, nil
	case CanonicalDomains, CanonicalizePermittedCNAMEs:
		return checkCanonical(k, words)
	case UserKnownHostsFile, GlobalKnownHostsFile, RevokedHostKeys:
		for _, word := range words {
			switch {
			case word == "":
				return nil, errors.New("a name is empty")
			case strings.EqualFold(word, "none") && len(words) > 1:
				return nil, errors.New("none stands alone")
			}
		}
		if len(words) == 0 {
			return nil, errors.New("the value is missing")
		}
		return words, nil
	}
	switch {
	case len(words) == 0 || words[0] == "":
		return nil, errors.New("the value is missing")
	case len(words) > 1:
		return nil, fmt.Errorf("there is more than one value: %q", words[1])
	}
	text, err := checkWord(k, words[0])
	return []string{text}, err
}

func checkWord(k Keyword, word string) (string, error) {
	switch k {
	case HashKnownHosts, IdentitiesOnly, CanonicalizeFallbackLocal:
		switch strings.ToLower(word) {
		case "yes", "true":
			return "yes", nil
		case "no", "false":
			return "no", nil
		}
		return "", fmt.Errorf("%q: use yes or no", word)
	case StrictHostKeyChecking:
		switch strings.ToLower(word) {
		case "yes", "true":
			return "yes", nil
		case "no", "false", "off":
			return "no", nil
		case "ask", "accept-new":
			return strings.ToLower(word), nil
		}
		return "", fmt.Errorf("%q: use yes, ask, accept-new or no", word)
	case CanonicalizeHostname:
		switch strings.ToLower(word) {
		case "yes", "true":
			return "yes", nil
		case "no", "false":
			return "no", nil
		case always:
			return always, nil
		}
		return "", fmt.Errorf("%q: use yes, always or no", word)
	case AddressFamily:
		switch strings.ToLower(word) {
		case "any", "inet", "inet6":
			return strings.ToLower(word), nil
		}
		return "", fmt.Errorf("%q: use any, inet or inet6", word)
	case Port:
		port, err := strconv.Atoi(word)
		if err != nil || port < 1 || port > 65535 {
			return "", fmt.Errorf("%q is not a port from 1 to 65535", word)
		}
		return strconv.Itoa(port), nil
	case ServerAliveCountMax, CanonicalizeMaxDots:
		if _, err := strconv.ParseInt(word, 10, 32); err != nil {
			return "", fmt.Errorf("%q is not a number", word)
		}
	case ConnectTimeout, ServerAliveInterval:
		if word == "none" {
			return word, nil
		}
		d, err := parseTime(word)
		return strconv.Itoa(int(d / time.Second)), err
	case Ciphers, KexAlgorithms, MACs, HostKeyAlgorithms, PubkeyAcceptedAlgorithms:
		if strings.Trim(word, "+-^,") == "" {
			return "", fmt.Errorf("%q names no algorithm", word)
		}
	}
	return word, nil
}

// checkJump checks what no token has to be known for.
func checkJump(text string) ([]string, error) {
	text, _, _ = strings.Cut(text, "#") // only here a comment may follow what is no list of words
	text = strings.TrimRight(text, whitespace)
	if strings.EqualFold(text, "none") {
		return []string{inventory.NoJump}, nil
	}
	if text == "" {
		return nil, errors.New("the value is missing")
	}
	if !strings.Contains(text, "%") {
		if _, err := inventory.ParseJump(text); err != nil {
			return nil, err
		}
	}
	return []string{text}, nil
}

var timeUnits = map[byte]int64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 7 * 86400}

// parseTime reads sshd_config's TIME FORMATS: 90, 90s, 1h30m.
func parseTime(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a time such as 90, 90s or 1m30s", s)
	total := int64(0)
	for s != "" {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		n, err := strconv.ParseInt(s[:digits], 10, 32)
		if err != nil {
			return 0, bad
		}
		unit := int64(1)
		if s = s[digits:]; s != "" {
			var ok bool
			if unit, ok = timeUnits[s[0]|0x20]; !ok {
				return 0, bad
			}
			s = s[1:]
		}
		if total += n * unit; total > math.MaxInt32 {
			return 0, bad
		}
	}
	return time.Duration(total) * time.Second, nil
}
