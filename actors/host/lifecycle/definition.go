package lifecycle

// definitions are the versions that matter: 0 for none, higher ones are newer.
type definitions struct {
	newest  uint64 // that we were told of
	planned uint64 // that step 3 copies: the newest at the time of the probe
	there   uint64 // that is on the host
	tried   uint64 // that this connection copied last while the payload ran, or tried to
	copying uint64 // on its way there while the payload runs
}

// CopyingDefinition returns the version of the definition that is on its way to the running payload; 0 for none.
func (m *Machine) CopyingDefinition() uint64 { return m.defs.copying }

// Definition returns the version of the definition that is on the host, as far as we know; 0 for none.
func (m *Machine) Definition() uint64 { return m.defs.there }

// stepDefinition is about definitions that change while the run goes on.
func (m *Machine) stepDefinition(event Event) {
	d := &m.defs
	switch e := event.(type) {
	case DefinitionChanged:
		d.newest = max(d.newest, e.Version)
	case DefinitionCopied:
		if d.copying == 0 || d.copying != e.Version {
			return // given up meanwhile
		}
		d.there, d.copying = e.Version, 0
	case DefinitionNotCopied:
		if d.copying == 0 || d.copying != e.Version {
			return
		}
		d.copying = 0
	}
	m.follow()
}

// follow has the newest definition copied to the running payload, unless the host has it or refused it on this
// connection. Copies follow each other, so that the last one wins; what was changed again meanwhile is left out.
func (m *Machine) follow() {
	d := &m.defs
	if m.state == Running && d.copying == 0 && d.newest > max(d.there, d.tried) {
		d.copying, d.tried = d.newest, d.newest
		m.do(CopyDefinition{d.newest})
	}
}

// abandonDefinition gives a copy up where Running ends: what follows is the way out, and a late file must not get in the
// way of the removal of its directory.
func (m *Machine) abandonDefinition() {
	if m.defs.copying != 0 {
		m.defs.copying = 0
		m.do(AbandonDefinition{})
	}
}
