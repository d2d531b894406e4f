// Package fault is the one error type that mgmt-remote shows to people and bases decisions on.
//
// A Fault says which operation failed on which host, what kind of failure it was, why, and what a person can
// do about it. The kind alone decides what happens next:
// restart strategies never look at anything else. Each seam to the outside (SSH, SFTP, shim) has one classifier
// that makes faults of raw errors; no other code guesses a kind.
//
// The package imports the standard library only, so that messages and embedders can use it.
package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind says what sort of failure a Fault is. It is the only input of a restart decision.
type Kind uint8

// The kinds, from "the link" over "the host" to "ourselves".
const (
	// Unknown is the zero value; it is never put into a Fault by this project and is treated like Bug.
	Unknown Kind = iota
	// Lost: an established connection is gone (reset, EOF, keepalives unanswered).
	Lost
	// Unreachable: no connection could be made (refused, timeout, no route, temporary DNS failure).
	Unreachable
	// Busy: the host is there but takes no more (sshd MaxStartups, channel refused for resources).
	Busy
	// Denied: the host refused our authentication, or there is no method left to try.
	Denied
	// Untrusted: the host key is unknown, changed or revoked.
	Untrusted
	// Environment: the host can't run a session (no usable directory, noexec, disk full, wrong architecture).
	Environment
	// Payload: the payload itself ended badly. A result, not a failure of ours.
	Payload
	// Canceled: somebody asked us to stop.
	Canceled
	// Bug: our own code panicked or broke a promise.
	Bug
)

var kindNames = [...]string{"unknown", "lost", "unreachable", "busy", "denied", "untrusted", "environment", "payload", "canceled", "bug"}

// String returns the kind as one lower-case word, as events and logs show it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// MarshalText makes kinds readable in JSON events.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (k *Kind) UnmarshalText(text []byte) error {
	for i, name := range kindNames {
		if name == string(text) {
			*k = Kind(i)
			return nil
		}
	}
	return fmt.Errorf("unknown fault kind %q", text)
}

// ErrTakenOver is the cause of a fault that says that another initiator drives the run now. Whoever meets it leaves
// without touching anything.
var ErrTakenOver = errors.New("another initiator has taken this run over")

// Fault is a typed error. Values are immutable once returned; copy before changing.
type Fault struct {
	Op     string // what was attempted, in words that fit "cannot …": "connect", "make directory"
	Host   string // the host name in the run; empty where no host is involved
	Kind   Kind   // what decides
	Err    error  // the cause; never nil
	Remedy string // what a person can do, an imperative without a final dot; may be empty
}

// Error reads as "host: op: cause (remedy)".
func (f *Fault) Error() string {
	var b strings.Builder
	if f.Host != "" {
		b.WriteString(f.Host + ": ")
	}
	if f.Op != "" {
		b.WriteString(f.Op + ": ")
	}
	if f.Err != nil {
		b.WriteString(f.Err.Error())
	} else {
		b.WriteString(f.Kind.String())
	}
	if f.Remedy != "" {
		b.WriteString(" (" + f.Remedy + ")")
	}
	return b.String()
}

// Unwrap gives the cause to errors.Is and errors.As.
func (f *Fault) Unwrap() error { return f.Err }

// New makes a fault with a cause given in words.
func New(kind Kind, op, format string, args ...any) *Fault {
	return &Fault{Op: op, Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Wrap makes a fault of err. An error that already is (or wraps) a fault keeps its kind and remedy and only gets
// the operation where it has none, so that the innermost classifier wins. A nil err gives nil.
func Wrap(kind Kind, op string, err error) *Fault {
	if err == nil {
		return nil
	}
	var f *Fault
	if errors.As(err, &f) {
		c := *f
		if c.Op == "" {
			c.Op = op
		}
		return &c
	}
	if errors.Is(err, context.Canceled) {
		kind = Canceled
	}
	return &Fault{Op: op, Kind: kind, Err: err}
}

// WithHost returns a copy that names the host.
func (f *Fault) WithHost(host string) *Fault {
	c := *f
	c.Host = host
	return &c
}

// WithRemedy returns a copy that tells a person what to do.
func (f *Fault) WithRemedy(format string, args ...any) *Fault {
	c := *f
	c.Remedy = fmt.Sprintf(format, args...)
	return &c
}

// KindOf returns the kind of err: the fault's own, Canceled for a canceled context, Unknown otherwise.
func KindOf(err error) Kind {
	var f *Fault
	if errors.As(err, &f) {
		return f.Kind
	}
	if errors.Is(err, context.Canceled) {
		return Canceled
	}
	return Unknown
}
