// Package payload says what a host is to run and what has to be copied there for it.
//
// A Payload is made once for a fleet and checked before any connection is made; Plan then says for one host, whose
// facts are known, which programs and files go where and what the shim is told. The package connects to nothing.
package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/mgmt"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/internal/shimbin"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// Kind is what is executed on a host.
type Kind string

const (
	// Graph runs the engine of this project (mgmt-remote apply) on a definition.
	Graph Kind = "graph"
	// Command runs any program.
	Command Kind = "command"
	// Mgmt runs mgmt, a program that the user brings, on what was deployed into the run's etcd.
	Mgmt Kind = "mgmt"
)

// DefinitionFile is what a graph definition is called in the session directory.
const DefinitionFile = "graph.yaml"

// Options say what a fleet runs.
type Options struct {
	Kind   Kind
	Argv   []string // Command: the program and its arguments, templates over Facts
	Env    []string // KEY=VALUE, templates over Facts
	Binary string   // Command: a local file that is copied and run instead of Argv[0]; Mgmt: mgmt itself
	Noop   bool     // Graph, Mgmt: change nothing, say what would be changed
	Watch  bool     // Graph: follow changes of the definition
	// FailedTimeout ends a Graph payload with a failure when nothing but failed resources was left for so long, so
	// that the others don't wait for it; 0 = never.
	FailedTimeout time.Duration

	Restart       wire.Restart  // what is done when the payload ends; zero = nothing
	Endpoint      string        // wire.EndpointUnix (also "") or wire.EndpointTCP
	OrphanTimeout time.Duration // how long a session lives without us; < 0 = for ever, 0 = DefaultOrphanTimeout
	OutputCap     int64         // bytes of output kept on a host; 0 = the shim's default
	NoCache       bool          // leave nothing at all on the hosts
}

// DefaultOrphanTimeout is for runs that somebody watches.
const DefaultOrphanTimeout = 30 * time.Minute

// Facts are what the templates of arguments and environment can name.
type Facts struct {
	Host, Run, Dir, Endpoint string
	OS, Arch, User, Home     string
}

// Payload is what a fleet runs. It is safe for concurrent use. Close gives back the files that it holds open.
type Payload struct {
	opts     Options
	argv     []*template.Template
	env      []*template.Template
	programs *shimbin.Programs
	platform mgmt.Platform // Mgmt: what Binary is built for

	mu    sync.Mutex
	blobs map[string]*transfer.Blob // by local path
}

// New checks the options.
func New(opts Options) (*Payload, error) {
	p := &Payload{opts: opts, programs: shimbin.New(), blobs: map[string]*transfer.Blob{}}
	if opts.OrphanTimeout == 0 {
		p.opts.OrphanTimeout = DefaultOrphanTimeout
	}
	if opts.Endpoint == "" {
		p.opts.Endpoint = wire.EndpointUnix
	}
	if opts.Kind == Command && len(opts.Argv) == 0 {
		return nil, errors.New("no command was given")
	}
	for i, text := range opts.Argv {
		t, err := parse(fmt.Sprintf("argument %d", i), text)
		if err != nil {
			return nil, err
		}
		p.argv = append(p.argv, t)
	}
	for _, text := range opts.Env {
		key, _, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("environment variable %q: not KEY=VALUE", text)
		}
		t, err := parse("environment variable "+key, text)
		if err != nil {
			return nil, err
		}
		p.env = append(p.env, t)
	}
	if opts.Kind == Mgmt && opts.Binary == "" {
		return nil, errors.New("the mgmt payload needs mgmt itself as its binary")
	}
	if opts.Binary != "" {
		if _, err := p.blob(opts.Binary, path.Base(opts.Binary)); err != nil {
			return nil, err
		}
	}
	if opts.Kind == Mgmt {
		var err error
		if p.platform, err = mgmt.PlatformOf(opts.Binary); err != nil {
			return nil, errors.Join(fault.Wrap(fault.Environment, "read "+opts.Binary, err), p.Close())
		}
	}
	return p, nil
}

// parse also executes the template once, so that a name that isn't there is found before any connection is made.
func parse(name, text string) (*template.Template, error) {
	t, err := template.New(name).Option("missingkey=error").Parse(text)
	if err == nil {
		_, err = expand(t, Facts{})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w (a literal {{ is written {{\"{{\"}})", name, err)
	}
	return t, nil
}

func expand(t *template.Template, facts Facts) (string, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, facts); err != nil {
		return "", err
	}
	return b.String(), nil
}

// Request is what Plan needs to know of a host and its session.
type Request struct {
	Run, Host string
	Addr      string // the host's, as it is connected to
	Facts     probe.Facts
	Base      string // where the session is, or is to be
	Token     string
	Nonce     string
	Fence     uint64
	// Definition is the host's, of a Graph. Without a source none is planned: the session has one already.
	Definition Definition
}

// Plan is what happens on one host.
type Plan struct {
	Dir     string   // the session directory
	Shim    []string // the shim's command
	Session transfer.Session
	Copy    transfer.CopyRequest
	Upload  bool // Copy has more to send than small files
}

// Plan makes the plan for a host. The fault is of kind Environment where there is no program for its platform.
func (p *Payload) Plan(r Request) (Plan, error) {
	plan := Plan{
		Dir:     probe.SessionDir(r.Base, r.Run, r.Host),
		Session: transfer.Session{Base: r.Base, Run: r.Run, Host: r.Host},
	}
	shim, err := p.programs.Shim(r.Facts.OS, r.Facts.Arch)
	if err != nil {
		return Plan{}, err
	}
	shimBlob, err := p.blob(shim.Path, shim.Name)
	if err != nil {
		return Plan{}, err
	}
	plan.Shim = append([]string{p.remotePath(r.Base, plan.Dir, shimBlob)}, shim.Args...)
	blobs := []*transfer.Blob{shimBlob}

	spec, program, err := p.spec(r, plan.Dir)
	if err != nil {
		return Plan{}, err
	}
	if program != nil && program != shimBlob {
		blobs = append(blobs, program)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return Plan{}, fault.Wrap(fault.Bug, "run", err)
	}
	plan.Copy = transfer.CopyRequest{
		Base: r.Base, Dir: plan.Dir, Blobs: blobs, NoCache: p.opts.NoCache, Cached: r.Facts.Cached, Gzip: r.Facts.Tools.Gzip,
		Files: []transfer.File{{Name: wire.SpecFile, Data: data, Mode: 0o600}},
	}
	if p.opts.Kind == Graph && r.Definition.Source != nil {
		file, err := p.Definition(r)
		if err != nil {
			return Plan{}, err
		}
		plan.Copy.Files = append(plan.Copy.Files, file)
	}
	plan.Upload = p.opts.NoCache || !allCached(blobs, r.Facts.Cached)
	return plan, nil
}

func allCached(blobs []*transfer.Blob, cached []string) bool {
	there := map[string]bool{}
	for _, key := range cached {
		there[key] = true
	}
	for _, b := range blobs {
		if !there[b.Key()] {
			return false
		}
	}
	return true
}

// spec is what the shim is told, and the program to be copied for it, if there is one.
func (p *Payload) spec(r Request, dir string) (wire.Spec, *transfer.Blob, error) {
	// Only the shim knows the endpoint for certain; the mark stands for it until then.
	mark := "@endpoint-" + r.Nonce + "@"
	facts := Facts{
		Host: r.Host, Run: r.Run, Dir: dir, Endpoint: mark,
		OS: r.Facts.OS, Arch: r.Facts.Arch, User: r.Facts.User, Home: r.Facts.Home,
	}
	spec := wire.Spec{
		Version: 1, Run: r.Run, Host: r.Host, Token: r.Token, Nonce: r.Nonce, Fence: r.Fence,
		Endpoint: p.opts.Endpoint, EndpointMark: mark, Restart: p.opts.Restart,
		OutputCap: p.opts.OutputCap, OrphanTimeout: p.opts.OrphanTimeout, RemoveBase: p.opts.NoCache,
	}
	var err error
	if spec.Env, err = expandAll(p.env, facts); err != nil {
		return spec, nil, err
	}
	if p.opts.Kind == Mgmt {
		return p.mgmtSpec(spec, r, dir)
	}
	if p.opts.Kind == Graph {
		program, err := p.engine(r.Facts)
		if err != nil {
			return spec, nil, err
		}
		spec.Argv = []string{p.remotePath(r.Base, dir, program), "apply"}
		if p.opts.Noop {
			spec.Argv = append(spec.Argv, "--noop")
		}
		if p.opts.Watch {
			spec.Argv = append(spec.Argv, "--watch")
		}
		if p.opts.FailedTimeout > 0 {
			spec.Argv = append(spec.Argv, "--failed-timeout", p.opts.FailedTimeout.String())
		}
		spec.Argv = append(spec.Argv, dir+"/"+DefinitionFile)
		return spec, program, nil
	}
	if spec.Argv, err = expandAll(p.argv, facts); err != nil {
		return spec, nil, err
	}
	if p.opts.Binary == "" {
		return spec, nil, nil
	}
	program, err := p.blob(p.opts.Binary, path.Base(p.opts.Binary))
	if err != nil {
		return spec, nil, err
	}
	spec.Argv[0] = p.remotePath(r.Base, dir, program)
	return spec, program, nil
}

func expandAll(templates []*template.Template, facts Facts) ([]string, error) {
	out := make([]string, 0, len(templates))
	for _, t := range templates {
		s, err := expand(t, facts)
		if err != nil {
			return nil, fault.Wrap(fault.Environment, "run", err)
		}
		out = append(out, s)
	}
	return out, nil
}

// engine is the program that applies definitions, for the host's platform.
func (p *Payload) engine(facts probe.Facts) (*transfer.Blob, error) {
	engine, err := p.programs.Engine(facts.OS, facts.Arch)
	if err != nil {
		return nil, err
	}
	return p.blob(engine.Path, engine.Name)
}

// blob opens and hashes a file once for the whole fleet.
func (p *Payload) blob(file, name string) (*transfer.Blob, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b, ok := p.blobs[file]; ok {
		return b, nil
	}
	b, err := transfer.OpenBlob(file, name)
	if err != nil {
		return nil, fault.Wrap(fault.Environment, "read", err)
	}
	p.blobs[file] = b
	return b, nil
}

// remotePath is where a blob will be on the host.
func (p *Payload) remotePath(base, dir string, b *transfer.Blob) string {
	if p.opts.NoCache {
		return dir + "/bin/" + b.Name
	}
	return base + "/" + probe.CacheDir + "/" + b.Key()
}

// Close gives back the files. Copies that still run fail.
func (p *Payload) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for file, b := range p.blobs {
		errs = append(errs, b.Close())
		delete(p.blobs, file)
	}
	return errors.Join(append(errs, p.programs.Close())...)
}
