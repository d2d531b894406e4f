// Package shim is everything of mgmt-remote that runs on a host: the parent of the payload while a session lasts.
//
// Main is the program. `start DIR MARKER` makes sure that a daemon serves the session directory DIR and then is a
// dumb pipe between its stdio (an SSH channel) and the daemon's control socket. The daemon starts the payload once,
// keeps its output and exit record on disk until an initiator has acknowledged them, gives it an etcd endpoint
// that outlives connections, and removes the session when told to or when no initiator came back for long.
//
// Two promises hold everything together. A payload is never started twice: shim.json is on disk before the
// payload is started, and where it is there, nothing is started. And the lock file is held by the daemon as long as it
// lives: who gets the lock knows that there is no other.
//
// The package must never import etcd, protoactor or SSH: it is a small binary of its own, copied to every host.
// It never talks to the network, except on 127.0.0.1 where a payload needs a TCP endpoint.
package shim
