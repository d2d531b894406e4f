package payload

import (
	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/transfer"
)

// Definition is what a graph payload keeps applied on one host.
type Definition struct {
	File   string            // its name, for messages
	Source []byte            // as written
	Vars   map[string]string // for a template
}

// Check finds what is wrong with a definition as far as that can be known without its host.
func (d Definition) Check() error {
	_, err := graph.Parse(d.File, d.Source)
	return err
}

// Definition makes the file that the engine on the request's host follows. The fault is of kind Environment and names
// the place in the definition.
func (p *Payload) Definition(r Request) (transfer.File, error) {
	d := r.Definition
	if _, err := graph.Parse(d.File, d.Source); err != nil {
		return transfer.File{}, fault.Wrap(fault.Environment, "copy", err).WithHost(r.Host)
	}
	return transfer.File{Name: DefinitionFile, Data: d.Source, Mode: 0o600}, nil
}
