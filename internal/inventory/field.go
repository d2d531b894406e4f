package inventory

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/internal/nodeset"
)

// checkField brings the value of a field into the form in which it is kept.
func checkField(f Field, text string) (string, error) {
	if strings.Contains(text, "{{") {
		return "", errors.New("is a Jinja template, and those are not evaluated: write the value")
	}
	switch f {
	case Address:
		if inside, ok := strings.CutPrefix(text, "["); ok {
			text = strings.TrimSuffix(inside, "]")
		}
		return normalAddr(text)
	case Port:
		port, err := parsePort(text, text == "")
		if err != nil {
			return "", err
		}
		return strconv.Itoa(port), nil
	case User:
		var h Host
		return text, h.setUser(text)
	case Jump:
		if _, err := ParseJump(text); err != nil {
			return "", err
		}
	case Become:
		switch strings.ToLower(text) {
		case "true", "yes", "on", "y", "t", "1": // as Ansible reads them
			return "true", nil
		case "false", "no", "off", "n", "f", "0":
			return "false", nil
		}
		return "", fmt.Errorf("%q is neither true nor false", text)
	case BecomeUser:
		return text, ValidBecomeUser(text)
	case BecomeMethod:
		return text, ValidBecomeMethod(text)
	case Prefix:
		if !path.IsAbs(text) {
			return "", errors.New("is not an absolute path")
		}
	case priority:
		if _, err := strconv.Atoi(text); err != nil {
			return "", errors.New("is not a whole number")
		}
	}
	if text == "" {
		return "", errors.New("is empty")
	}
	return text, nil
}

// hostOf makes a host of checked fields.
func hostOf(name string, fields map[Field]Value) (Host, error) {
	h := Host{Name: name, Addr: name, Port: DefaultPort, User: fields[User].Text, Prefix: fields[Prefix].Text}
	h.Password = fields[Password].Secret()
	if v, ok := fields[Address]; ok {
		h.Addr = v.Text
	}
	if v, ok := fields[Port]; ok {
		h.Port = atoi(v.Text)
	}
	var err error
	if h.Addr, err = normalAddr(h.Addr); err != nil {
		return h, fmt.Errorf("host %s: %w", name, err)
	}
	return h, nil
}

// atoi is for what was checked already.
func atoi(text string) int {
	n, _ := strconv.Atoi(text) // checkField has let numbers through only
	return n
}

// validLabel says why key can't name a label: it stands in selections.
func validLabel(key string) error {
	if key == "" || !isWord(key, "._-/") {
		return fmt.Errorf("label %q: use letters, digits and . _ - /", key)
	}
	return nil
}

// validGroup says why name can't name a group.
func validGroup(name string) error {
	if name == "" || !isWord(name, "._-+@/") {
		return fmt.Errorf("group %q: use letters, digits and . _ - + @ /", name)
	}
	return nil
}

var varName = regexp.MustCompile(`^[\pL_][\pL\p{Nd}_]*$`)

// validVar says why key can't name a variable: templates write .Vars.KEY.
func validVar(key string) error {
	if !varName.MatchString(key) {
		return fmt.Errorf("variable %q: use letters, digits and _", key)
	}
	return nil
}

// hostNames expands a node set to host names.
func hostNames(text string) ([]string, error) {
	names, err := nodeset.Parse(text)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := ValidName(name); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// shortList folds names, and leaves out what is too long for one line.
func shortList(names []string) string {
	const most = 8
	pieces := nodeset.FoldList(names)
	if len(pieces) > most {
		return fmt.Sprintf("%s and more, %d together", strings.Join(pieces[:most], ","), len(names))
	}
	return strings.Join(pieces, ",")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
