package payload

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/shimbin"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

func TestMain(m *testing.M) {
	shimbin.Declare() // nothing here runs it
	os.Exit(m.Run())
}

const base = "/var/tmp/mgmt-remote-1000"

func request() Request {
	return Request{
		Run: "run12345", Host: "h1", Base: base, Token: "TOKEN", Nonce: "NONCE", Fence: 7, Definition: Definition{File: "g.yaml", Source: []byte("graph: g\n")},
		Facts: probe.Facts{OS: runtime.GOOS, Arch: runtime.GOARCH, User: "jo", Home: "/home/jo"},
	}
}

func newPayload(t *testing.T, o Options) *Payload {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func plan(t *testing.T, p *Payload, r Request) (Plan, wire.Spec) {
	t.Helper()
	got, err := p.Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	var spec wire.Spec
	for _, f := range got.Copy.Files {
		if f.Mode != 0o600 {
			t.Errorf("%s has mode %v", f.Name, f.Mode)
		}
		if f.Name == wire.SpecFile {
			if err := json.Unmarshal(f.Data, &spec); err != nil {
				t.Fatal(err)
			}
		}
	}
	return got, spec
}

func TestBadOptions(t *testing.T) {
	for name, c := range map[string]struct {
		o    Options
		says string
	}{
		"no command":       {Options{Kind: Command}, "no command"},
		"broken template":  {Options{Kind: Command, Argv: []string{"echo", "{{.Host"}}, "argument 1"},
		"unknown name":     {Options{Kind: Command, Argv: []string{"{{.Hots}}"}}, "Hots"},
		"no variable":      {Options{Kind: Command, Argv: []string{"x"}, Env: []string{"NOEQUALS"}}, "NOEQUALS"},
		"no key":           {Options{Kind: Command, Argv: []string{"x"}, Env: []string{"=x"}}, "KEY=VALUE"},
		"template in env":  {Options{Kind: Command, Argv: []string{"x"}, Env: []string{"A={{.Nope}}"}}, "variable A"},
		"binary not there": {Options{Kind: Command, Argv: []string{"x"}, Binary: "/nonexistent/program"}, "/nonexistent/program"},
	} {
		if p, err := New(c.o); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v %v", name, p, err)
		}
	}
}

func TestCommand(t *testing.T) {
	p := newPayload(t, Options{
		Kind: Command, Argv: []string{"echo", "{{.Host}} {{.Run}} {{.Dir}}", "{{.OS}}/{{.Arch}} {{.User}} {{.Home}}", "{{.Endpoint}}", `{{"{{"}}`},
		Env: []string{"A={{.Host}}=b", "EMPTY="}, OutputCap: 1000, OrphanTimeout: time.Hour,
	})
	got, spec := plan(t, p, request())
	dir := base + "/run12345/h1"
	want := []string{"echo", "h1 run12345 " + dir, runtime.GOOS + "/" + runtime.GOARCH + " jo /home/jo", spec.EndpointMark, "{{"}
	if !slices.Equal(spec.Argv, want) {
		t.Errorf("argv %q", spec.Argv)
	}
	if !slices.Equal(spec.Env, []string{"A=h1=b", "EMPTY="}) {
		t.Errorf("env %q", spec.Env)
	}
	if !strings.Contains(spec.EndpointMark, "NONCE") || spec.Endpoint != wire.EndpointUnix {
		t.Errorf("endpoint %q, mark %q", spec.Endpoint, spec.EndpointMark)
	}
	if spec.Token != "TOKEN" || spec.Nonce != "NONCE" || spec.Fence != 7 || spec.Run != "run12345" || spec.Host != "h1" ||
		spec.OutputCap != 1000 || spec.OrphanTimeout != time.Hour || spec.RemoveBase {
		t.Errorf("spec %+v", spec)
	}
	if got.Dir != dir || len(got.Copy.Blobs) != 1 || len(got.Copy.Files) != 1 || !got.Upload {
		t.Errorf("plan %+v", got)
	}
	shim := got.Copy.Blobs[0]
	if got.Shim[0] != base+"/cache/"+shim.Key() {
		t.Errorf("shim %q", got.Shim)
	}

	r := request()
	r.Facts.Cached = []string{"0123/other", shim.Key()}
	if again, _ := plan(t, p, r); again.Upload || again.Copy.Blobs[0] != shim {
		t.Error("what is cached is uploaded, or hashed again")
	}
}

func TestBinaryAndNoCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "my prog")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	o := Options{Kind: Command, Argv: []string{"prog", "arg"}, Binary: file, Endpoint: wire.EndpointTCP}
	got, spec := plan(t, newPayload(t, o), request())
	if len(got.Copy.Blobs) != 2 || spec.Argv[0] != base+"/cache/"+got.Copy.Blobs[1].Key() || spec.Argv[1] != "arg" || spec.Endpoint != wire.EndpointTCP {
		t.Errorf("spec %+v", spec)
	}
	if spec.OrphanTimeout != DefaultOrphanTimeout {
		t.Errorf("orphan timeout %v", spec.OrphanTimeout)
	}
	r := request()
	r.Facts.Cached = []string{got.Copy.Blobs[0].Key()}
	if one, _ := plan(t, newPayload(t, o), r); !one.Upload {
		t.Error("the program is not uploaded when the shim alone is cached")
	}

	o.NoCache = true
	r.Facts.Cached = []string{got.Copy.Blobs[0].Key(), got.Copy.Blobs[1].Key()}
	got, spec = plan(t, newPayload(t, o), r)
	if !got.Upload || !got.Copy.NoCache || !spec.RemoveBase {
		t.Errorf("plan %+v", got)
	}
	for _, path := range []string{got.Shim[0], spec.Argv[0]} {
		if !strings.HasPrefix(path, got.Dir+"/bin/") || strings.ContainsAny(path, " ") {
			t.Errorf("path %q", path)
		}
	}
}

func TestGraph(t *testing.T) {
	for _, noop := range []bool{false, true} {
		p := newPayload(t, Options{Kind: Graph, Noop: noop, OrphanTimeout: -1})
		got, spec := plan(t, p, request())
		last := spec.Argv[len(spec.Argv)-1]
		if spec.Argv[1] != "apply" || last != got.Dir+"/"+DefinitionFile || slices.Contains(spec.Argv, "--noop") != noop {
			t.Errorf("argv %q", spec.Argv)
		}
		if !strings.HasPrefix(spec.Argv[0], base+"/cache/") || spec.OrphanTimeout >= 0 {
			t.Errorf("spec %+v", spec)
		}
		found := false
		for _, f := range got.Copy.Files {
			found = found || f.Name == DefinitionFile && string(f.Data) == "graph: g\n"
		}
		if !found {
			t.Error("the definition is not copied")
		}
		program := false
		for _, b := range got.Copy.Blobs {
			program = program || spec.Argv[0] == base+"/cache/"+b.Key()
		}
		if !program {
			t.Errorf("%s is not copied", spec.Argv[0])
		}
	}
}

func TestAPlatformThatNobodyBuiltFor(t *testing.T) {
	r := request()
	r.Facts.OS, r.Facts.Arch = "plan9", "mips"
	for _, kind := range []Kind{Graph, Command} {
		p := newPayload(t, Options{Kind: kind, Argv: []string{"x"}})
		_, err := p.Plan(r)
		var f *fault.Fault
		if !errors.As(err, &f) || f.Kind != fault.Environment || !strings.Contains(f.Error(), "plan9/mips") || f.Remedy == "" {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
