package graph

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// MaxShared is how many bytes the value of a KV or the content of an exported file may have. It goes through etcd, which
// refuses requests above 1.5 MiB, in an encoding that may take more bytes.
const MaxShared = 512 << 10

// maxKey bounds the key of a KV, in bytes.
const maxKey = 512

func readKV(p *parser, r *Resource) (map[string]field, func(given)) {
	k := &KV{}
	r.Spec = k
	fields := map[string]field{
		"key":          p.text(&k.Key, "key"),
		"value":        p.content(&k.Value, "value"),
		"mapped":       p.boolean(&k.Mapped, "mapped"),
		"skiplessthan": p.boolean(&k.SkipLessThan, "skiplessthan"),
		"skipcmpstyle": p.cmpStyle(&k.SkipCmpStyle),
	}
	return fields, func(at given) {
		if k.Key == "" {
			k.Key = r.ID.Name
		}
		if why := badKey(k.Key); why != "" {
			p.fail(at.at("key"), "key: %q %s", k.Key, why)
		}
		if k.Value == nil {
			return
		}
		if len(*k.Value) > MaxShared {
			p.fail(at["value"], "value: %d KiB; a value can have %d", len(*k.Value)>>10, MaxShared>>10)
			return
		}
		_, err := strconv.ParseInt(*k.Value, 10, 64)
		if k.SkipLessThan && k.SkipCmpStyle == CmpInt && err != nil {
			p.fail(at["value"], "value: want a whole number, since skiplessthan compares numbers; with skipcmpstyle: string it compares text")
		}
	}
}

// badKey says why a text can't be a key, or "". Segments are kept as plain as those of a path, because keys of different
// definitions stand side by side in the store.
func badKey(key string) string {
	switch {
	case len(key) > maxKey:
		return "is longer than " + strconv.Itoa(maxKey) + " bytes"
	case strings.ContainsFunc(key, unicode.IsControl):
		return "has control characters"
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch segment {
		case "":
			return "has a slash at an end, or two in a row"
		case ".", "..":
			return "has a segment of dots"
		}
	}
	return ""
}

// cmpStyle takes mgmt's numbers, or words.
func (p *parser) cmpStyle(dst *CmpStyle) field {
	styles := map[string]CmpStyle{"0": CmpInt, "int": CmpInt, "1": CmpString, "string": CmpString}
	return func(n ast.Node) {
		var word string
		p.word(&word, "skipcmpstyle")(n)
		style, ok := styles[word]
		if !ok && word != "" {
			p.fail(nodeAt(n), "skipcmpstyle: want int (0) or string (1), not %s", describe(n))
		}
		*dst = style
	}
}
