package graph

import (
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Limits of numbers in a definition; they keep durations far from overflow and equal mgmt's types where it has any.
const (
	maxRetry   = 1<<15 - 1
	maxDelay   = int64(366 * 24 * time.Hour / time.Millisecond)
	maxSeconds = int64(366 * 24 * time.Hour / time.Second)
)

// mgmtKinds are the kinds of mgmt 1.x that this version lacks; a name that ends in a colon stands for a family.
var mgmtKinds = []string{
	"augeas", "aws:", "bmc:", "cloudflare:", "config:", "consul:", "cron", "deploy:", "dhcp:", "docker:", "firewalld",
	"graph", "group", "gsettings", "gzip", "hetzner:", "hostname", "http:", "kv", "line", "mount", "msg", "net",
	"nspawn", "panic", "password", "pippet", "pkg", "print", "schedule", "svc", "sysctl", "tar", "test", "tftp:",
	"timer", "user", "value", "virt", "virt:", "vsftpd", "wg:", "world:",
}

func knownToMgmt(kind string) bool {
	for _, k := range mgmtKinds {
		if kind == k || strings.HasSuffix(k, ":") && strings.HasPrefix(kind, k) {
			return true
		}
	}
	return false
}

// places remembers where things stand that the checks want to point at.
type places struct {
	names    []Position      // of each resource's name
	paths    []Position      // of each resource's path, or its name
	from, to []Position      // of each edge's ends
	refused  map[ID]struct{} // reported already, so edges to them need no second report; without a name: the whole kind
}

func (p *parser) definition(def *Definition, body ast.Node) *places {
	pl := &places{refused: make(map[ID]struct{})}
	p.mapping(body, "definition", map[string]field{
		"graph":   p.text(&def.Name, "graph"),
		"comment": p.text(&def.Comment, "comment"),
		"remote": func(n ast.Node) {
			def.RemoteAt = nodeAt(n)
			p.text(&def.Remote, "remote")(n)
		},
		"resources": func(n ast.Node) { p.resources(def, pl, n) },
		"edges": func(n ast.Node) {
			p.list(n, "edges", func(n ast.Node) { p.edge(def, pl, n) })
		},
		"collect": func(n ast.Node) {
			if seq, ok := n.(*ast.SequenceNode); ok && len(seq.Values) == 0 {
				return
			}
			p.fail(nodeAt(n), "collect: this version does not exchange resources between hosts yet")
		},
	})
	return pl
}

func (p *parser) resources(def *Definition, pl *places, n ast.Node) {
	m, ok := n.(ast.MapNode)
	if !ok {
		p.fail(nodeAt(n), "resources: want kinds with lists of resources, not %s", describe(n))
		return
	}
	for iter := m.MapRange(); iter.Next(); {
		kind := iter.Key().GetToken().Value
		decode, ok := map[Kind]func(*Resource, *places, ast.Node){
			KindNoop: p.noop, KindFile: p.fileResource, KindExec: p.exec,
		}[Kind(kind)]
		switch {
		case ok:
			if value := p.resolve(iter.Value()); value != nil {
				p.list(value, kind, func(n ast.Node) { p.resource(def, pl, Kind(kind), decode, n) })
			}
		case knownToMgmt(kind):
			p.fail(nodeAt(iter.Key()), "kind %q needs mgmt itself, as with `--payload mgmt`, which this version does not offer; here are exec, file, noop", kind)
			pl.refused[ID{Kind: Kind(kind)}] = struct{}{}
		default:
			p.fail(nodeAt(iter.Key()), "unknown kind %q%s", kind, suggest(kind, []string{"exec", "file", "noop"}))
			pl.refused[ID{Kind: Kind(kind)}] = struct{}{}
		}
	}
}

func (p *parser) resource(def *Definition, pl *places, kind Kind, decode func(*Resource, *places, ast.Node), n ast.Node) {
	r := Resource{ID: ID{Kind: kind}, At: nodeAt(n)}
	pl.names = append(pl.names, r.At)
	pl.paths = append(pl.paths, r.At)
	before := len(p.problems)
	decode(&r, pl, n)
	if r.ID.Name == "" && len(p.problems) == before {
		p.fail(r.At, "%s resource without a name", kind)
	}
	if name, exported := strings.CutPrefix(r.ID.Name, "@@"); exported {
		p.fail(pl.names[len(pl.names)-1], "@@%s: this version does not export resources yet", name)
	}
	if len(p.problems) > before {
		pl.refused[r.ID] = struct{}{}
		pl.names = pl.names[:len(pl.names)-1]
		pl.paths = pl.paths[:len(pl.paths)-1]
		return
	}
	def.Resources = append(def.Resources, r)
}

// common are the keys that every resource has.
func (p *parser) common(r *Resource, pl *places) map[string]field {
	last := len(pl.names) - 1
	var ignored string
	return map[string]field{
		"name": func(n ast.Node) {
			pl.names[last] = nodeAt(n)
			p.text(&r.ID.Name, "name")(n)
		},
		"comment": p.text(&ignored, "comment"),
		"meta":    func(n ast.Node) { p.meta(&r.Meta, n) },
	}
}

func (p *parser) meta(m *Meta, n ast.Node) {
	unsupported := func(key string) field {
		return func(n ast.Node) { p.fail(nodeAt(n), "meta: %s is not supported by this version", key) }
	}
	p.mapping(n, "meta", map[string]field{
		"noop":  p.boolean(&m.Noop, "noop"),
		"retry": p.integer("retry", -1, maxRetry, func(v int64) { m.Retry = int(v) }),
		"delay": p.integer("delay (milliseconds)", 0, maxDelay, func(v int64) { m.Delay = time.Duration(v) * time.Millisecond }),
		"poll":  p.seconds("poll", &m.Poll),
		"limit": unsupported("limit"),
		"burst": unsupported("burst"),
		"sema":  unsupported("sema"),
	}, "reset", "rewatch", "realize", "reverse", "autoedge", "autogroup", "hidden", "export")
}

func (p *parser) seconds(what string, dst *time.Duration) field {
	return p.integer(what+" (seconds)", 0, maxSeconds, func(v int64) { *dst = time.Duration(v) * time.Second })
}

func (p *parser) edge(def *Definition, pl *places, n ast.Node) {
	e := Edge{At: nodeAt(n)}
	var fromAt, toAt Position
	before := len(p.problems)
	end := func(what string, dst *ID, at *Position) field {
		return func(n ast.Node) {
			*at = nodeAt(n)
			var kind string
			p.mapping(n, what, map[string]field{
				"kind": p.text(&kind, what+": kind"),
				"name": func(n ast.Node) {
					*at = nodeAt(n)
					p.text(&dst.Name, what+": name")(n)
				},
			})
			dst.Kind = Kind(strings.ToLower(kind)) // as mgmt does
		}
	}
	var ignored string
	p.mapping(n, "edge", map[string]field{
		"name":    p.text(&e.Name, "name"),
		"comment": p.text(&ignored, "comment"),
		"from":    end("from", &e.From, &fromAt),
		"to":      end("to", &e.To, &toAt),
		"notify":  p.boolean(&e.Notify, "notify"),
	})
	if len(p.problems) > before {
		return
	}
	for _, end := range []struct {
		what string
		id   ID
	}{{"from", e.From}, {"to", e.To}} {
		if end.id.Kind == "" || end.id.Name == "" {
			p.fail(e.At, "edge: %s needs a kind and a name", end.what)
		}
	}
	if len(p.problems) > before {
		return
	}
	def.Edges = append(def.Edges, e)
	pl.from = append(pl.from, fromAt)
	pl.to = append(pl.to, toAt)
}
