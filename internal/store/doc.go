// Package store keeps what must outlive a connection or the initiator itself: the etcd of a run, and the run's
// own state on disk (a journal of what was started where, and each host's output).
//
//	<root>/<run>/            0700, locked with flock by the one initiator that drives the run
//	  spec.json              what the run is to do, without secrets
//	  initiator.json         who drives it, and how many did before
//	  journal.jsonl          one line per durable step of a session, and per result
//	  logs/<host>.log        the payload's output, plain bytes
//	  logs/<host>.gaps       where output was lost before it reached us
//	  etcd/                  the embedded etcd's data
//
// What it must never do: open a TCP port or a socket that another user could reach; report a record as written
// before it is on the disk; put the token of a session anywhere but into the journal (0600).
package store
