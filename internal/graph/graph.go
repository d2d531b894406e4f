// Package graph reads and checks definitions: the YAML files that say what a host should look like.
//
// The format is mgmt's. A definition has resources, and edges that order them. Both ends use this package: the initiator
// refuses a bad file before it connects anywhere, the host parses the same bytes again.
//
//	def, err := graph.Load("site.yaml")
//
// A definition can also be written as a template, which the initiator renders for each host; see Template.
//
// Every problem names file, line and column and shows the line; all problems of a file come at once, as one *Error.
// The package only reads bytes. It never touches the resources it describes, never asks the machine it runs on whether
// a path or user exists (that may be another machine), and what it does not know it refuses: a misspelt key is an
// error, never ignored.
package graph

import (
	"path"
	"strings"
	"time"
)

// Kind names a sort of resource.
type Kind string

// The kinds that this version applies.
const (
	KindNoop Kind = "noop" // does nothing; a point to hang edges on
	KindFile Kind = "file" // a file or directory
	KindExec Kind = "exec" // a command

	KindSvc   Kind = "svc"   // a service of the init system
	KindPkg   Kind = "pkg"   // a package of the system's package manager
	KindUser  Kind = "user"  // a user account
	KindGroup Kind = "group" // a group of users
	KindTimer Kind = "timer" // a clock that notifies
	KindKV    Kind = "kv"    // a key in what the hosts of a run share
)

// ID identifies a resource within a definition.
type ID struct {
	Kind Kind
	Name string
}

// String writes the ID as people know it from mgmt: file[motd].
func (id ID) String() string { return string(id.Kind) + "[" + id.Name + "]" }

// Position is a place in the definition file. Lines and columns count from 1, columns in characters. The zero value
// means unknown.
type Position struct {
	Line, Column int
}

func (at Position) after(other Position) bool {
	return at.Line > other.Line || at.Line == other.Line && at.Column > other.Column
}

// Definition is a checked definition. It is immutable after Parse returned it; many goroutines may read it.
type Definition struct {
	File      string     // the name that Parse was given, for messages
	Name      string     // the key `graph`; may be empty
	Comment   string     // free text
	Remote    string     // the host that this file is for, as written; empty if it names none. The caller parses it
	RemoteAt  Position   // where Remote stands
	Resources []Resource // in the order of the file
	Edges     []Edge     // in the order of the file; both ends exist, and there is no cycle
	Collect   []Collect  // in the order of the file
	Source    []byte     // the bytes that were parsed

	rendered string // as in Problem
}

// ExportMark begins the names of exported resources.
const ExportMark = "@@"

// Resource is one thing that a definition declares. An exported one, whose name begins with ExportMark, is not applied on
// this host but offered to the others.
type Resource struct {
	ID   ID
	At   Position
	Meta Meta
	Spec Spec
}

// Exported reports whether the resource is offered to other hosts instead of applied here.
func (r *Resource) Exported() bool { return strings.HasPrefix(r.ID.Name, ExportMark) }

// Collect brings in what hosts of the run export, and keeps it so while that changes.
type Collect struct {
	At      Position
	Kind    Kind   // KindFile, the only one that is exchanged
	Pattern string // the directory that collected files are placed in: absolute, clean, with a final slash
	Name    string // only exports whose names (without ExportMark) match this, as path.Match does; empty = all
}

// Wants reports whether an export of this kind and name, without ExportMark, is to be collected.
func (c Collect) Wants(kind Kind, name string) bool {
	if c.Kind != kind || c.Name == "" {
		return c.Kind == kind
	}
	matches, err := path.Match(c.Name, name)
	return matches && err == nil // a bad pattern does not pass Parse
}

// Spec holds the fields of one kind: *Noop, *File, *Exec, *Svc, *Pkg, *User, *Group, *Timer or *KV.
type Spec interface {
	kind() Kind
}

// Meta holds what the engine, not the resource, acts upon.
type Meta struct {
	Noop  bool          // only say what would change
	Retry int           // attempts after the first failed one; -1 = without end
	Delay time.Duration // pause before such an attempt; milliseconds in the file
	Poll  time.Duration // look again that often, besides watching; seconds in the file; 0 = do not poll

	Limit      float64 // looks per second in the long run; 0 = as many as there are reasons for
	Burst      int     // looks at once, where there is a Limit; at least 1 then
	Sema       []Sema  // hold one place of each of these while looking and applying
	NoAutoEdge bool    // no edges but those that the definition gives
}

// Sema is a counting semaphore, shared by all resources of a definition that name it.
type Sema struct {
	Name  string
	Count int // at least 1
}

// Edge orders two resources: To waits until From is as declared. With Notify, To is refreshed whenever From changed
// something.
type Edge struct {
	Name     string
	At       Position
	From, To ID
	Notify   bool
}

// Index maps each resource's ID to its place in Resources.
func (d *Definition) Index() map[ID]int {
	index := make(map[ID]int, len(d.Resources))
	for i, r := range d.Resources {
		index[r.ID] = i
	}
	return index
}
