package lifecycle

import "github.com/mgmt-remote/mgmt-remote/messages"

// preview goes the way that route goes, with a copy of the machine, tells where it led to, and leaves. Nothing has been changed on the
// host by then.
func (m *Machine) preview(e Probed) {
	next := *m
	next.effects = nil
	next.route(e)
	m.fault, m.trace = next.fault, messages.TraceNone
	if m.fault == nil && !m.Stopping() {
		m.previewed = true
		m.do(Preview{next.state})
	}
	m.becomeDisconnecting()
}
