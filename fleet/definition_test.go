package fleet

import (
	"context"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/simhost"
)

// graphRig has hosts whose simulated payload stands for the engine: it prints its definition whenever that changes.
func graphRig(t *testing.T, hosts int) *rig {
	t.Helper()
	var r *rig
	payloads := make([]simhost.Payload, hosts)
	for i := range payloads {
		payloads[i].Body = func(ctx context.Context, p *simhost.Process) int {
			name, last := p.Spec().Host, ""
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				if now := r.definition(name); now != last {
					last = now
					p.Print(false, now)
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return 0
				}
			}
		}
	}
	r = newRig(t, payloads...)
	r.opts.Payload = Payload{}
	for i := range r.opts.Hosts {
		r.opts.Hosts[i].Definition = []byte("graph: one\n")
	}
	return r
}

// definition is what is in the session directory of a host.
func (r *rig) definition(host string) string {
	for _, f := range r.sims[host].Files() {
		if path.Base(f.Path) == "graph.yaml" {
			return string(f.Data)
		}
	}
	return ""
}

// ended runs the fleet, beside it act, and returns each host's output. Every payload must have lived once, until it was stopped.
func (r *rig) ended(f *Fleet, act func()) map[string]string {
	r.Helper()
	go act()
	report, err := f.Run(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	output := map[string]string{}
	for _, e := range r.events {
		if m, ok := e.(messages.OutputReceived); ok {
			output[m.Host] += string(m.Data)
		}
	}
	for _, result := range report.Results {
		if n := r.sims[result.Host].PayloadStarts(); n != 1 || result.Outcome != messages.OutcomeCanceled {
			r.Errorf("%d starts, result %+v", n, result)
		}
	}
	return output
}

// until observes as the rig does and tells when a host has printed the text.
func (r *rig) until(host, text string) <-chan struct{} {
	seen, out := make(chan struct{}), ""
	before := r.opts.Observe
	r.opts.Observe = func(e messages.Event) {
		before(e)
		if m, ok := e.(messages.OutputReceived); ok && m.Host == host && !strings.Contains(out, text) {
			if out += string(m.Data); strings.Contains(out, text) {
				close(seen)
			}
		}
	}
	return seen
}

// updated observes as the rig does and tells when a host has a version of its definition.
func (r *rig) updated(host string, version uint64) <-chan struct{} {
	seen := make(chan struct{})
	before := r.opts.Observe
	r.opts.Observe = func(e messages.Event) {
		before(e)
		if m, ok := e.(messages.DefinitionUpdated); ok && m.Host == host && m.Version == version {
			close(seen)
		}
	}
	return seen
}

func TestUpdate(t *testing.T) {
	r := graphRig(t, 2)
	copied := r.updated("h1", 3) // the payload may see it before we hear that it is there
	one, three := r.until("h1", "graph: one\n"), r.until("h1", "graph: three\n")
	other := r.until("h2", "graph: early\n")
	f := r.fleet()
	if err := f.Update("h2", []byte("graph: early\n")); err != nil { // before Run
		t.Fatal(err)
	}
	output := r.ended(f, func() {
		defer f.Stop(messages.StopFinish)
		<-one
		<-other
		for _, c := range []struct{ host, text, says string }{
			{"h1", "graph: two\n", ""},
			{"h1", "grph: wrong\n", "definition of h1:1:1: "},
			{"h3", "graph: two\n", "there is no host h3"},
			{"h1", "graph: three\n", ""},
		} {
			if err := f.Update(c.host, []byte(c.text)); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s %q: %v", c.host, c.text, err)
			}
		}
		<-three
		<-copied
	})
	if out := output["h1"]; out != "graph: one\ngraph: two\ngraph: three\n" && out != "graph: one\ngraph: three\n" {
		t.Errorf("h1 saw %q", out)
	}
	if output["h2"] != "graph: early\n" {
		t.Errorf("h2 saw %q", output["h2"])
	}
	var versions []uint64
	for _, e := range r.events {
		if m, ok := e.(messages.DefinitionUpdated); ok && m.Host == "h1" {
			versions = append(versions, m.Version)
		}
	}
	if len(versions) == 0 || versions[len(versions)-1] != 3 {
		t.Errorf("versions %v", versions)
	}
}

func TestTemplates(t *testing.T) {
	r := graphRig(t, 2)
	for i := range r.opts.Hosts {
		h := &r.opts.Hosts[i]
		h.File, h.Definition = "site.yaml.tmpl", []byte("graph: {{.Host}} {{.Vars.colour}}\n")
		h.Vars = map[string]string{"colour": map[string]string{"h1": "red", "h2": "blue"}[h.Name]}
	}
	red, blue := r.until("h1", "graph: red in /home/sim\n"), r.until("h2", "graph: blue in /home/sim\n")
	begun := r.until("h1", "graph: h1 red\n")
	f := r.fleet()
	output := r.ended(f, func() {
		defer f.Stop(messages.StopFinish)
		<-begun
		<-r.at["h2"]
		for _, host := range []string{"h1", "h2"} {
			if err := f.Update(host, []byte("graph: {{.Vars.colour}} in {{.Home}}\n")); err != nil {
				t.Error(err)
			}
			if err := f.Update(host, []byte("graph: {{.Vars.color}}\n")); err == nil || !strings.Contains(err.Error(), "site.yaml.tmpl:1:") {
				t.Error(err)
			}
		}
		<-red
		<-blue
	})
	if output["h1"] != "graph: h1 red\ngraph: red in /home/sim\n" || !strings.HasSuffix(output["h2"], "graph: blue in /home/sim\n") {
		t.Errorf("output %q", output)
	}
}

// What only the host can tell may be wrong for it alone.
func TestATemplateThatOneHostDoesNotLike(t *testing.T) {
	r := graphRig(t, 2)
	for i := range r.opts.Hosts {
		h := &r.opts.Hosts[i]
		h.File, h.Definition = "site.yaml.tmpl", []byte("graph: x\n{{if and (eq .User \"sim\") (eq .Host \"h1\")}}wrong: 1{{end}}\n")
	}
	f := r.fleet()
	go func() { <-r.at["h2"]; f.Stop(messages.StopFinish) }()
	report, err := f.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bad := report.Results[0]
	if bad.Outcome != messages.OutcomeFailed || !strings.Contains(bad.Reason, "site.yaml.tmpl, rendered for host h1, line 2") || bad.Remedy == "" {
		t.Errorf("result %+v", bad)
	}
	if good := report.Results[1]; good.Outcome != messages.OutcomeCanceled {
		t.Errorf("result %+v", good)
	}
}

func TestUpdateOfACommand(t *testing.T) {
	f := newRig(t, says("x")).fleet()
	if err := f.Update("h1", []byte("graph: x\n")); err == nil {
		t.Error("a command has a definition")
	}
}

func TestWhatConverges(t *testing.T) {
	r := newRig(t, says("x"), says("y"))
	r.opts.Converge, r.opts.MaxConnections = ConvergeGroup, 1
	if _, err := New(r.opts); err == nil || !strings.Contains(err.Error(), "no more than 1 can at the same time") {
		t.Errorf("error %v", err)
	}
	r.opts.MaxConnections = 2
	f := r.fleet()
	if err := f.Add(Host{Name: "h3", Addr: "h3"}); err == nil {
		t.Error("a group grows beyond what runs at the same time")
	}
	r.opts.Converge = "all"
	if _, err := New(r.opts); err == nil || !strings.Contains(err.Error(), `"all"`) {
		t.Errorf("error %v", err)
	}
	for _, c := range []struct {
		what  Converge
		limit int
		alone bool
	}{{ConvergeAuto, 0, false}, {ConvergeAuto, 1, true}, {ConvergeAuto, 2, false}, {ConvergeGroup, 2, false}, {ConvergeHost, 0, true}, {ConvergeHost, 1, true}} {
		o := Options{Converge: c.what, MaxConnections: c.limit}
		if got := o.hostsConvergeAlone(2, 1); got != c.alone {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
