// Package graph reads and checks definitions: the YAML files that say what a host should look like.
//
// The format is mgmt's. A definition has resources (noop, file, exec), and edges that order them. Both ends use this
// package: the initiator refuses a bad file before it connects anywhere, the host parses the same bytes again.
//
//	def, err := graph.Load("site.yaml")
//
// Every problem names file, line and column and shows the line; all problems of a file come at once, as one *Error.
// The package only reads bytes. It never touches the resources it describes, never asks the machine it runs on whether
// a path or user exists (that may be another machine), and what it does not know it refuses: a misspelt key is an
// error, never ignored.
package graph

import (
	"io/fs"
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

// Definition is a checked definition. It is immutable after Parse returned it; many goroutines may read it.
type Definition struct {
	File      string     // the name that Parse was given, for messages
	Name      string     // the key `graph`; may be empty
	Comment   string     // free text
	Remote    string     // the host that this file is for, as written; empty if it names none. The caller parses it
	RemoteAt  Position   // where Remote stands
	Resources []Resource // in the order of the file
	Edges     []Edge     // in the order of the file; both ends exist, and there is no cycle
	Source    []byte     // the bytes that were parsed
}

// Resource is one thing that a definition declares.
type Resource struct {
	ID   ID
	At   Position
	Meta Meta
	Spec Spec
}

// Spec holds the fields of one kind: *Noop, *File or *Exec.
type Spec interface {
	kind() Kind
}

// Meta holds what the engine, not the resource, acts upon.
type Meta struct {
	Noop  bool          // only say what would change
	Retry int           // attempts after the first failed one; -1 = without end
	Delay time.Duration // pause before such an attempt; milliseconds in the file
	Poll  time.Duration // look again that often, besides watching; seconds in the file; 0 = do not poll
}

// Edge orders two resources: To waits until From is as declared. With Notify, To is refreshed whenever From changed
// something.
type Edge struct {
	Name     string
	At       Position
	From, To ID
	Notify   bool
}

// Noop is a resource without any effect.
type Noop struct{}

func (*Noop) kind() Kind { return KindNoop }

// State says whether a file should be there.
type State uint8

// The states of a file.
const (
	Exists State = iota
	Absent
)

// String returns the word that a definition uses.
func (s State) String() string {
	if s == Absent {
		return "absent"
	}
	return "exists"
}

// File is a file, or a directory where the path ends in a slash.
type File struct {
	Path    string       // absolute and clean, except that a directory keeps its final slash
	State   State        // default Exists
	Content *string      // what it should contain; nil = not managed here
	Source  string       // a file on the host whose content it should have; empty = not managed here
	Mode    *fs.FileMode // permission and special bits in Go's notation; nil = not managed here
	Owner   string       // user name or number; empty = not managed here
	Group   string       // group name or number; empty = not managed here
	Recurse bool         // directories: make parents too, remove with everything in it
	Force   bool         // replace something of another type that is in the way
}

func (*File) kind() Kind { return KindFile }

// Directory reports whether the resource is a directory.
func (f *File) Directory() bool { return strings.HasSuffix(f.Path, "/") }

// Location is the path without the slash that marks directories.
func (f *File) Location() string {
	if f.Path == "/" {
		return f.Path
	}
	return strings.TrimSuffix(f.Path, "/")
}

// Exec is a command. It runs once per start of the engine, again when it is refreshed over a notify edge, when its
// watch command prints a line and whenever it is polled; IfCmd guards each of these runs.
//
// Without a shell a command line is split at white space and nothing in it is special, quotes neither. With a shell it
// is the one argument of `SHELL -c`.
type Exec struct {
	Cmd        string            // the command line; the resource's name if the file gives none
	Args       []string          // exact arguments; only without a shell and with a Cmd of one word
	Shell      string            // for Cmd
	Cwd        string            // working directory of all commands; empty = the engine's
	Env        map[string]string // added to the engine's environment, for all commands
	User       string            // run as this user; empty = as the engine
	Group      string            // run as this group; empty = the user's
	Timeout    time.Duration     // for Cmd and for IfCmd each; 0 = none
	IfCmd      string            // Cmd runs only if this exits with 0; empty = no condition
	IfShell    string            // for IfCmd
	WatchCmd   string            // every line it prints makes the resource look again; empty = none
	WatchShell string            // for WatchCmd
	PollInt    time.Duration     // look again that often; 0 = do not poll
}

func (*Exec) kind() Kind { return KindExec }

// Index maps each resource's ID to its place in Resources.
func (d *Definition) Index() map[ID]int {
	index := make(map[ID]int, len(d.Resources))
	for i, r := range d.Resources {
		index[r.ID] = i
	}
	return index
}
