package console

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/schemacheck"
)

var update = flag.Bool("update", false, "write the schemas in docs/schema anew")

// The schemas say what the types and docs/events.md say.
func TestSchemas(t *testing.T) {
	for name, made := range map[string]map[string]any{"events": eventsSchema(t), "report": reportSchema(t)} {
		text, err := json.MarshalIndent(made, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, '\n')
		path := "../../docs/schema/" + name + ".schema.json"
		if *update {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if there, err := os.ReadFile(path); err != nil || !bytes.Equal(there, text) {
			t.Errorf("%s is not what the types and docs/events.md say, %v: go test ./internal/console -run TestSchemas -update", path, err)
		}
	}
}

// Each event with all its fields, and with as few as there may be, fits the schema, and has no field that it does not know.
func TestEventsFitTheSchema(t *testing.T) {
	for _, e := range allEvents {
		for _, full := range []bool{true, false} {
			sample := reflect.New(reflect.TypeOf(e)).Elem()
			fill(t, sample, full)
			line, err := messages.EncodeEvent(sample.Interface().(messages.Event))
			if err != nil {
				t.Fatal(err)
			}
			if err := schemacheck.Event(line); err != nil {
				t.Errorf("%s: %v\n%s", messages.EventName(e), err, line)
			}
		}
	}
	for _, line := range []string{
		`{}`, `[]`, `{"type":"from_the_future","at":"2026-01-01T00:00:00Z"}`, `{"type":"quiet_reported","at":"2026-01-01T00:00:00Z","host":"h"}`,
		`{"type":"quiet_reported","at":"2026-01-01T00:00:00Z","host":1,"quiet":true}`, `{"type":"quiet_reported","at":"yesterday","host":"h","quiet":true}`,
		`{"type":"quiet_reported","at":"2026-01-01T00:00:00Z","host":"h","quiet":true,"more":1}`,
	} {
		if schemacheck.Event([]byte(line)) == nil {
			t.Errorf("fits: %s", line)
		}
	}
}

func TestReportsFitTheSchema(t *testing.T) {
	full := reflect.New(reflect.TypeFor[Report]()).Elem()
	fill(t, full, true)
	for _, r := range []any{full.Interface(), NewCollector().Report(), reportOf(results, messages.StepDone{Host: "h", Step: messages.StepRun})} {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := schemacheck.Report(text); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

// schemas makes definitions of types.
type schemas struct {
	defs  map[string]any
	texts map[string]map[string]string // docs/events.md: heading → field → meaning, and "" → the text before the table
}

func newSchema(t *testing.T, file, title string) (*schemas, map[string]any) {
	s := &schemas{defs: map[string]any{}, texts: meanings(t)}
	return s, map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$id":     "https://github.com/mgmt-remote/mgmt-remote/docs/schema/" + file,
		"title":   title, "description": "Made from the program's types and docs/events.md. Fields are only ever added.", "$defs": s.defs,
	}
}

func eventsSchema(t *testing.T) map[string]any {
	s, top := newSchema(t, "events.schema.json", "One event of mgmt-remote, a line of --output json")
	var all []any
	for _, e := range allEvents {
		name := messages.EventName(e)
		s.define(name, reflect.TypeOf(e))
		event := s.defs[name].(map[string]any)
		properties := event["properties"].(map[string]any)
		properties["type"] = map[string]any{"const": name}
		required := []string{"type"}
		if _, isOutput := e.(messages.OutputReceived); isOutput {
			properties["text"] = map[string]any{"type": "string", "description": s.texts[name]["text"]}
			required = append(required, "text")
		}
		event["required"] = append(required, event["required"].([]string)...)
		all = append(all, map[string]any{"$ref": "#/$defs/" + name})
	}
	top["oneOf"] = all
	return top
}

func reportSchema(t *testing.T) map[string]any {
	s, top := newSchema(t, "report.schema.json", "The report of a run of mgmt-remote, as --report writes it")
	s.define("Report", reflect.TypeFor[Report]())
	top["$ref"] = "#/$defs/Report"
	return top
}

func (s *schemas) define(name string, typ reflect.Type) {
	properties, required := map[string]any{}, []string{}
	s.defs[name] = map[string]any{"type": "object", "description": s.texts[name][""], "properties": properties}
	for _, f := range reflect.VisibleFields(typ) {
		field, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if field == "-" {
			continue
		}
		value := maps.Clone(s.value(f.Type))
		if text := s.texts[name][field]; text != "" {
			value["description"] = text
		}
		properties[field] = value
		if !strings.Contains(options, "omitempty") {
			required = append(required, field)
		}
	}
	s.defs[name].(map[string]any)["required"] = required
}

func (s *schemas) value(typ reflect.Type) map[string]any {
	switch typ {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[[]byte]():
		return map[string]any{"type": "string", "contentEncoding": "base64"}
	case reflect.TypeFor[messages.Step]():
		return enumeration(func(i int) any { return messages.Step(i + 1) })
	case reflect.TypeFor[messages.Outcome]():
		return enumeration(func(i int) any { return messages.Outcome(i + 1) })
	case reflect.TypeFor[fault.Kind]():
		return enumeration(func(i int) any { return fault.Kind(i) })
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return s.value(typ.Elem())
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.value(typ.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.value(typ.Elem())}
	case reflect.Struct:
		if s.defs[typ.Name()] == nil {
			s.define(typ.Name(), typ)
		}
		return map[string]any{"$ref": "#/$defs/" + typ.Name()}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Uint, reflect.Uint8, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	default:
		return map[string]any{"type": "integer"}
	}
}

// enumeration has all words of a type: those from the first on that are no "type(42)".
func enumeration(of func(i int) any) map[string]any {
	var words []string
	for i := 0; ; i++ {
		word := fmt.Sprint(of(i))
		if strings.Contains(word, "(") {
			return map[string]any{"type": "string", "enum": words}
		}
		words = append(words, word)
	}
}

// meanings reads docs/events.md.
func meanings(t *testing.T) map[string]map[string]string {
	t.Helper()
	source, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]map[string]string{}
	var section map[string]string
	for line := range strings.Lines(string(source)) {
		line = strings.TrimSpace(line)
		heading, isHeading := strings.CutPrefix(line, "### ")
		switch cells := strings.Split(line, "|"); {
		case isHeading:
			section = map[string]string{}
			found[heading] = section
		case section == nil || line == "" || strings.HasPrefix(line, "#"):
		case len(cells) == 5 && strings.HasPrefix(cells[1], " `"):
			section[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[3])
		case !strings.HasPrefix(line, "|"):
			section[""] = strings.TrimSpace(section[""] + " " + line)
		}
	}
	return found
}

// fill gives every field a value, or only those that are never left out.
func fill(t *testing.T, v reflect.Value, full bool) {
	t.Helper()
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 11, 25, 1, 2, 3, 4, time.UTC)))
		return
	case reflect.TypeFor[fault.Kind](), reflect.TypeFor[messages.Step](), reflect.TypeFor[messages.Outcome]():
		v.SetUint(2)
		return
	case reflect.TypeFor[*fault.Fault]():
		return // not in JSON
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if full || !strings.Contains(v.Type().Field(i).Tag.Get("json"), "omitempty") {
				fill(t, v.Field(i), full)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0), full)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("ok"), reflect.ValueOf(1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), full)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(7)
	default:
		t.Fatalf("the test can't fill a %s", v.Type())
	}
}

// Every type of event is in the schema, and nothing else is.
func TestSchemaHasEveryEvent(t *testing.T) {
	text, err := os.ReadFile("../../docs/schema/events.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		OneOf []struct {
			Ref string `json:"$ref"`
		} `json:"oneOf"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	var there, want []string
	for _, ref := range schema.OneOf {
		there = append(there, strings.TrimPrefix(ref.Ref, "#/$defs/"))
	}
	for _, e := range allEvents { // TestAllEventsAreHere holds it against the source
		want = append(want, messages.EventName(e))
	}
	slices.Sort(there)
	slices.Sort(want)
	if !slices.Equal(there, want) {
		t.Errorf("the schema has %q\nthe events are %q", there, want)
	}
}
