// Package schema has JSON Schemas (draft 2020-12) of what mgmt-remote writes for programs. They are made from the types and
// from docs/events.md, and a test holds them against both: go test ./internal/console -run TestSchemas -update
package schema

import _ "embed" // for the schemas

// Events describes one event: one line of --output json.
//
//go:embed events.schema.json
var Events []byte

// Report describes what --report writes.
//
//go:embed report.schema.json
var Report []byte
