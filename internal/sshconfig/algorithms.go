package sshconfig

import (
	"slices"
	"strings"
)

// Algorithms makes a list of algorithms of what stands in a file: names that replace the defaults, or with "+" come after them,
// with "^" before them, with "-" are left out of them. "*" and "?" are patterns. Only what is supported is left.
func Algorithms(spec string, defaults, supported []string) []string {
	if spec == "" {
		return defaults
	}
	kind := spec[0]
	if strings.IndexByte("+-^", kind) >= 0 {
		spec = spec[1:]
	} else {
		kind = 0
	}
	if kind == '-' {
		return slices.DeleteFunc(slices.Clone(defaults), func(name string) bool { return matchList(name, spec) })
	}
	var named []string
	for pattern := range strings.SplitSeq(spec, ",") {
		for _, name := range supported {
			if matchPattern(name, pattern) {
				named = append(named, name)
			}
		}
	}
	list := named
	switch kind {
	case '+':
		list = slices.Concat(defaults, named)
	case '^':
		list = slices.Concat(named, defaults)
	}
	var once []string
	for _, name := range list {
		if !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return once
}
