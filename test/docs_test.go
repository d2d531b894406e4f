package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/actors/host/lifecycle"
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func submatches(re, text string) []string {
	var found []string
	for _, m := range regexp.MustCompile(re).FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

func TestProtocolNamesTheStates(t *testing.T) {
	documented := submatches("(?m)^\\| `([A-Z][A-Za-z]+)` \\|.*\\|.*\\|$", section(t, "## A host's states"))
	var states []string
	for _, s := range lifecycle.States() {
		states = append(states, s.String())
	}
	if !slices.Equal(documented, states) {
		t.Fatalf("docs/protocol.md has %q\nthe code has         %q", documented, states)
	}
}

// The arrows of the drawing must be exactly the ways that the machine goes.
func TestProtocolDrawsTheMachine(t *testing.T) {
	documented := submatches(`(?m)^    (\w+ --> \w+)$`, section(t, "## A host's states"))
	walked := walks()
	slices.Sort(documented)
	for _, arrow := range walked {
		if !slices.Contains(documented, arrow) {
			t.Errorf("docs/protocol.md lacks    %s", arrow)
		}
	}
	for _, arrow := range documented {
		if !slices.Contains(walked, arrow) {
			t.Errorf("the machine never goes    %s", arrow)
		}
	}
}

// walks sends many random rows of events through the machine and returns the arrows between the states it entered,
// sorted. The dice are loaded the same each time.
func walks() []string {
	dice := rand.New(rand.NewPCG(1, 2))
	exit := &messages.Exit{}
	seen := map[string]bool{}
	for range 60_000 {
		var m lifecycle.Machine
		upload := dice.IntN(2) == 0
		forward := []lifecycle.Event{
			lifecycle.DelayOver{}, lifecycle.Permitted{Kind: messages.PermitHandshake}, lifecycle.Permitted{Kind: messages.PermitUpload},
			lifecycle.Connected{}, lifecycle.DirectoryMade{}, lifecycle.Copied{}, lifecycle.TunnelOpened{}, lifecycle.Attached{},
			lifecycle.PayloadExited{}, lifecycle.Left{}, lifecycle.TunnelClosed{}, lifecycle.CleanedUp{}, lifecycle.Disconnected{},
			lifecycle.Attached{Ended: true}, lifecycle.PayloadExited{Exit: messages.Exit{Code: -1, Error: "rebooted", Cause: messages.CauseReboot}},
			lifecycle.Probed{Found: lifecycle.Found(dice.IntN(7)), Upload: upload},
			lifecycle.Probed{Found: lifecycle.Found(dice.IntN(7)), Upload: upload, Exit: exit},
			lifecycle.Probed{Found: lifecycle.FoundNothing, Upload: upload},
		}
		trouble := []lifecycle.Event{
			lifecycle.Stop{Level: messages.StopFinish}, lifecycle.Stop{Level: messages.StopNow}, lifecycle.Stop{Level: messages.StopLeave},
			lifecycle.Finish{Reason: messages.FinishConverged},
			lifecycle.Failed{Fault: fault.New(fault.Environment, "run", "disk full")},
			lifecycle.Failed{Fault: fault.New(fault.Canceled, "run", "%w", fault.ErrTakenOver)},
		}
		state := m.State()
		step := func(event lifecycle.Event) {
			for _, effect := range m.Step(event) {
				switch e := effect.(type) {
				case lifecycle.Enter:
					seen[state.String()+" --> "+e.State.String()] = true
					state = e.State
				case lifecycle.Fail:
					state = lifecycle.Done // the instance ends here
				}
			}
		}
		step(lifecycle.Begun{
			Wait: dice.IntN(2) == 0, Trace: messages.Trace(dice.IntN(3)), Stop: messages.StopLevel(max(0, dice.IntN(12)-8)),
			Reboot: lifecycle.OnReboot(dice.IntN(2)),
		})
		for i := 0; i < 150 && state != lifecycle.Done; i++ {
			if dice.IntN(50) == 0 {
				step(trouble[dice.IntN(len(trouble))])
			} else {
				step(forward[dice.IntN(len(forward))])
			}
		}
	}
	var arrows []string
	for arrow := range seen {
		if from, to, _ := strings.Cut(arrow, " --> "); from != to {
			arrows = append(arrows, arrow)
		}
	}
	slices.Sort(arrows)
	return arrows
}

// Every message that crosses a package border is on the page, and nothing else is.
func TestProtocolNamesTheMessages(t *testing.T) {
	text := read(t, "../docs/protocol.md")
	before, _, _ := strings.Cut(text, "## A host's states")
	named := submatches("`([A-Z][A-Za-z]+)`", before)
	named = slices.DeleteFunc(named, func(name string) bool { return name == "Waiting" })
	declared := messageTypes(t)
	for _, name := range declared {
		if !slices.Contains(named, name) {
			t.Errorf("docs/protocol.md does not name %s", name)
		}
	}
	for _, name := range named {
		if !slices.Contains(declared, name) {
			t.Errorf("docs/protocol.md names %s, which is no message", name)
		}
	}
}

// messageTypes returns the exported types of package messages that actors send each other. Events are documented
// elsewhere, and step.go has words that several messages share.
func messageTypes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../messages/*.go")
	if err != nil {
		t.Fatal(err)
	}
	shared := []string{"Step", "Outcome", "Exit", "Result"} // documented with the events
	var names []string
	for _, name := range files {
		if filepath.Base(name) == "events.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				if typ, ok := spec.(*ast.TypeSpec); ok && typ.Name.IsExported() && !slices.Contains(shared, typ.Name.Name) {
					names = append(names, typ.Name.Name)
				}
			}
		}
	}
	if len(names) == 0 {
		t.Fatal("found no messages")
	}
	return names
}

// What people copy from the documents must work. Templates are rendered with samples.
func TestDefinitionsInDocumentsAreValid(t *testing.T) {
	for name, want := range map[string]int{"../README.md": 1, "../docs/graph.md": 14} {
		definitions := submatches("(?s)```yaml\n(.*?)```", read(t, name))
		if len(definitions) != want {
			t.Errorf("%s has %d definitions, not %d", name, len(definitions), want)
		}
		for _, d := range definitions {
			if _, err := parseExample(filepath.Base(name), d); err != nil {
				t.Error(err)
			}
		}
	}
}

func parseExample(name, text string) (*graph.Definition, error) {
	if !strings.Contains(text, "{{") {
		return graph.Parse(name, []byte(text))
	}
	tmpl, err := graph.ParseTemplate(name, []byte(text))
	if err != nil {
		return nil, err
	}
	return tmpl.Check(graph.Data{Vars: map[string]string{"colour": "blue", "admins": "ada,bob"}})
}

// The tables of docs/graph.md have the keys that the parser takes, and no others; each kind has an example that uses it.
func TestGraphDocumentNamesTheKeys(t *testing.T) {
	sections := map[string]string{}
	for _, s := range strings.Split(read(t, "../docs/graph.md"), "\n## ")[1:] {
		heading, text, _ := strings.Cut(s, "\n")
		sections[strings.ToLower(heading)] = text
	}
	headings := map[string]string{"resource": "resources", "edge": "edges"} // where they are not the name of the mapping
	for what, want := range graph.Keys() {
		heading := what
		if h, ok := headings[what]; ok {
			heading = h
		}
		text, ok := sections[heading]
		if !ok {
			t.Errorf("docs/graph.md has no section %q", heading)
			continue
		}
		var documented []string
		for _, cell := range submatches("(?m)^\\| (`[^|]*`) \\|", text) {
			documented = append(documented, submatches("`([a-z]+)`", cell)...)
		}
		slices.Sort(documented)
		if !slices.Equal(documented, want) {
			t.Errorf("docs/graph.md, %s: documented are %q\nthe code has %q", heading, documented, want)
		}
		if slices.Contains(graph.Kinds(), graph.Kind(what)) && !hasExample(t, graph.Kind(what), text) {
			t.Errorf("docs/graph.md, %s: no example has a resource of this kind", heading)
		}
		delete(sections, heading)
	}
	for heading, text := range sections {
		if strings.Contains(text, "\n| key |") {
			t.Errorf("docs/graph.md has keys of %q, which the code does not know", heading)
		}
	}
}

func hasExample(t *testing.T, kind graph.Kind, text string) bool {
	t.Helper()
	for _, d := range submatches("(?s)```yaml\n(.*?)```", text) {
		def, err := parseExample("graph.md", d)
		if err != nil {
			t.Error(err)
			continue
		}
		if slices.ContainsFunc(def.Resources, func(r graph.Resource) bool { return r.ID.Kind == kind }) {
			return true
		}
	}
	return false
}

// The table of data is what a template can use, and the table of functions is what it can call.
func TestGraphDocumentNamesTheData(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "../docs/graph.md"), "\n## Templates")
	var used strings.Builder
	for _, cell := range submatches("(?m)^\\| (`[^|]*`) \\|", text) {
		for _, word := range submatches("`([^`]+)`", cell) {
			word = strings.NewReplacer("NAME", "colour", "VALUE", ".Host", "PATTERN", ".Host", "SEPARATOR", ".Host", "TEXT", ".Host", "LIST", `(split "" .Host)`).Replace(word)
			used.WriteString("# {{" + word + "}}\n")
		}
	}
	if _, err := parseExample("graph.md", used.String()+"graph: x\n"); err != nil {
		t.Error(err)
	}
	for i := range reflect.TypeFor[graph.Data]().NumField() {
		if field := reflect.TypeFor[graph.Data]().Field(i).Name; !strings.Contains(used.String(), "{{."+field) {
			t.Errorf("docs/graph.md does not name .%s", field)
		}
	}
}

// Links between the documents must lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, top...) {
		for _, link := range submatches(`\]\(([^)]+)\)`, read(t, file)) {
			target, _, _ := strings.Cut(link, "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), target)); err != nil {
				t.Errorf("%s links to %s: %v", filepath.Base(file), link, err)
			}
		}
	}
}

// section returns what follows a heading in docs/protocol.md.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, after, ok := strings.Cut(read(t, "../docs/protocol.md"), heading)
	if !ok {
		t.Fatalf("docs/protocol.md has no %q", heading)
	}
	return after
}

// docs/failures.md names each kind of fault once, and tests that exist.
func TestFailuresAreDocumented(t *testing.T) {
	page := read(t, "../docs/failures.md")
	var documented []string
	for _, heading := range submatches("(?m)^### (.*)$", page) {
		documented = append(documented, strings.Split(heading, ", ")...)
	}
	var kinds []string
	for k := fault.Lost; k <= fault.Bug; k++ {
		kinds = append(kinds, k.String())
	}
	slices.Sort(documented)
	slices.Sort(kinds)
	if !slices.Equal(documented, kinds) {
		t.Errorf("docs/failures.md has %q, the code has %q", documented, kinds)
	}
	var tests []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && d.Name() == ".git" { // which git changes at any moment
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(path, "_test.go") {
			tests = append(tests, submatches(`(?m)^func (Test\w+)\(`, read(t, path))...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range submatches("`(Test[A-Za-z]+)`", page) {
		if !slices.Contains(tests, name) {
			t.Errorf("docs/failures.md names %s, which does not exist", name)
		}
	}
}
