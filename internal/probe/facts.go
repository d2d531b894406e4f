package probe

import (
	"encoding"
	"errors"
	"fmt"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// Facts is what a host answered.
type Facts struct {
	OS, Arch string // in Go's words: "linux", "amd64"; an unknown machine keeps uname's word in lower case
	Kernel   string // uname -r
	BootID   string // changes with every boot; "" where the system has none
	User     string
	UID      int // the effective one
	Home     string
	Shell    string // the login shell as the host names it

	Base       string // the base directory to use, DIR/mgmt-remote-<uid>; "" if no candidate is usable
	BaseExists bool
	Rejected   []Rejected // candidates that were tried before and don't do, in order
	FreeBytes  int64      // what the user may still write below Base; -1 when not known

	// Cached are the complete files in Base's cache, each as "<sha256>/<name>".
	Cached   []string
	Sessions []Session // sessions of this run and host, in every candidate base, at most one a base
	Tools    Tools
}

// Rejected is a candidate directory that can't be used.
type Rejected struct {
	Dir    string
	Reason string // reads after "DIR ": "is mounted noexec"
}

// Session is a session of the asked run and host.
type Session struct {
	Base, Dir string
	State     SessionState
}

// Tools are the programs of a host that a copy makes use of.
type Tools struct {
	Gzip   bool
	SHA256 string // "sha256sum", "shasum", "sha256", "openssl", or "" if there is none
}

// SessionState is what a look at a session directory says.
type SessionState uint8

// The states, in the order in which a session walks through them.
const (
	SessionNone     SessionState = iota // no session directory
	SessionPrepared                     // the directory is there, a shim was never started in it
	SessionStarted                      // a shim was started, no live one is visible
	SessionLive                         // the shim recorded there is alive: same process ID, start time and boot
)

var stateNames = [...]string{"none", "prepared", "started", "live"}

var (
	_ encoding.TextMarshaler   = SessionState(0)
	_ encoding.TextUnmarshaler = (*SessionState)(nil)
)

// String returns the state as one word.
func (s SessionState) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// MarshalText makes states readable.
func (s SessionState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (s *SessionState) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if name == string(text) {
			*s = SessionState(i)
			return nil
		}
	}
	return fmt.Errorf("unknown session state %q", text)
}

// Session returns the session to care about: the one that got furthest. Its State is SessionNone if there is none.
func (f Facts) Session() Session {
	var best Session
	for _, s := range f.Sessions {
		if s.State > best.State {
			best = s
		}
	}
	return best
}

// Usable returns nil when a new session can be made on the host, and otherwise an Environment fault that lists every rejected directory
// with its reason.
func (f Facts) Usable() error {
	if f.Base != "" {
		return nil
	}
	reasons := make([]string, 0, len(f.Rejected))
	for _, r := range f.Rejected {
		reasons = append(reasons, r.Dir+" "+r.Reason)
	}
	list := strings.Join(reasons, "; ")
	if list == "" {
		list = "no candidate was named"
	}
	return &fault.Fault{
		Op: "make directory", Kind: fault.Environment,
		Err:    errors.New("no usable directory: " + list),
		Remedy: "name one that belongs to the user or root and can execute with --prefix DIR",
	}
}
