package payload

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
)

const hostTemplate = `graph: "{{.Host}} {{.Run}} {{.Addr}} {{.User}} {{.Home}} {{.OS}}/{{.Arch}} {{.Kernel}} {{.BootID}}"
resources:
  file:
  - {name: /etc/app.conf, content: "{{.Vars.port}}"}
`

func templated(source string) Request {
	r := request()
	r.Addr, r.Facts.Kernel, r.Facts.BootID, r.Facts.OS, r.Facts.Arch = "192.0.2.7", "6.1", "boot", "linux", "amd64"
	r.Definition = Definition{File: "site.yaml.tmpl", Source: []byte(source), Vars: map[string]string{"port": "80"}}
	return r
}

func copied(files []transfer.File) (text string, found bool) {
	i := slices.IndexFunc(files, func(f transfer.File) bool { return f.Name == DefinitionFile })
	if i < 0 {
		return "", false
	}
	return string(files[i].Data), true
}

func TestATemplateIsRenderedForItsHost(t *testing.T) {
	p := newPayload(t, Options{Kind: Graph})
	r := templated(hostTemplate)
	want := `graph: "h1 run12345 192.0.2.7 jo /home/jo linux/amd64 6.1 boot"` + "\n" +
		"resources:\n  file:\n  - {name: /etc/app.conf, content: \"80\"}\n"
	if file, err := p.Definition(r); err != nil || string(file.Data) != want || file.Name != DefinitionFile || file.Mode != 0o600 {
		t.Errorf("%+v %v", file, err)
	}
	got, _ := plan(t, p, func() Request { r := templated("graph: port {{.Vars.port}}\n"); r.Facts = request().Facts; return r }())
	if text, found := copied(got.Copy.Files); !found || text != "graph: port 80\n" {
		t.Errorf("copied is %q", text)
	}
	// What looks like a template but is not called so is copied as it is.
	r.Definition.File = "site.yaml"
	if file, err := p.Definition(r); err != nil || string(file.Data) != hostTemplate {
		t.Errorf("%+v %v", file, err)
	}
}

func TestATemplateThatIsWrongForOneHost(t *testing.T) {
	p := newPayload(t, Options{Kind: Graph})
	for name, c := range map[string]struct{ source, says string }{
		"missing variable": {"graph: x\ncomment: {{.Vars.nope}}\n", "site.yaml.tmpl:2:"},
		"no such fact":     {"graph: {{.Hots}}\n", "site.yaml.tmpl:1:"},
		"no template":      {"{{if}}", "site.yaml.tmpl:1:"},
		"no definition":    {"graph: x\n{{if eq .Host \"h1\"}}wrong: 1\n{{end}}", "rendered for host h1, line 2"},
		"two problems":     {"one: 1\ntwo: {{.Host}}\n", "; and 1 more"},
	} {
		_, err := p.Definition(templated(c.source))
		var f *fault.Fault
		if !errors.As(err, &f) || f.Kind != fault.Environment || f.Host != "h1" || f.Op != "copy" || f.Remedy == "" {
			t.Errorf("%s: %v", name, err)
		} else if text := f.Error(); !strings.Contains(text, c.says) || strings.Contains(text, "\n") {
			t.Errorf("%s: %q", name, text)
		}
		r := templated(c.source)
		r.Facts = request().Facts
		if _, err := p.Plan(r); fault.KindOf(err) != fault.Environment {
			t.Errorf("%s: planned: %v", name, err)
		}
	}
}

func TestASessionThatIsThereNeedsNoDefinition(t *testing.T) {
	r := request()
	r.Definition = Definition{File: "site.yaml.tmpl"}
	got, spec := plan(t, newPayload(t, Options{Kind: Graph}), r)
	if text, found := copied(got.Copy.Files); found || len(spec.Argv) == 0 {
		t.Errorf("copied is %q, run %q", text, spec.Argv)
	}
}

func TestWatch(t *testing.T) {
	for _, watch := range []bool{false, true} {
		_, spec := plan(t, newPayload(t, Options{Kind: Graph, Watch: watch}), request())
		if slices.Contains(spec.Argv, "--watch") != watch {
			t.Errorf("argv %q", spec.Argv)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		d    Definition
		says string
	}{
		"good":             {Definition{File: "a.yaml", Source: []byte("graph: a\n")}, ""},
		"good template":    {Definition{File: "a.yaml.tmpl", Source: []byte("graph: {{.Vars.a}} {{.Kernel}} {{.Host}}\n"), Vars: map[string]string{"a": "1"}}, ""},
		"bad":              {Definition{File: "a.yaml", Source: []byte("grph: a\n")}, "a.yaml:1:1"},
		"bad template":     {Definition{File: "a.yaml.tmpl", Source: []byte("graph: {{.Vars.a}}\n")}, "a.yaml.tmpl:1:"},
		"bad for the host": {Definition{File: "a.yaml.tmpl", Source: []byte("{{if eq .Addr \"192.0.2.7\"}}grph{{else}}graph{{end}}: x\n")}, "line 1"},
		"bad name":         {Definition{File: "a.yaml", Source: []byte("graph: a\n"), Vars: map[string]string{"a-b": ""}}, `"a-b" can't be a name`},
	} {
		def, err := c.d.Check("h1", "192.0.2.7")
		if c.says == "" {
			if err != nil || def == nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, good := range map[string]bool{"a": true, "_1": true, "Port_2": true, "": false, "1a": false, "a.b": false, "ä": true, "a b": false} {
		if err := ValidVar(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
