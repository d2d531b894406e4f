package console

import (
	"bytes"
	"encoding"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// allEvents has one value of each type of event. TestAllEventsAreHere holds it against the source of messages.
var allEvents = []messages.Event{
	messages.RunStarted{}, messages.StateChanged{}, messages.StepStarted{}, messages.StepDone{},
	messages.HostTroubled{}, messages.Progressed{}, messages.PayloadStarted{}, messages.PayloadRestarted{}, messages.HostWarned{}, messages.HostPlanned{}, messages.PayloadRerun{},
	messages.PayloadEnded{}, messages.DefinitionUpdated{}, messages.DefinitionNotUpdated{},
	messages.OutputReceived{}, messages.OutputDropped{}, messages.QuietReported{}, messages.Converged{},
	messages.WaveStarted{}, messages.WaveFinished{}, messages.RunExceeded{}, messages.RunPaused{}, messages.RunContinued{}, messages.ConnectionsLimited{}, messages.HostFinished{}, messages.RunFinished{},
}

func TestAllEventsAreHere(t *testing.T) {
	files, err := filepath.Glob("../../messages/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of messages: %v", err)
	}
	var declared []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "event" {
				declared = append(declared, f.Recv.List[0].Type.(*ast.Ident).Name)
			}
		}
	}
	var here []string
	for _, e := range allEvents {
		here = append(here, reflect.TypeOf(e).Name())
	}
	slices.Sort(declared)
	slices.Sort(here)
	if !slices.Equal(declared, here) {
		t.Fatalf("messages declares %q\nthe tests know  %q", declared, here)
	}
}

func TestEveryEventCanBePrinted(t *testing.T) {
	for _, e := range allEvents {
		var b bytes.Buffer
		for _, p := range []Printer{
			NewJSON(&b), NewLines(&b, LinesOptions{Verbose: true, Color: true, Terminal: true}), NewFold(&b, FoldOptions{}), NewQuiet(&b, true), NewPlans(&b, true),
		} {
			if err := p.Print(e); err != nil {
				t.Error(err)
			}
		}
	}
	for _, p := range []Printer{NewJSON(&bytes.Buffer{}), NewLines(&bytes.Buffer{}, LinesOptions{}), NewFold(&bytes.Buffer{}, FoldOptions{}), NewQuiet(&bytes.Buffer{}, false)} {
		if err := p.Print(nil); err == nil {
			t.Errorf("%T takes an event it doesn't know", p)
		}
	}
}

// docs/events.md must name exactly the fields that events have, with the right types.
func TestEventsAreDocumented(t *testing.T) {
	documented := documentedFields(t)
	want := map[string]map[string]string{}
	for _, e := range allEvents {
		name := messages.EventName(e)
		want[name] = fieldsOf(reflect.TypeOf(e))
		if _, isOutput := e.(messages.OutputReceived); isOutput {
			want[name]["text"] = "string"
		}
	}
	for _, object := range []reflect.Type{
		reflect.TypeFor[messages.Exit](), reflect.TypeFor[messages.Result](), reflect.TypeFor[messages.PlannedCopy](),
		reflect.TypeFor[Report](), reflect.TypeFor[StepTime](), reflect.TypeFor[WaveCount](), reflect.TypeFor[Warning](), reflect.TypeFor[Failure](),
	} {
		want[object.Name()] = fieldsOf(object)
	}
	if !reflect.DeepEqual(documented, want) {
		for name := range want {
			if !reflect.DeepEqual(documented[name], want[name]) {
				t.Errorf("%s: docs/events.md has\n  %v\nthe code has\n  %v", name, documented[name], want[name])
			}
		}
		for name := range documented {
			if want[name] == nil {
				t.Errorf("docs/events.md documents %s, which does not exist", name)
			}
		}
	}
}

// fieldsOf maps JSON names to the words that the documentation uses for their types.
func fieldsOf(typ reflect.Type) map[string]string {
	fields := map[string]string{}
	for _, f := range reflect.VisibleFields(typ) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "-" {
			continue
		}
		word := typeWord(f.Type)
		if strings.Contains(options, "omitempty") {
			word += ", optional"
		}
		fields[name] = word
	}
	return fields
}

func typeWord(typ reflect.Type) string {
	switch {
	case typ == reflect.TypeFor[time.Time]():
		return "time"
	case typ == reflect.TypeFor[[]byte]():
		return "base64"
	case typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return "string"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return typeWord(typ.Elem())
	case reflect.Map:
		return "object of " + typeWord(typ.Elem())
	case reflect.Slice:
		return "array of " + typeWord(typ.Elem())
	case reflect.Struct:
		return "[" + typ.Name() + "](#" + strings.ToLower(typ.Name()) + ")"
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	default:
		return "number"
	}
}

// documentedFields reads the tables of docs/events.md: heading → field → type.
func documentedFields(t *testing.T) map[string]map[string]string {
	t.Helper()
	source, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]map[string]string{}
	section := ""
	for line := range strings.Lines(string(source)) {
		if heading, ok := strings.CutPrefix(line, "### "); ok {
			section = strings.TrimSpace(heading)
			found[section] = map[string]string{}
		}
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.HasPrefix(line, "| `") {
			found[section][strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2])
		}
	}
	return found
}

func TestJSONIsOneObjectPerLine(t *testing.T) {
	var b bytes.Buffer
	p := NewJSON(&b)
	raw := []byte("a\nb\x1b[2J\xff\u009b31m\x7f")
	if err := p.Print(messages.OutputReceived{Host: "web1", Offset: 7, Stderr: true, Data: raw}); err != nil {
		t.Fatal(err)
	}
	if err := p.Print(messages.StepDone{Host: "web1", Step: messages.StepCopy, Took: time.Second}); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range b.Bytes() {
		if c != '\n' && c < ' ' || c == 0x7f {
			t.Fatalf("control character %q in %q", c, b.String())
		}
	}
	if strings.Contains(b.String(), "\u009b") {
		t.Fatalf("C1 character in %q", b.String())
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2: %q", len(lines), lines)
	}
	var out struct {
		Type, Host, Text string
		Offset           uint64
		Stderr           bool
		Data             []byte
	}
	if err := json.Unmarshal([]byte(lines[0]), &out); err != nil {
		t.Fatal(err)
	}
	if out.Type != "output_received" || out.Host != "web1" || out.Offset != 7 || !out.Stderr ||
		!bytes.Equal(out.Data, raw) || out.Text != "a\nb\x1b[2J\uFFFD\u009b31m\x7f" {
		t.Fatalf("got %+v", out)
	}
	if want := `{"type":"step_done","at":"0001-01-01T00:00:00Z","host":"web1","epoch":0,"step":"copy","took_ns":1000000000}`; lines[1] != want {
		t.Fatalf("got  %s\nwant %s", lines[1], want)
	}
}
