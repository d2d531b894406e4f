// Package schemacheck holds what mgmt-remote writes for programs against its JSON Schemas. It is stricter than those: a field
// that they do not name is an error, because it has no documentation.
package schemacheck

import (
	"bytes"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mgmt-remote/mgmt-remote/docs/schema"
)

var (
	events = sync.OnceValues(func() (*jsonschema.Schema, error) { return compile("events", schema.Events) })
	report = sync.OnceValues(func() (*jsonschema.Schema, error) { return compile("report", schema.Report) })
)

// Event returns what is wrong with one line of --output json.
func Event(line []byte) error { return check(events, line) }

// Report returns what is wrong with what --report wrote.
func Report(text []byte) error { return check(report, text) }

func check(compiled func() (*jsonschema.Schema, error), text []byte) error {
	s, err := compiled()
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

func compile(name string, source []byte) (*jsonschema.Schema, error) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(source))
	if err != nil {
		return nil, err
	}
	for _, object := range value.(map[string]any)["$defs"].(map[string]any) {
		object.(map[string]any)["additionalProperties"] = false
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, value); err != nil {
		return nil, err
	}
	return c.Compile(name)
}
