// Package leftovers finds what a session left behind on this machine: processes, unix sockets and files that have
// to do with a directory.
//
// Tests and the demo give every host its own directory and, at the end, ask this package whether anything is left of
// it. It only looks; it never kills and never removes. Processes and sockets are read from /proc, so they need
// Linux: elsewhere the functions return an error, because "found nothing" would be a lie.
//
// What can be seen depends on who looks: the environment, the working directory and the executable of another user's
// process are readable for root only (proc(5)). A process that can't be read counts as not related.
package leftovers
