package inventory

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const fleetForSelection = `
hosts:
  web[1-4]: {labels: {dc: dc1, canary: }}
  web[5-6]: {labels: {dc: dc2}}
  db[1-2]: {labels: {dc: dc2, role: data/main}}
  lone:
groups:
  web: {hosts: "web[1-6]"}
  db: {hosts: "db[1-2]"}
  back: {children: db}
  dc2: {hosts: "web[5-6],db[1-2]"}
  empty:
`

func TestSelect(t *testing.T) {
	inv := mustBuild(t, FormatYAML, fleetForSelection)
	for expr, want := range map[string]string{
		"web1":                   "web1",
		"web[1-3]":               "web1 web2 web3",
		"web[2,4]!web4":          "web2",
		"web":                    "web1 web2 web3 web4 web5 web6",
		"web & !dc2":             "web1 web2 web3 web4",
		"web,!dc2":               "web1 web2 web3 web4",
		"web:!dc2":               "web1 web2 web3 web4",
		"web!dc2":                "web1 web2 web3 web4",
		"!web":                   "db1 db2 lone",
		"! web & dc2":            "db1 db2",
		"web:&dc2":               "web5 web6",
		"web,&dc2":               "web5 web6",
		"db,lone":                "db1 db2 lone",
		"db : lone":              "db1 db2 lone",
		"back^dc2":               "web5 web6",
		"back":                   "db1 db2",
		"all":                    "web1 web2 web3 web4 web5 web6 db1 db2 lone",
		"ungrouped":              "lone",
		"*":                      "web1 web2 web3 web4 web5 web6 db1 db2 lone",
		"*1":                     "web1 db1",
		"?b*":                    "db1 db2",
		"?b[1-2]":                "db1 db2",
		"canary":                 "web1 web2 web3 web4",
		"can*":                   "web1 web2 web3 web4",
		"dc=dc1":                 "web1 web2 web3 web4",
		"dc=dc[1-2]&*1":          "web1 db1",
		"dc=*":                   "web1 web2 web3 web4 web5 web6 db1 db2",
		"!dc=*":                  "lone",
		"role=data/*":            "db1 db2",
		"~^web[12]$":             "web1 web2",
		"~(web|db)1":             "web1 db1",
		"~b1 & web":              "web1",
		"(~b1) & web":            "web1",
		`(~^(web|[d)])b?\d$)`:    "web1 web2 web3 web4 web5 web6 db1 db2",
		"web & !(dc2,web1)":      "web2 web3 web4",
		"(web,db) & (dc2 & !db)": "web5 web6",
		"lone,web[1-6]&dc2":      "web5 web6",
		"((lone))":               "lone",
		"empty":                  "",
		"web!web":                "",
	} {
		got, err := inv.Select(expr)
		if err != nil || strings.Join(Names(got), " ") != want {
			t.Errorf("%q: got %q, %v, want %q", expr, Names(got), err, want)
		}
	}
}

func TestSelectRefuses(t *testing.T) {
	inv := mustBuild(t, FormatYAML, fleetForSelection)
	for expr, say := range map[string]string{
		"":                               "character 1: a host, group or label is missing",
		"  ":                             "a host, group or label is missing",
		"wbe":                            "character 1: no host, group or label is wbe; ",
		"web & !nope":                    "character 8: no host, group or label is nope; ",
		"web[5-9]":                       "character 1: no host, group or label is web[7-9]; ",
		"nope*":                          "no host, group or label is nope*",
		"dc=dc3":                         "no host, group or label is dc=dc3",
		"rack=1":                         "no host, group or label is rack=1",
		"web db":                         "character 5: an operator is missing",
		"web &":                          `character 5: a host, group or label is missing after "&"`,
		"web ,":                          `is missing after ","`,
		"& web":                          `character 1: a host, group or label is missing before "&"`,
		"web && db":                      `character 5: "&&" is no operator`,
		"web !! db":                      `character 5: "!!" is no operator`,
		"web ^! db":                      `"^!" is no operator`,
		"(web":                           "character 1: the parenthesis is not closed",
		"web)":                           "character 4: no ( is open here",
		"web ()":                         "character 5: an operator is missing",
		"web,()":                         "character 6: a host, group or label is missing",
		"web[1":                          "character 4: the bracket is not closed",
		"web[3-1]":                       `in "web[3-1]": character 5: the range runs backwards`,
		"web]":                           "no bracket is open",
		"~":                              "character 2: a regular expression is missing",
		"web,~a{2":                       "",
		"~[":                             "missing closing ]",
		"~^x":                            "no host's name matches",
		"n[1-99999999]":                  "more than 1000000 names",
		strings.Repeat("(", 100) + "web": "nested deeper than",
	} {
		got, err := inv.Select(expr)
		if err == nil || got != nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: got %q, error %v, want one with %q", expr, Names(got), err, say)
		}
	}
}

// Any expression selects what its operators say of sets.
func TestSelectIsAlgebra(t *testing.T) {
	inv := mustBuild(t, FormatYAML, fleetForSelection)
	words := []string{"web", "db", "dc2", "canary", "web[2-5]", "*1", "~2$", "dc=dc2", "lone"}
	sets := map[string][]string{}
	for _, w := range words {
		got, err := inv.Select(w)
		if err != nil {
			t.Fatal(err)
		}
		sets[w] = Names(got)
	}
	rapid.Check(t, func(t *rapid.T) {
		var make func(depth int) (string, map[string]bool)
		make = func(depth int) (string, map[string]bool) {
			text, have := "", map[string]bool{}
			for i := range rapid.IntRange(1, 4).Draw(t, "operands") {
				var operand string
				in := map[string]bool{}
				if depth < 3 && rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
					operand, in = make(depth + 1)
					operand = "(" + operand + ")"
				} else {
					operand = rapid.SampledFrom(words).Draw(t, "word")
					for _, n := range sets[operand] {
						in[n] = true
					}
				}
				op := ","
				if i > 0 {
					op = rapid.SampledFrom([]string{" , ", ":", " & ", ":&", "!", " & !", ",!", "^"}).Draw(t, "op")
					if strings.HasPrefix(operand, "~") || strings.Contains(text, "~") {
						op = " " + op // a regular expression ends at white space
					}
					text += op
				}
				text += operand
				for _, e := range inv.Entries {
					n := e.Host.Name
					switch {
					case strings.Contains(op, "!"):
						have[n] = have[n] && !in[n]
					case strings.Contains(op, "&"):
						have[n] = have[n] && in[n]
					case op == "^" || op == " ^":
						have[n] = have[n] != in[n]
					default:
						have[n] = have[n] || in[n]
					}
				}
			}
			return text, have
		}
		text, have := make(0)
		got, err := inv.Select(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for _, e := range inv.Entries {
			if slices.Contains(got, e) != have[e.Host.Name] {
				t.Fatalf("%q: %s is selected: %v", text, e.Host.Name, !have[e.Host.Name])
			}
		}
	})
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"*", "", true}, {"?", "", false}, {"a", "ab", false}, {"a*", "a/b", true}, {"*b", "aab", true},
		{"*a*b", "xaxbxb", true}, {"a?c", "abc", true}, {"a*d", "abc", false}, {"**", "x", true}, {"a**", "a", true},
	} {
		if got := glob(c.pattern, c.text); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.text, got)
		}
	}
}

func FuzzSelect(f *testing.F) {
	for _, s := range []string{"web & !dc2", "(a,b)!c", "~^w[)(]", "web[1-3]*:dc=1", "!", "((", "a^b", "~(", "\\", "[", "web[1-2"} {
		f.Add(s)
	}
	inv := mustBuild(f, FormatYAML, fleetForSelection)
	f.Fuzz(func(t *testing.T, expr string) {
		got, err := inv.Select(expr)
		if err != nil {
			if got != nil {
				t.Fatalf("%q: entries beside an error", expr)
			}
			return
		}
		rest, err := inv.Select("all !(" + expr + " )")
		if err != nil {
			t.Fatalf("%q is fine, and in parentheses: %v", expr, err)
		}
		if len(got)+len(rest) != len(inv.Entries) {
			t.Fatalf("%q selects %d, its complement %d of %d", expr, len(got), len(rest), len(inv.Entries))
		}
	})
}

func BenchmarkSelect10000(b *testing.B) {
	inv := mustBuild(b, FormatYAML, fleetOf(FormatYAML))
	for _, expr := range []string{"web*!rack=r7", "web[1-5000]&~7$"} {
		b.Run(expr, func(b *testing.B) {
			for b.Loop() {
				if _, err := inv.Select(expr); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
