package graph

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

const full = `graph: mygraph
comment: free text
remote: ssh://root@192.0.2.7:22
resources:
  noop:
  - name: start
  file:
  - name: file1
    path: /tmp/mgmt/f1
    content: |
      i am f1
    mode: 0640
    owner: root
    group: 0
    state: exists
    meta: {noop: true, retry: -1, delay: 1500, poll: 7}
  - {name: /tmp/mgmt//d/, mode: "1755", recurse: true, force: true}
  - {name: gone, path: /tmp/gone, state: absent}
  exec:
  - {name: e1, cmd: "echo hi", shell: "", timeout: 3, ifcmd: "true", ifshell: /bin/sh, watchcmd: w, watchshell: sh, pollint: 2, state: present, cwd: /, env: {A: 1, B: yes}}
  - name: uptime
edges:
- {name: x1, from: {kind: file, name: file1}, to: {kind: exec, name: e1}, notify: true}
`

func TestParse(t *testing.T) {
	def, err := Parse("site.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	content, mode, sticky := "i am f1\n", fs.FileMode(0o640), fs.FileMode(0o755)|fs.ModeSticky
	want := []Resource{
		{ID{KindNoop, "start"}, Position{6, 5}, Meta{}, &Noop{}},
		{ID{KindFile, "file1"}, Position{8, 5}, Meta{Noop: true, Retry: -1, Delay: 1500 * time.Millisecond, Poll: 7 * time.Second},
			&File{Path: "/tmp/mgmt/f1", Content: &content, Mode: &mode, Owner: "root", Group: "0"}},
		{ID{KindFile, "/tmp/mgmt//d/"}, Position{17, 5}, Meta{}, &File{Path: "/tmp/mgmt/d/", Mode: &sticky, Recurse: true, Force: true}},
		{ID{KindFile, "gone"}, Position{18, 5}, Meta{}, &File{Path: "/tmp/gone", State: Absent}},
		{ID{KindExec, "e1"}, Position{20, 5}, Meta{}, &Exec{Cmd: "echo hi", Timeout: 3 * time.Second, IfCmd: "true", IfShell: "/bin/sh",
			WatchCmd: "w", WatchShell: "sh", PollInt: 2 * time.Second, Cwd: "/", Env: map[string]string{"A": "1", "B": "yes"}}},
		{ID{KindExec, "uptime"}, Position{21, 5}, Meta{}, &Exec{Cmd: "uptime"}},
	}
	for i, r := range want {
		if i >= len(def.Resources) {
			t.Fatalf("only %d resources", i)
		}
		if !reflect.DeepEqual(def.Resources[i], r) {
			t.Errorf("got  %+v %+v\nwant %+v %+v", def.Resources[i], def.Resources[i].Spec, r, r.Spec)
		}
	}
	edge := Edge{Name: "x1", At: Position{23, 3}, From: ID{KindFile, "file1"}, To: ID{KindExec, "e1"}, Notify: true}
	if len(def.Edges) != 1 || def.Edges[0] != edge {
		t.Errorf("edges %+v", def.Edges)
	}
	if def.Name != "mygraph" || def.Comment != "free text" || def.Remote != "ssh://root@192.0.2.7:22" || string(def.Source) != full {
		t.Errorf("definition %+v", def)
	}
	want2 := "site.yaml:3:9: no such host\n    3 | remote: ssh://root@192.0.2.7:22\n      |         ^"
	if got := def.ErrorAt(def.RemoteAt, "no such %s", "host").Error(); got != want2 {
		t.Errorf("ErrorAt:\n%s\nwant\n%s", got, want2)
	}
}

func TestAliases(t *testing.T) {
	def, err := Parse("f", []byte("resources:\n  file:\n  - {name: /a, content: &c \"x\", meta: &m {poll: 5}}\n  - {name: /b, content: *c, meta: *m}\n"))
	if err != nil {
		t.Fatal(err)
	}
	b := def.Resources[1]
	if *b.Spec.(*File).Content != "x" || b.Meta.Poll != 5*time.Second {
		t.Errorf("got %+v", b)
	}
}

// TestProblems shows one file for each way to be wrong. Every problem must be there, at its place, and no other.
func TestProblems(t *testing.T) {
	file := func(fields string) string { return "resources:\n  file:\n  - {name: /a, " + fields + "}\n" }
	exec := func(fields string) string { return "resources:\n  exec:\n  - {name: e, " + fields + "}\n" }
	noops := "resources:\n  noop:\n  - name: a\n  - name: b\n  - name: c\nedges:\n"
	edge := func(a, b string) string {
		return fmt.Sprintf("- {from: {kind: noop, name: %s}, to: {kind: noop, name: %s}}\n", a, b)
	}
	wantProblems(t, map[string]problemCase{
		"empty":            {"", []string{"f: empty: nothing is defined here"}},
		"no mapping":       {"hello", []string{`1:1: definition: want keys and values, not the text "hello"`}},
		"syntax":           {"graph: x\nresources: [1,2", []string{"2:12: sequence end token ']' not found"}},
		"tab":              {"graph:\n\tx: 1", []string{"2:1: found character '\t' that cannot start any token"}},
		"two documents":    {"graph: a\n---\ngraph: b", []string{"3:1: a second document; one file holds one definition"}},
		"not UTF-8":        {"graph: a\ncomment: \xff", []string{"2:10: not UTF-8"}},
		"double key":       {"graph: a\ngraph: b", []string{`2:1: mapping key "graph" already defined at [1:1]`}},
		"deep":             {"a: " + strings.Repeat("[", 100), []string{"1:36: nested deeper than 32 levels"}},
		"deep block":       {strings.Repeat("- ", 100), []string{"1:65: nested deeper than 32 levels"}},
		"deep indent":      {deepIndent(100), []string{"34:34: nested deeper than 32 levels"}},
		"wrong key":        {"grahp: a", []string{`1:1: definition: unknown key "grahp"; did you mean "graph"?`}},
		"wrong type":       {"graph: [a]", []string{"1:8: graph: want text, not a list"}},
		"number for text":  {file("content: 5"), []string{"3:25: content: want text, not the number 5; quote it"}},
		"wrong nested key": {file("contents: x"), []string{`3:16: file resource: unknown key "contents"; did you mean "content"?`}},
		"key of mgmt":      {file("purge: true"), []string{`3:16: file resource: mgmt knows the key "purge", but it is not supported by this version`}},
		"resources a list": {"resources: []", []string{"1:12: resources: want kinds with lists of resources, not a list"}},
		"kind no list":     {"resources:\n  file: x", []string{`2:9: file: want a list, not the text "x"`}},
		"element empty":    {"resources:\n  file:\n  -", []string{"3:3: file: empty element"}},
		"no name":          {"resources:\n  noop:\n  - comment: x", []string{"3:5: noop resource without a name"}},
		"mgmt's kind":      {"resources:\n  virt:\n  - name: vim\nedges:\n- {from: {kind: virt, name: a}, to: {kind: virt, name: b}}", []string{"2:3: kind \"virt\" needs mgmt itself: run with `--payload mgmt`; the kinds here are exec, file, group, kv, noop, pkg, svc, timer, user"}},
		"mgmt's family":    {"resources:\n  http:server: []", []string{"2:3: kind \"http:server\" needs mgmt itself: run with `--payload mgmt`; the kinds here are exec, file, group, kv, noop, pkg, svc, timer, user"}},
		"unknown kind":     {"resources:\n  fiel: []", []string{`2:3: unknown kind "fiel"; did you mean "file"?`}},
		"twice":            {"resources:\n  noop:\n  - name: a\n  - name: a", []string{"4:11: noop[a] is already defined in line 3"}},
		"one path twice":   {"resources:\n  file:\n  - name: /a\n  - {name: b, path: /x/../a}", []string{"4:21: file[b]: /a is already managed by file[/a]"}},
		"relative":         {"resources:\n  file:\n  - name: a", []string{`3:11: path: "a" is not absolute`}},
		"remove root":      {file("path: /, state: absent"), []string{"3:22: path: the root directory can't be removed"}},
		"content, source":  {file("content: x, source: /b"), []string{"3:36: both content and source; give one of them"}},
		"relative source":  {file("source: b"), []string{`3:24: source: "b" is not absolute; it names a file on the host`}},
		"dir with content": {file("path: /a/, content: x"), []string{"3:36: content: /a/ is a directory, since its path ends in a slash"}},
		"mode":             {file("mode: 0999"), []string{`3:22: mode: want octal digits such as "0644", not the text "0999"`}},
		"mode too large":   {file("mode: 17777"), []string{`3:22: mode: want octal digits such as "0644", not the number 17777`}},
		"state":            {file("state: here"), []string{`3:23: state: want exists or absent, not the text "here"`}},
		"boolean":          {file("force: yes"), []string{`3:23: force: want true or false, not the text "yes"`}},
		"meta of mgmt":     {file("meta: {reverse: true}"), []string{`3:23: meta: mgmt knows the key "reverse", but it is not supported by this version`}},
		"args":             {exec("cmd: a b, args: [c]"), []string{"3:31: args: only without a shell, and with a cmd of one word"}},
		"env":              {exec("env: {A=: x, B: [c]}"), []string{`3:21: env: "A=" can't be the name of a variable`, "3:31: env: B: want text, not a list"}},
		"cwd":              {exec("cwd: a"), []string{`3:20: cwd: "a" is not absolute`}},
		"timeout":          {exec("timeout: 1.5"), []string{"3:24: timeout (seconds): want a whole number, not the number 1.5"}},
		"edge to nothing":  {noops + edge("a", "x"), []string{"7:56: edge: to: there is no resource noop[x]"}},
		"edge half":        {noops + "- {from: {kind: noop, name: a}}", []string{"7:3: edge: to needs a kind and a name"}},
		"edge to itself":   {noops + edge("a", "a"), []string{"7:3: the edges make a cycle: noop[a] → noop[a]"}},
		"cycle":            {noops + edge("a", "b") + edge("b", "c") + edge("c", "a"), []string{"9:3: the edges make a cycle: noop[a] → noop[b] → noop[c] → noop[a]"}},
		"tag":              {"graph: !!str 5", []string{"1:8: tags such as !!str are not supported"}},
		"no anchor":        {"graph: *a", []string{"1:8: alias *a: there is no such anchor"}},
		"merge key":        {"resources:\n  file:\n  - <<: {name: /a}", []string{`3:5: file resource: "<<" is not a plain key`}},
		"several":          {"grap: a\nresources:\n  file:\n  - name: b\n  - {name: /c, mode: x}", []string{`1:1: definition: unknown key "grap"; did you mean "graph"?`, `4:11: path: "b" is not absolute`, `5:22: mode: want octal digits such as "0644", not the text "x"`}},
	})
}

type problemCase struct {
	in   string
	want []string
}

// wantProblems parses each text and wants these problems and no other.
func wantProblems(t *testing.T, cases map[string]problemCase) {
	t.Helper()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			def, err := Parse("f", []byte(c.in))
			var e *Error
			if !errors.As(err, &e) || def != nil {
				t.Fatalf("no *Error but %v, %+v", err, def)
			}
			var got []string
			for _, p := range e.Problems {
				head, _, _ := strings.Cut(p.String(), "\n")
				got = append(got, strings.TrimPrefix(head, "f:"))
			}
			want := c.want
			if strings.HasPrefix(want[0], "f: ") {
				want = []string{strings.TrimPrefix(want[0], "f:")}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
			}
		})
	}
}

func deepIndent(levels int) string {
	var b strings.Builder
	for i := range levels {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestAtMostTenProblems(t *testing.T) {
	var b strings.Builder
	b.WriteString("resources:\n  file:\n")
	for i := range 25 {
		fmt.Fprintf(&b, "  - name: rel%d\n", i)
	}
	_, err := Parse("f", []byte(b.String()))
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) != 10 || e.More != 15 || !strings.HasSuffix(err.Error(), "\nand 15 more") {
		t.Fatalf("got %v", err)
	}
}

func TestCaretAndHarmlessOutput(t *testing.T) {
	_, err := Parse("f", []byte("comment: \"ü\x1b[2J\"\ngrü:  x\nmode: "+strings.Repeat("y", 500)+"\n"))
	if err == nil {
		t.Fatal("no error")
	}
	_, groups := Parse("f", []byte("resources:\n  user:\n  - {name: a, groups: [\"\x1bc\", \"\x1bc\"]}\n"))
	text := err.Error()
	if strings.Contains(text+groups.Error(), "\x1b") {
		t.Errorf("escape sequence passed on: %q", text)
	}
	if want := "    2 | grü:  x\n      | ^"; !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
	for line := range strings.Lines(text) {
		if len(line) > 300 {
			t.Errorf("line of %d bytes", len(line))
		}
	}
	line, column := excerpt(strings.Repeat("a", 300)+"X"+strings.Repeat("b", 300), 301)
	if []rune(line)[column-1] != 'X' || len(line) > maxExcerpt {
		t.Errorf("excerpt %q, %d", line, column)
	}
}

func TestLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), "site.yaml")
	if _, err := Load(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(name, []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	if def, err := Load(name); err != nil || def.File != name {
		t.Errorf("got %+v, %v", def, err)
	}
	if _, err := Parse("f", make([]byte, maxSize+1)); err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
		t.Errorf("too large: %v", err)
	}
}

// TestManyResources holds that a large definition stays linear: a quadratic step would take minutes, not seconds.
func TestManyResources(t *testing.T) {
	const n = 10_000
	var b strings.Builder
	b.WriteString("resources:\n  file:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: f%d, path: /tmp/f%d, content: x}\n", i, i)
	}
	b.WriteString("edges:\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "- {from: {kind: file, name: f%d}, to: {kind: file, name: f%d}}\n", i-1, i)
	}
	begin := cpuTime(t)
	def, err := Parse("f", []byte(b.String()))
	if err != nil || len(def.Resources) != n || len(def.Edges) != n-1 {
		t.Fatalf("%v", err)
	}
	if d := cpuTime(t) - begin; d > 30*time.Second {
		t.Errorf("took %v", d)
	}
}

// cpuTime is how long this process has computed, which says more than a clock where others compute, too.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(everyKind))
	f.Add([]byte("resources: &a\n  file: [*a, {name: *b}]\nedges: [{from: {kind: file}}]"))
	f.Add([]byte("\ufeffgraph: |\r\n  x\r\n---\r\n"))
	f.Add([]byte("? - a\n: !!x &y *y\n<<: {}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		def, err := Parse("f", data)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Problems) == 0 || len(e.Problems) > maxProblems || e.Error() == "" {
				t.Fatalf("not a proper error: %v", err)
			}
			return
		}
		again, err := Parse(def.File, def.Source)
		if err != nil || !reflect.DeepEqual(def, again) {
			t.Fatalf("parsed once, but then: %v\n%+v\n%+v", err, def, again)
		}
		index := def.Index()
		if len(index) != len(def.Resources) {
			t.Fatal("a resource twice")
		}
		for _, e := range def.Edges {
			if _, ok := index[e.From]; !ok {
				t.Fatalf("edge from nothing: %v", e)
			}
			if _, ok := index[e.To]; !ok {
				t.Fatalf("edge to nothing: %v", e)
			}
		}
		for _, r := range def.Resources {
			if r.ID.Name == "" || r.Spec.kind() != r.ID.Kind {
				t.Fatalf("resource %+v", r)
			}
			if f, ok := r.Spec.(*File); ok && !filepath.IsAbs(f.Path) {
				t.Fatalf("relative path %q", f.Path)
			}
		}
	})
}
