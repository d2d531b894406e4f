package graph

import (
	"io/fs"
	"strings"
	"time"
)

// Noop is a resource without any effect.
type Noop struct{}

func (*Noop) kind() Kind { return KindNoop }

// State says whether a file, user or group should be there.
type State uint8

// The states.
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
	Path    string  // absolute and clean, except that a directory keeps its final slash
	State   State   // default Exists
	Content *string // what it should contain; nil = not managed here
	Source  string  // a file on the host whose content it should have; empty = not managed here. Directories: a directory (both end in a slash) whose tree is copied, with Recurse
	// Fragments are files on the host, absolute and clean, whose contents in this order make the content. One that ends in a
	// slash is a directory and stands for the regular files directly in it, in the order of their names.
	Fragments []string
	Mode      *fs.FileMode // permission and special bits in Go's notation; nil = not managed here
	Owner     string       // user name or number; empty = not managed here
	Group     string       // group name or number; empty = not managed here
	Recurse   bool         // directories: make parents too, remove with everything in it
	Force     bool         // replace something of another type that is in the way
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

// Running says whether a service should run.
type Running uint8

// What a definition can say about it.
const (
	RunningUnmanaged Running = iota // not managed here
	RunningYes                      // "running"
	RunningNo                       // "stopped"
)

// Startup says whether a service should be started at boot.
type Startup uint8

// What a definition can say about it.
const (
	StartupUnmanaged Startup = iota // not managed here
	StartupEnabled                  // "enabled"
	StartupDisabled                 // "disabled"
)

// Svc is a service of the init system: a unit NAME.service of systemd, or what `service` or OpenRC call NAME. A refresh
// reloads it, or restarts it where it can't be reloaded.
type Svc struct {
	State   Running
	Startup Startup
	Session bool // the service manager of the user that applies the definition; systemd only
}

func (*Svc) kind() Kind { return KindSvc }

// The states of a package that are not versions.
const (
	PkgInstalled   = "installed"   // some version
	PkgUninstalled = "uninstalled" // none
	PkgNewest      = "newest"      // the newest that the configured repositories have
)

// Pkg is a package of the system's package manager (apt, dnf or apk). The resource's name is the package's.
type Pkg struct {
	State          string // PkgInstalled (the default), PkgUninstalled, PkgNewest, or a version as the package manager writes it
	AllowDowngrade bool   // State is a version: also install it over a higher one
	AllowUntrusted bool   // also install what is not signed by a key that the host trusts
}

func (*Pkg) kind() Kind { return KindPkg }

// User is a user account; the resource's name is the login name.
type User struct {
	State             State
	UID               *uint32  // nil = not managed here
	GID               *uint32  // of the primary group; nil = not managed here
	Group             string   // the primary group's name, instead of GID; empty = not managed here
	Groups            []string // exactly the supplementary groups; nil = not managed here
	HomeDir           string   // recorded, never created or moved; empty = not managed here
	Shell             string   // the login shell; empty = not managed here
	AllowDuplicateUID bool
}

func (*User) kind() Kind { return KindUser }

// Group is a group of users; the resource's name is the group's.
type Group struct {
	State State
	GID   *uint32 // nil = not managed here
}

func (*Group) kind() Kind { return KindGroup }

// Timer is always as declared, and each time that Interval is over it counts as changed: what hangs on it with a notify
// edge is refreshed. A refresh of the timer itself begins the interval anew.
type Timer struct {
	Interval time.Duration // at least a second
}

func (*Timer) kind() Kind { return KindTimer }

// CmpStyle says how values are compared for SkipLessThan.
type CmpStyle uint8

// The styles, by mgmt's numbers.
const (
	CmpInt    CmpStyle = iota // as whole numbers
	CmpString                 // byte by byte
)

// KV is a key in what all hosts of the run share.
type KV struct {
	Key          string  // the resource's name if the file gives none
	Value        *string // nil: there should be no such key
	Mapped       bool    // the key is this host's own: Key with the host's name after it
	SkipLessThan bool    // leave a stored value that is greater than Value alone; a refresh writes it all the same
	SkipCmpStyle CmpStyle
}

func (*KV) kind() Kind { return KindKV }
