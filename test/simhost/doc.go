// Package simhost simulates remote machines in memory: an SSH server per host that understands exactly the commands
// an initiator sends (probe, SFTP, install, start, attach, tunnel, remove), with a file tree, sessions and payloads
// that are data. Thousands of hosts fit into one process, and a test inside testing/synctest can run minutes of a
// host's life in no time and break it at any step.
//
//	network := simhost.NewNetwork()
//	host := simhost.New(simhost.Options{Name: "h1", AuthorizedKey: key, Payload: simhost.Payload{Run: time.Minute}})
//	defer host.Close()
//	network.Add("h1:22", host)
//	… sshconn.Options{NetDial: network.DialContext} …
//
// It never starts a process, never opens a real file and opens no socket; only package loopback puts real
// listeners in front. Every wait is on a channel or a sync.Cond, never in a lock, so that synctest's clock moves. Create and use a
// host inside one bubble. The stdio tunnel uses yamux, whose global pool of timers survives a bubble: call
// runtime.GC twice between two bubbles that use it.
//
// What it is not: a shell. Scripts are recognised by their command line and read for the variables at their head.
// fsync@openssh.com is not offered, since pkg/sftp's server has no place for it.
package simhost
