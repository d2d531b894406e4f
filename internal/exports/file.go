// Package exports says what an exported resource looks like on its way through etcd, and what becomes of it on a host
// that collects it.
//
// What comes from another host is untrusted. A collector trusts exporters with what is in the directory that it
// collects into, and with nothing else: whatever an export says, a collected file is directly in that directory, has
// no special mode bits, and replaces nothing of another type. Who collects into a directory whose files are executed,
// such as /etc/cron.d/, trusts the exporters with the host.
//
// The package is pure: it reads no file and no key.
package exports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

const (
	// Version is that of the encoding.
	Version = 1
	// MaxContent bounds the content of an exported file, in bytes. Encoded it must fit into a request of etcd, 1.5 MiB.
	MaxContent = 512 << 10
	// MaxEncoded bounds an encoded export, in bytes. Base64 makes four bytes of three.
	MaxEncoded = MaxContent/3*4 + 16<<10
	// maxName bounds names of resources, owners and groups, in bytes.
	maxName = 512
	// maxBase is how long a file name can be on the file systems of our time, in bytes.
	maxBase = 255
)

// File is an exported file or directory as others see it. It has no field for what an export can't say: absent, source,
// fragments, force, recurse.
type File struct {
	Base      string // what it is called; never a path
	Directory bool
	Content   string       // empty for a directory
	Mode      *fs.FileMode // permissions alone; nil = not managed
	Owner     string       // name or number; empty = not managed
	Group     string
}

// encoded is the JSON of version 1.
type encoded struct {
	Version   int    `json:"version"`
	Path      string `json:"path"` // as exported: absolute and clean; only its last part counts
	Directory bool   `json:"directory,omitempty"`
	Content   []byte `json:"content"` // base64
	Mode      string `json:"mode,omitempty"`
	Owner     string `json:"owner,omitempty"`
	Group     string `json:"group,omitempty"`
}

// Encode makes the bytes that are offered for an exported file with this content; a directory has none. It refuses, in
// words, what collectors would refuse.
func Encode(f *graph.File, content []byte) ([]byte, error) {
	switch {
	case f.State != graph.Exists:
		return nil, errors.New("an exported file can't be absent: it would remove files of other hosts")
	case f.Force || f.Recurse:
		return nil, errors.New("force and recurse are not for exported files: other hosts say themselves what may be replaced")
	}
	e := encoded{Version: Version, Path: f.Location(), Directory: f.Directory(), Owner: f.Owner, Group: f.Group}
	if !e.Directory {
		e.Content = append([]byte{}, content...)
	}
	if f.Mode != nil {
		if *f.Mode&^fs.ModePerm != 0 {
			return nil, errors.New("mode: no setuid, setgid or sticky bit for exported files")
		}
		e.Mode = fmt.Sprintf("%04o", *f.Mode)
	}
	if _, err := e.file(); err != nil {
		return nil, err
	}
	return json.Marshal(e)
}

// Decode reads what Encode made, on whatever host that was. The error says in words why it is refused.
func Decode(data []byte) (*File, error) {
	if len(data) > MaxEncoded {
		return nil, fmt.Errorf("it has %d bytes; %d are the most", len(data), MaxEncoded)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("it can't be read: %w", err)
	}
	switch {
	case head.Version > Version:
		return nil, fmt.Errorf("it comes from a newer version (%d; this one knows %d)", head.Version, Version)
	case head.Version != Version:
		return nil, fmt.Errorf("there is no version %d", head.Version)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var e encoded
	if err := d.Decode(&e); err != nil {
		return nil, fmt.Errorf("it can't be read: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it can't be read: more than one value")
	}
	return e.file()
}

// file checks everything; both sides use it, so that what is refused here is refused where it is exported.
func (e *encoded) file() (*File, error) {
	if !path.IsAbs(e.Path) || path.Clean(e.Path) != e.Path {
		return nil, fmt.Errorf("path: %.200q is not absolute and clean", e.Path)
	}
	f := &File{Base: path.Base(e.Path), Directory: e.Directory, Content: string(e.Content), Owner: e.Owner, Group: e.Group}
	switch {
	case f.Base == "/": // the other words of path.Base are not clean
		return nil, errors.New("path: the root directory can't be exported")
	case len(f.Base) > maxBase:
		return nil, fmt.Errorf("path: a file name of %d bytes", len(f.Base))
	case !plain(f.Base):
		return nil, fmt.Errorf("path: the file name %q has control characters", f.Base)
	case len(f.Owner) > maxName || len(f.Group) > maxName || !plain(f.Owner) || !plain(f.Group):
		return nil, errors.New("owner, group: too long, or with control characters")
	case e.Directory && e.Content != nil:
		return nil, errors.New("content: a directory has none")
	case !e.Directory && e.Content == nil:
		return nil, errors.New("content: missing")
	case len(f.Content) > MaxContent:
		return nil, fmt.Errorf("content: %d KiB; an exported file can have %d", (len(f.Content)+1023)>>10, MaxContent>>10)
	}
	if e.Mode != "" {
		bits, err := strconv.ParseUint(e.Mode, 8, 32)
		if err != nil || bits > uint64(fs.ModePerm) {
			return nil, fmt.Errorf("mode: %.20q is not between 0000 and 0777", e.Mode)
		}
		mode := fs.FileMode(bits)
		f.Mode = &mode
	}
	return f, nil
}

// CheckName says whether an exported resource can have this name, without its mark. A name is never used as a path; one
// that looks like a way out of a directory is refused all the same, because somebody meant something by it.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("it has no name")
	case len(name) > maxName:
		return fmt.Errorf("a name of %d bytes", len(name))
	case !plain(name):
		return fmt.Errorf("the name %q has control characters", name)
	case path.IsAbs(name):
		return fmt.Errorf("the name %q is an absolute path; an export has a plain name, and a path of its own", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return fmt.Errorf("the name %q leads out of a directory", name)
		}
	}
	return nil
}

func plain(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }
