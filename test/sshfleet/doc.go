// Package sshfleet runs a whole fleet of SSH servers inside this process, for the demo and for tests.
//
// The servers really execute: commands run in a shell, SFTP works on the real file system, and remote forwards listen
// on real unix sockets. Each host has a sandbox directory with its own home. A sandbox keeps hosts apart, it doesn't
// lock them in: commands run as the user of this process and can do what that user can, so only listen where
// nobody else can authenticate (loopback and the generated key are the defaults).
//
// Where behaviour matters to a client it is that of OpenSSH's sshd: commands get their own session and no
// signal when the connection goes, socket files of forwards stay behind, an existing socket file refuses a forward,
// keepalives are answered with a failure. On top of that a [Host] has switches for everything that goes wrong on
// networks and servers; all of them may be flipped at any time, from any goroutine.
//
// TCP forwarding, agent forwarding and terminals are refused. The package never leaves its directory, never removes
// it, and imports nothing from the testing packages.
package sshfleet
