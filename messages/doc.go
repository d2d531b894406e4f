// Package messages holds every message that crosses a package border between actors, and the events that the
// supervisor publishes to whoever watches a run.
//
// Messages are immutable structs: no channels, no clients, no functions. Commands are in the imperative
// (OpenTunnel), events in the past tense (TunnelOpened). There is one file per conversation:
//
//	supervision.go  fleet → supervisor ↔ host
//	sftp.go         host ↔ sftp (steps 2, 3 and 8)
//	tunnel.go       host ↔ tunnel (steps 4 and 7)
//	exec.go         host ↔ exec (steps 5, 6 and 8)
//	converge.go     supervisor ↔ converge
//	events.go       host → supervisor → observers
//
// A failure is never a message: an actor that fails panics with a *fault.Fault and its parent decides.
// The package imports the standard library and package fault only.
package messages
