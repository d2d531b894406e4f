package messages

import "time"

// JoinGroup makes a host a member of the group that converges together.
type JoinGroup struct{ Host string }

// LeaveGroup takes a host out of the group: failed, unreachable or removed. The others don't wait for it any longer.
type LeaveGroup struct{ Host string }

// HostAttached tells the converge actor that a host's session is held by its current connection, and that its payload has
// the newest definition.
type HostAttached struct {
	Host  string
	Epoch uint64
}

// HostDetached tells that it is not any more.
type HostDetached struct{ Host string }

// HostOutdated tells that a host's definition changed: what the host says is about an old one, until HostAttached says
// that it has the new one. Convergence that was said before does not count any more.
type HostOutdated struct{ Host string }

// ReportQuiet gives the converge actor what a payload that does not speak etcd said of itself; the actor writes the key.
type ReportQuiet struct {
	Host  string
	Quiet bool
}

// ForgetHost asks the converge actor to delete what a host exported: its payload failed, or the host was given up while
// the run goes on. The keys hang on a lease that nobody renews; until its end the others would go on with what is no
// longer true.
type ForgetHost struct{ Host string }

// ReportState asks the converge actor to publish a host's state under the run's keys.
type ReportState struct {
	Host  string
	State string
}

// GroupConverged tells the supervisor that every member was quiet and attached for the whole time.
type GroupConverged struct {
	Members int
	For     time.Duration
}

// HostConverged is the same for one host, where hosts converge one by one.
type HostConverged struct {
	Host string
	For  time.Duration
}

// QuietChanged tells the supervisor what a host's quiet key says now.
type QuietChanged struct {
	Host  string
	Quiet bool
}
