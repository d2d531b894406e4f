package graph

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// web1 is a host with all facts.
var web1 = Data{
	Host: "web1", Run: "r1", Addr: "192.0.2.1", User: "root", Home: "/root", OS: "linux", Arch: "arm64", Kernel: "6.1", BootID: "b",
	Vars: map[string]string{"colour": "blue", "names": "a,b"},
}

func TestRender(t *testing.T) {
	for in, want := range map[string]string{
		"{{.Host}} {{.Run}} {{.Addr}} {{.User}} {{.Home}} {{.OS}} {{.Arch}} {{.Kernel}} {{.BootID}}": "web1 r1 192.0.2.1 root /root linux arm64 6.1 b",
		"{{.Vars.colour}}":                           "blue",
		`{{yaml .Vars.colour}}`:                      `"blue"`,
		`{{yaml "a\"\n\u0085<\U000e0001"}}`:          `"a\"\n\u0085<\U000e0001"`,
		`{{.Vars.names | split "," | yaml}}`:         `["a","b"]`,
		`{{.Vars.names | split "," | join ":"}}`:     "a:b",
		`{{lower "ÄB"}}{{upper "äb"}}`:               "äbÄB",
		`{{if match "web*" .Host}}y{{else}}n{{end}}`: "y",
		`{{or (index .Vars "size") "big"}}`:          "big",
		`{{range $i, $n := split "," .Vars.names}}{{if $i}}{{break}}{{end}}{{$n}}{{else}}none{{end}}`: "a",
		`{{define "x"}}<{{.}}>{{end}}{{template "x" .Host}}{{printf "%-3s|%03d" "a" 5}}`:              "<web1>a  |005",
		`{{range 3}}{{.}}{{end}}{{print "a" 1}}{{html "<"}}{{len .Host}}{{with .Host}}{{.}}{{end}}`:   "012a1&lt;4web1",
	} {
		tmpl, err := ParseTemplate("f", []byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, err := tmpl.Render(web1); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", in, got, err, want)
		}
	}
}

// TestTemplateProblems shows each way in which a template can be wrong, at its place.
func TestTemplateProblems(t *testing.T) {
	for in, want := range map[string]string{
		"a\n{{if}}":                        "f:2:1: missing value for if",
		"a: {{nosuch}}":                    `f:1:1: function "nosuch" not defined`,
		"\xff":                             "f: not UTF-8",
		strings.Repeat("x", maxTemplate+1): "f: larger than 1 MiB",
		"a\nä {{.Vars.color}}":             "f:2:10: for host web1: the variable color is not given: use --var color=VALUE",
		"{{.Hots}}":                        "f:1:3: for host web1: there is no .Hots; there are .Host, .Run, .Addr, .User, .Home, .OS, .Arch, .Kernel, .BootID and .Vars",
		`{{match "[" "x"}}`:                "f:1:3: for host web1: error calling match: syntax error in pattern",
		`{{printf "%1000000d" 1}}`:         "f:1:3: for host web1: error calling printf: want a width below 1000 in each directive",
	} {
		tmpl, err := ParseTemplate("f", []byte(in))
		if err == nil {
			_, err = tmpl.Render(web1)
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.40q: no *Error but %v", in, err)
			continue
		}
		if got, _, _ := strings.Cut(e.Error(), "\n"); got != want {
			t.Errorf("%.40q: got\n%s\nwant\n%s", in, got, want)
		}
	}
	tmpl, err := ParseTemplate("f", []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.Render(Data{Vars: map[string]string{"a": "\xff"}}); err == nil {
		t.Error("rendered what is not UTF-8")
	}
}

// TestTemplatesEnd holds that what would go on for ever, or fill the memory, is stopped soon.
func TestTemplatesEnd(t *testing.T) {
	for _, in := range []string{
		"{{range 999999999999}}{{end}}",
		"{{range 999999999999}}{{if true}}{{range 99999999}}{{else}}x{{end}}{{end}}{{end}}",
		"{{range 99999}}{{range 99999}}{{continue}}{{end}}{{end}}",
		"{{range 999999}}long text that is longer than the memory of the machine if one only waits for it{{end}}",
		`{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`,
		`{{define "a"}}{{if eq . 99}}{{else}}{{template "a" .}}{{template "a" .}}{{end}}{{end}}{{template "a" 1}}`,
		`{{$x := "xx"}}{{range 99}}{{$x = print $x $x}}{{end}}`,
		`{{$x := "\\"}}{{range 99}}{{$x = js $x}}{{end}}`,
		`{{$x := "\\"}}{{range 99}}{{$x = yaml $x}}{{end}}`,
		`{{$x := "xx"}}{{range 99}}{{$x = printf "%s%[1]s" $x}}{{end}}`,
		`{{$x := "xx"}}{{range 99}}{{$x = split "" $x | join $x}}{{end}}`,
	} {
		tmpl, err := ParseTemplate("f", []byte(in))
		if err != nil {
			t.Fatal(err)
		}
		begin := cpuTime(t)
		if _, err := tmpl.Render(web1); err == nil || !strings.Contains(err.Error(), "too long") && !strings.Contains(err.Error(), "maximum template depth") {
			t.Errorf("%s: %v", in, err)
		}
		if d := cpuTime(t) - begin; d > time.Minute {
			t.Errorf("%s: took %v", in, d)
		}
	}
}

func TestTemplateDefinition(t *testing.T) {
	name := filepath.Join(t.TempDir(), "site.yaml.tmpl")
	text := "remote: {{.Host}}.example.org\nresources:\n  file:\n  - {name: /a, content: {{yaml .Vars.colour}}}\n{{if eq .Arch \"arm64\"}}  - {name: b}\n{{end}}"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tmpl, err := LoadTemplate(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tmpl.Definition(web1)
	want := name + ", rendered for host web1, line 5, column 12: path: \"b\" is not absolute\n    5 |   - {name: b}\n      |            ^"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	amd := web1
	amd.Arch = "amd64"
	def, err := tmpl.Definition(amd)
	if err != nil {
		t.Fatal(err)
	}
	if got := *def.Resources[0].Spec.(*File).Content; got != "blue" || def.File != name || !strings.HasPrefix(string(def.Source), "remote: web1.example.org\n") {
		t.Errorf("got %q, %q, %q", got, def.File, def.Source)
	}
	want = name + ", rendered for host web1, line 1, column 9: no"
	if got := def.ErrorAt(def.RemoteAt, "no").Error(); !strings.HasPrefix(got, want) {
		t.Errorf("ErrorAt: %s", got)
	}
	if _, err := Load(name); err == nil || !strings.Contains(err.Error(), "a template, which is rendered for a host") {
		t.Errorf("Load: %v", err)
	}
	if !IsTemplate(name) || !IsTemplate("a.yml.tmpl") || IsTemplate("site.yaml") || IsTemplate("tmpl") {
		t.Error("IsTemplate")
	}
}

func TestTemplateCheck(t *testing.T) {
	check := func(text string, data Data) error {
		tmpl, err := ParseTemplate("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		_, err = tmpl.Check(data)
		return err
	}
	for text, want := range map[string]string{
		"remote: h\ncomment: {{.Host}} {{.Run}} {{.Addr}} {{.User}} {{.Home}} {{.OS}} {{.Arch}} {{.Kernel}} {{.BootID}}": "",
		"remote: {{.Vars.to}}": "",
		"remote: {{.Kernel}}":  "f, rendered for host sample, line 1, column 9: remote: depends on facts of the host, which are not known before it is reached",
		"remote: {{.Host}}":    "f, rendered for host sample, line 1, column 9: remote: depends on",
		"graph: {{.Vars.x}}":   "f:1:15: for host sample: the variable x is not given",
		"grap: {{.Host}}":      `f, rendered for host sample, line 1, column 1: definition: unknown key "grap"; did you mean "graph"?`,
	} {
		err := check(text, Data{Vars: map[string]string{"to": "web1"}})
		if want == "" && err == nil {
			continue
		}
		if err == nil || want == "" || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	if err := check("remote: {{.Host}}", Data{Host: "web1"}); err != nil {
		t.Errorf("a host that is given: %v", err)
	}
}

// TestYAMLQuotesAnything holds that no text that goes through yaml can become anything but itself.
func TestYAMLQuotesAnything(t *testing.T) {
	tmpl, err := ParseTemplate("f", []byte("resources:\n  kv:\n  - {name: k, value: {{yaml .Vars.v}}}\n  - name: l\n    value: {{yaml .Vars.v}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.String().Draw(t, "value")
		def, err := tmpl.Definition(Data{Vars: map[string]string{"v": v}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range def.Resources {
			if got := *r.Spec.(*KV).Value; got != v {
				t.Fatalf("%q became %q", v, got)
			}
		}
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add("remote: {{.Host}}\n{{range $i, $e := split \",\" .Vars.v}}# {{yaml $e}}\n{{end}}", "a,b")
	f.Add("resources:\n  kv:\n  - {name: k, value: {{yaml .Vars.v}}}", "\"\\\u2028")
	f.Add(`{{define "a"}}{{template "a"}}{{end}}{{printf "%*d" 5 5}}{{range 99999}}{{js .}}{{end}}`, "")
	f.Fuzz(func(t *testing.T, text, value string) {
		tmpl, err := ParseTemplate("f", []byte(text))
		if err == nil {
			data := web1
			data.Vars = map[string]string{"v": value}
			_, err = tmpl.Definition(data)
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || len(e.Problems) == 0 || e.Error() == "") {
			t.Fatalf("not a proper error: %v", err)
		}
	})
}
