// Package sshd starts real SSH servers for tests: OpenSSH's sshd and Dropbear, on a loopback port that is theirs until
// the test ends, also while they are stopped, with their own keys, home and log, as the user who runs the test.
//
// A server lives as long as its test and is ended by the PIDs it started, never by name. The log is shown when the test fails.
// The package touches nothing outside the test's directory, with one exception: as root, OpenSSH insists on its
// empty directory /run/sshd, which is made when it is missing (as Debian's service unit does at its start).
//
// A missing program fails the test with the way to get it; no test is skipped.
package sshd
