package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mgmt-remote/mgmt-remote"

// Parts of other modules that only some packages may use.
const (
	protoactor = "github.com/asynkron/protoactor-go/..."
	sshLibrary = "golang.org/x/crypto/ssh/..."
	sftpLib    = "github.com/pkg/sftp/..."
	etcd       = "go.etcd.io/..."
	grpc       = "google.golang.org/grpc/..."
)

// rule says what packages may import. Patterns are import paths; "./x" is x in this module, a final "/..." matches
// everything below as well, "std" is the whole standard library. Only what ends up in programs counts: tests may
// import anything that compiles.
type rule struct {
	reason string
	of     []string // the packages the rule is about
	but    []string // except these
	inside []string // of this module, they may import these and themselves; nil: no limit
	never  []string // they never import these
	only   []string // they import nothing but these; nil: no limit
	deep   bool     // never holds for what they import indirectly, too
	breach [2]string
}

// The rules. breach is an import (from, to) that the rule must catch; a test plants it.
var rules = []rule{{
	reason: "embedders and messages use faults without taking anything else with them",
	of:     []string{"./fault"},
	only:   []string{"std"},
	breach: [2]string{"./fault", "./messages"},
}, {
	reason: "a message is plain data: it can't hold a client, an actor or a connection",
	of:     []string{"./messages"},
	only:   []string{"std", "./fault"},
	breach: [2]string{"./messages", "./internal/inventory"},
}, {
	reason: "the command line is wiring: whatever it can do, an embedder of fleet can do as well",
	of:     []string{"./cmd/mgmt-remote/..."},
	inside: []string{"./fleet", "./internal/...", "./messages", "./fault", "./test/sshfleet", "./test/leftovers"},
	breach: [2]string{"./cmd/mgmt-remote", "./actors/host"},
}, {
	reason: "fleet is the one door to the actors",
	of:     []string{"./fleet/..."},
	inside: []string{"./actors/...", "./messages", "./internal/...", "./fault"},
	breach: [2]string{"./fleet", "./cmd/mgmt-remote"},
}, {
	reason: "the supervisor knows its children and nobody else",
	of:     []string{"./actors/supervisor/..."},
	inside: []string{"./actors/host", "./actors/converge", "./messages", "./internal/...", "./fault"},
	breach: [2]string{"./actors/supervisor", "./actors/sftp"},
}, {
	reason: "a host knows its children, never its parent or converge",
	of:     []string{"./actors/host/..."},
	inside: []string{"./actors/host/...", "./actors/sftp", "./actors/tunnel", "./actors/exec", "./messages", "./internal/...", "./fault"},
	breach: [2]string{"./actors/host", "./actors/supervisor"},
}, {
	reason: "leaves know no other actor: siblings talk through their parent",
	of:     []string{"./actors/sftp/...", "./actors/tunnel/...", "./actors/exec/...", "./actors/converge/..."},
	inside: []string{"./messages", "./internal/...", "./fault"},
	breach: [2]string{"./actors/sftp", "./actors/exec"},
}, {
	reason: "the state machine of a host is pure: whoever reads or tests it needs no clock, network or actor",
	of:     []string{"./actors/host/lifecycle"},
	never:  []string{protoactor, "net/...", "time", "os/...", "sync/...", "./internal/..."},
	breach: [2]string{"./actors/host/lifecycle", "time"},
}, {
	reason: "nor does anything that the state machine imports bring actors or the network in",
	of:     []string{"./actors/host/lifecycle"},
	never:  []string{protoactor, "net/..."},
	deep:   true,
	breach: [2]string{"./fault", "net"},
}, {
	reason: "internal packages work without actors, so that each can be tested and understood alone",
	of:     []string{"./internal/..."},
	but:    []string{"./internal/console/..."}, // shows the events, which are messages
	never:  []string{"./actors/...", "./messages", "./fleet/...", "./cmd/..."},
	breach: [2]string{"./internal/sshconn", "./messages"},
}, {
	reason: "the console shows events and knows nothing of those who make them",
	of:     []string{"./internal/console/..."},
	inside: []string{"./messages", "./fault", "./internal/nodeset", "./internal/console"},
	breach: [2]string{"./internal/console", "./fleet"},
}, {
	reason: "node sets are a notation: whoever prints names can use it",
	of:     []string{"./internal/nodeset"},
	only:   []string{"std"},
	never:  []string{"net/...", "os/...", "time"},
	breach: [2]string{"./internal/nodeset", "./internal/inventory"},
}, {
	reason: "only two packages beside the actors know protoactor: restart strategies and the helper for blocking work",
	of:     []string{"./internal/...", "./cmd/...", "./messages", "./fault"},
	but:    []string{"./internal/restart", "./internal/worker"},
	never:  []string{protoactor},
	breach: [2]string{"./internal/gateway", "github.com/asynkron/protoactor-go/actor"},
}, {
	reason: "what runs on a host is small and starts in a moment",
	of:     []string{"./cmd/mgmt-remote-shim", "./internal/shim"},
	never:  []string{etcd, protoactor, grpc, "golang.org/x/crypto/...", sftpLib},
	deep:   true,
	breach: [2]string{"./internal/wire", "go.etcd.io/etcd/client/v3"},
}, {
	reason: "one package makes SSH connections, so host keys, deadlines and keepalives can't be forgotten anywhere",
	of:     []string{"./..."},
	but:    []string{"./internal/sshconn/...", "./test/..."},
	never:  []string{sshLibrary},
	breach: [2]string{"./internal/probe", "golang.org/x/crypto/ssh"},
}, {
	reason: "one package copies files, so verification and renames can't be forgotten anywhere",
	of:     []string{"./..."},
	but:    []string{"./internal/transfer", "./test/..."},
	never:  []string{sftpLib},
	breach: [2]string{"./actors/sftp", "github.com/pkg/sftp"},
}, {
	reason: "test peers stay out of what is shipped; the demo, which is a fleet of them, is the exception",
	of:     []string{"./..."},
	but:    []string{"./test/...", "./cmd/mgmt-remote"},
	never:  []string{"./test/..."},
	breach: [2]string{"./internal/sshconn", "./test/sshfleet"},
}}

// pkg is what `go list` tells of a package.
type pkg struct {
	ImportPath string
	Imports    []string // direct, without tests
	Deps       []string // direct and indirect
	GoFiles    []string
	Dir        string
}

// The platforms a shim runs on import different parts of the standard library and of x/sys.
func TestImportRules(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "freebsd"} {
		t.Run(goos, func(t *testing.T) {
			for _, v := range check(list(t, goos), rules) {
				t.Error(v)
			}
		})
	}
}

// A misspelled package in a rule guards nothing.
func TestEveryRuleGuardsSomething(t *testing.T) {
	pkgs := list(t, "linux")
	for _, r := range rules {
		for _, pattern := range slices.Concat(r.of, r.but, r.inside) {
			if !slices.ContainsFunc(pkgs, func(p pkg) bool { return matches(pattern, p.ImportPath) }) {
				t.Errorf("no package is called %s, as a rule says (%s)", pattern, r.reason)
			}
		}
	}
}

// A check that can't find anything is no check: each rule must see the breach it names, and only because of it.
func TestPlantedBreachesAreFound(t *testing.T) {
	clean := map[string]pkg{}
	for _, r := range rules {
		for _, path := range []string{r.of[0], r.breach[0]} {
			path = expand(strings.TrimSuffix(path, "/..."))
			clean[path] = pkg{ImportPath: path}
		}
	}
	if found := check(slices.Collect(maps.Values(clean)), rules); len(found) != 0 {
		t.Fatalf("packages without imports break rules: %q", found)
	}
	for _, r := range rules {
		from, to := expand(r.breach[0]), expand(r.breach[1])
		planted := maps.Clone(clean)
		p := planted[from]
		p.Imports, p.Deps = []string{to}, []string{to}
		planted[from] = p
		if r.deep { // somebody the rule is about imports the one that imports
			of := expand(strings.TrimSuffix(r.of[0], "/..."))
			planted[of] = pkg{ImportPath: of, Imports: []string{from}, Deps: []string{from, to}}
		}
		found := check(slices.Collect(maps.Values(planted)), []rule{r})
		if len(found) != 1 || !strings.Contains(found[0], to) || !strings.Contains(found[0], r.reason) {
			t.Errorf("%s → %s: got %q, want one breach of: %s", from, to, found, r.reason)
		}
	}
}

// In cmd/mgmt-remote the demo alone may use the simulated hosts.
func TestOnlyTheDemoUsesSimulatedHosts(t *testing.T) {
	for _, p := range list(t, "linux") {
		if p.ImportPath != module+"/cmd/mgmt-remote" {
			continue
		}
		for _, file := range p.GoFiles {
			source, err := os.ReadFile(p.Dir + "/" + file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(source), `"`+module+`/test/`) && !strings.HasPrefix(file, "demo") {
				t.Errorf("%s imports a test peer; only demo*.go may", file)
			}
		}
		return
	}
	t.Fatal("there is no cmd/mgmt-remote")
}

// check returns one line for each import that breaks a rule.
func check(pkgs []pkg, rules []rule) []string {
	var found []string
	for _, r := range rules {
		for _, p := range pkgs {
			if !matchesAny(r.of, p.ImportPath) || matchesAny(r.but, p.ImportPath) {
				continue
			}
			imports := p.Imports
			if r.deep {
				imports = p.Deps
			}
			for _, path := range imports {
				if path != "C" && r.forbids(p.ImportPath, path) {
					found = append(found, fmt.Sprintf("%s imports %s, but %s", p.ImportPath, path, r.reason))
				}
			}
		}
	}
	return found
}

func (r rule) forbids(from, path string) bool {
	switch {
	case matchesAny(r.never, path):
		return true
	case r.only != nil && !matchesAny(r.only, path):
		return true
	case r.inside != nil && strings.HasPrefix(path, module+"/"):
		return !matchesAny(r.inside, path) && !strings.HasPrefix(path, from+"/")
	}
	return false
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}

func matches(pattern, path string) bool {
	pattern = expand(pattern)
	if pattern == "std" { // the first element of every other import path is a domain
		first, _, _ := strings.Cut(path, "/")
		return !strings.Contains(first, ".")
	}
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == root || strings.HasPrefix(path, root+"/")
	}
	return path == pattern
}

// expand makes import paths of patterns that begin with "./".
func expand(pattern string) string {
	if rest, ok := strings.CutPrefix(pattern, "./"); ok {
		return module + "/" + rest
	}
	return pattern
}

// list asks the go command for all packages of the module as they are built for goos.
func list(t *testing.T, goos string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,GoFiles,Dir", module+"/...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 5 {
		t.Fatalf("go list found only %d packages", len(pkgs))
	}
	return pkgs
}
