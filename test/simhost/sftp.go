package simhost

import (
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/pkg/sftp"
)

// files serves a tree over SFTP with the status codes of OpenSSH's sftp-server.
type files struct {
	*tree
	free func() int64
}

func (f files) handlers() sftp.Handlers {
	return sftp.Handlers{FileGet: f, FilePut: f, FileCmd: f, FileList: f}
}

// Fileread opens a file for reading.
func (f files) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	n, err := f.create(r.Filepath, sftp.FileOpenFlags{Read: true})
	if err != nil {
		return nil, err
	}
	return handle{f.tree, n}, nil
}

// Filewrite opens a file for writing.
func (f files) Filewrite(r *sftp.Request) (io.WriterAt, error) { return f.OpenFile(r) }

// OpenFile opens a file for both.
func (f files) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) {
	n, err := f.create(r.Filepath, r.Pflags())
	if err != nil {
		return nil, err
	}
	return handle{f.tree, n}, nil
}

// PosixRename replaces what is there.
func (f files) PosixRename(r *sftp.Request) error { return f.rename(r.Filepath, r.Target, true) }

// StatVFS tells the free space.
func (f files) StatVFS(*sftp.Request) (*sftp.StatVFS, error) {
	const block = 4096
	free := uint64(max(f.free(), 0)) / block
	return &sftp.StatVFS{Bsize: block, Frsize: block, Blocks: 1 << 24, Bfree: free, Bavail: free, Namemax: 255}, nil
}

// Filecmd does everything that changes names and attributes.
func (f files) Filecmd(r *sftp.Request) error {
	switch r.Method {
	case "Setstat":
		return f.setstat(r)
	case "Rename":
		return f.rename(r.Filepath, r.Target, false)
	case "Rmdir":
		return f.remove(r.Filepath, true)
	case "Remove":
		return f.remove(r.Filepath, false)
	case "Mkdir":
		return f.mkdir(r.Filepath, 0o755)
	}
	return sftp.ErrSSHFxOpUnsupported
}

func (f files) setstat(r *sftp.Request) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, n, err := f.stat(r.Filepath, true)
	if err != nil {
		return err
	}
	if n.uid != f.uid && f.uid != 0 {
		return os.ErrPermission
	}
	flags, attrs := r.AttrFlags(), r.Attributes()
	if flags.Permissions {
		n.mode = n.mode.Type() | attrs.FileMode().Perm() | attrs.FileMode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
	}
	if flags.Size {
		size := int64(min(attrs.Size, 1<<31))
		n.grow(size)
		n.data, n.size = n.data[:size], size
	}
	return nil
}

// Filelist lists a directory, or stats what a link leads to.
func (f files) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, n, err := f.stat(r.Filepath, r.Method != "Readlink")
	if err != nil {
		return nil, err
	}
	switch r.Method {
	case "Stat":
		return list{info{path.Base(p), *n}}, nil
	case "List":
		if !n.mode.IsDir() {
			return nil, sftp.ErrSSHFxFailure
		}
		var out list
		names := f.below(p)
		slices.Sort(names)
		for _, q := range names {
			if path.Dir(q) == p {
				out = append(out, info{path.Base(q), *f.nodes[q]})
			}
		}
		return out, nil
	}
	return nil, sftp.ErrSSHFxOpUnsupported
}

// Lstat does not follow a link.
func (f files) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, n, err := f.stat(r.Filepath, false)
	if err != nil {
		return nil, err
	}
	return list{info{path.Base(p), *n}}, nil
}

type list []fs.FileInfo

// ListAt copies from offset on.
func (l list) ListAt(out []os.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(out, l[offset:])
	if n < len(out) {
		return n, io.EOF
	}
	return n, nil
}

// info is a node as SFTP tells it.
type info struct {
	name string
	node node
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.node.size }
func (i info) Mode() fs.FileMode  { return i.node.mode }
func (i info) ModTime() time.Time { return i.node.mtime }
func (i info) IsDir() bool        { return i.node.mode.IsDir() }
func (i info) Sys() any           { return nil }
func (i info) Uid() uint32        { return uint32(i.node.uid) } //nolint:staticcheck // sftp.FileInfoUidGid names it
func (i info) Gid() uint32        { return uint32(i.node.uid) } //nolint:staticcheck // the same
