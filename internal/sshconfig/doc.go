// Package sshconfig reads OpenSSH's client configuration, ssh_config(5), and says what it means for a host: what
// `ssh -G HOST` says, and where each value stands. A file is parsed once, however many hosts are looked up.
//
// All syntax counts: Host, Match with every criterion, Include, tokens, environment variables, IgnoreUnknown. Keywords that
// change nothing for us are accepted and their values are not looked at. Name servers are asked where
// CanonicalizeHostname says so. docs/ssh-config.md tells what is used, and where ssh does something else.
package sshconfig
