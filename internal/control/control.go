// Package control is how other processes of the same user talk to the initiator of a run: a Unix socket in the run's
// directory, which nobody else can look into.
//
// A client sends one request, a JSON object on a line. The answer is one JSON object on a line, or, for events, a line for
// each event until the run ends or the client goes away. Nothing here decides anything: the initiator's Handler does.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// SocketName is the name of the socket in a run's directory. Where its path would be too long for a socket, it is a symbolic
// link to a socket in a directory of its own.
const SocketName = "ctl.sock"

// maxPath is what sun_path takes everywhere, without its final NUL.
const maxPath = 103

// tmpPrefix begins the names of directories for sockets that have no place in their run's.
const tmpPrefix = "mgmt-remote-ctl-"

// Op is what is asked for.
type Op string

// The requests.
const (
	OpStatus   Op = "status"   // answered with Handler.Status
	OpEvents   Op = "events"   // answered with all events from a snapshot on
	OpStop     Op = "stop"     // stop the run, Level says how hard
	OpRetry    Op = "retry"    // end the waiting of Host, or of all hosts, at once
	OpPause    Op = "pause"    // begin no more hosts
	OpContinue Op = "continue" // begin hosts again
	OpLimit    Op = "limit"    // have Limit hosts in work at the same time; 0 = all
	OpDrop     Op = "drop"     // finish Host and take it out of the run

	OpLeave Op = "leave" // leave the run as it is, for another initiator
)

// Request is what a client asks for.
type Request struct {
	Op    Op     `json:"op"`
	Level int    `json:"level,omitempty"` // OpStop: as messages.StopLevel counts
	Host  string `json:"host,omitempty"`  // OpRetry (empty = all), OpDrop
	Limit int    `json:"limit,omitempty"` // OpLimit
}

// answer is the first line that a server sends.
type answer struct {
	OK     bool            `json:"ok"`
	Error  string          `json:"error,omitempty"`
	Status json.RawMessage `json:"status,omitempty"` // OpStatus

	Snapshot int `json:"snapshot,omitempty"` // OpEvents: how many of the lines that follow tell what was before
}

// ErrNobody tells that no initiator listens.
var ErrNobody = errors.New("no initiator drives this run")

// greetFor bounds how long a peer may take for its one line.
const greetFor = 10 * time.Second

// socketPath returns the path to dial: that of the socket, or what the link in its place names.
func socketPath(dir string) (string, error) {
	path := filepath.Join(dir, SocketName)
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrNobody
	}
	if err != nil {
		return "", err
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return os.Readlink(path)
	}
	return path, nil
}

// place chooses where the socket goes and removes what an earlier initiator left there. The caller holds the run's lock, so
// nobody listens any more. undo removes everything.
func place(dir string) (path string, undo func() error, err error) {
	link := filepath.Join(dir, SocketName)
	if old, err := os.Readlink(link); err == nil && strings.HasPrefix(filepath.Base(filepath.Dir(old)), tmpPrefix) {
		_ = os.Remove(old)               // it may be gone already
		_ = os.Remove(filepath.Dir(old)) // only where it is empty
	}
	if err := remove(link); err != nil {
		return "", nil, err
	}
	if len(link) <= maxPath {
		return link, func() error { return remove(link) }, nil
	}
	tmp, err := os.MkdirTemp("", tmpPrefix) // 0700
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(tmp, SocketName)
	if len(path) > maxPath {
		return "", nil, errors.Join(fmt.Errorf("%s is too long for a socket: set TMPDIR to a shorter directory", path), os.Remove(tmp))
	}
	if err := os.Symlink(path, link); err != nil {
		return "", nil, errors.Join(err, os.Remove(tmp))
	}
	return path, func() error { return errors.Join(remove(link), os.RemoveAll(tmp)) }, nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
