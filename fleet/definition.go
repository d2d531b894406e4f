package fleet

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/internal/payload"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Update gives a host another graph definition, a template where the first one was; its name and the host's variables
// stay. Before Run it takes the place of the first one. While the payload runs it is copied to the host, over the
// connection that there is or the next one, and the payload goes on with it; DefinitionUpdated and DefinitionNotUpdated
// tell what came of that. Of several definitions given quickly after one another the last one wins. The error is about
// the definition, or a host that there is not; then nothing changes. Nobody may change the bytes afterwards.
func (f *Fleet) Update(host string, definition []byte) error {
	f.mu.Lock()
	h, ok := f.hosts[host]
	f.mu.Unlock()
	switch {
	case !ok:
		return fmt.Errorf("there is no host %s in this run", host)
	case !f.isGraph():
		return errors.New("the payload of this run has no definition")
	}
	h.Definition = definition
	if err := f.check(h); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next := messages.Definition{Version: f.given[host].Version + 1, Source: definition}
	f.given[host] = next
	f.changed()
	if f.supervisor != nil {
		f.root.Send(f.supervisor, messages.UpdateDefinition{Host: host, Definition: next})
	}
	return nil
}

// isGraph reports whether the payload is a graph.
func (f *Fleet) isGraph() bool { return len(f.opts.Payload.Command) == 0 && f.opts.Payload.Mgmt == nil }

// check checks a host's definition. Many hosts have the same one: what is no template is parsed once.
func (f *Fleet) check(h Host) error {
	d := payload.Definition{File: h.file(), Source: h.Definition, Vars: h.Vars}
	plain := !graph.IsTemplate(d.File) && len(d.Vars) == 0
	f.mu.Lock()
	known := plain && f.checked != nil && bytes.Equal(f.checked, d.Source)
	f.mu.Unlock()
	if known {
		return nil
	}
	if _, err := d.Check(h.Name, h.Addr); err != nil {
		return err
	}
	if plain {
		f.mu.Lock()
		f.checked = d.Source
		f.mu.Unlock()
	}
	return nil
}

// file is what the definition is called.
func (h *Host) file() string {
	if h.File == "" {
		return "definition of " + h.Name
	}
	return h.File
}
