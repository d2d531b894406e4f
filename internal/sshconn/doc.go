// Package sshconn is the SSH client: it dials a host, checks its host key, authenticates, keeps the connection
// alive and runs commands, subsystems and Unix socket forwards on it. It is the only client user of golang.org/x/crypto/ssh.
//
// Three promises hold for everything here. A blocking call ends when its context does and when the connection dies, also while
// a send on a dead link blocks for ever. Every error is a *fault.Fault that names the host, except
// *ExitError (the remote command ended badly, which is no failure of the connection) and errors of the caller's own readers and writers. No secret is in an error, a log or an argument.
//
// The package never retries: a refused authentication ends the dial, and whoever dials decides about the next attempt by the
// fault's kind. The classifier in classify.go is the one place where raw errors become kinds.
package sshconn
