package fleet

import (
	"errors"
	"fmt"

	"github.com/mgmt-remote/mgmt-remote/internal/payload"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Update gives a host another graph definition; its name and variables stay. Before Run it takes the place of the first one.
// While the payload runs it is copied to the host, over the connection that there is or the next one, and the payload
// goes on with it; DefinitionUpdated and DefinitionNotUpdated tell what came of that. Of several definitions given
// quickly after one another the last one wins. The error is about the definition, or a host that there is not; then
// nothing changes.
func (f *Fleet) Update(host string, definition []byte) error {
	f.mu.Lock()
	h, ok := f.hosts[host]
	f.mu.Unlock()
	switch {
	case !ok:
		return fmt.Errorf("there is no host %s in this run", host)
	case len(f.opts.Payload.Command) > 0:
		return errors.New("the payload is a command, which has no definition")
	}
	h.Definition = definition
	if err := h.definition().Check(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next := messages.Definition{Version: f.given[host].Version + 1, Source: definition}
	f.given[host] = next
	if f.supervisor != nil {
		f.root.Send(f.supervisor, messages.UpdateDefinition{Host: host, Definition: next})
	}
	return nil
}

func (h *Host) definition() payload.Definition {
	return payload.Definition{File: h.file(), Source: h.Definition, Vars: h.Vars}
}

// file is what the definition is called.
func (h *Host) file() string {
	if h.File == "" {
		return "definition of " + h.Name
	}
	return h.File
}
