package simhost

import (
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pkg/sftp"
)

// File is one entry of a host's file tree.
type File struct {
	Path   string
	Mode   fs.FileMode // with its type bits
	UID    int
	Size   int64
	Data   []byte // nil where Options.Trust dropped the bytes
	Target string // of a symbolic link
}

// tree is a file system: a flat map, since a host has a dozen files. Nothing blocks while mu is held.
type tree struct {
	uid  int
	full func() bool

	mu    sync.Mutex
	nodes map[string]*node
}

type node struct {
	mode   fs.FileMode
	uid    int
	size   int64
	data   []byte
	target string
	mtime  time.Time
}

func newTree(uid int, home string, full func() bool) *tree {
	t := &tree{uid: uid, full: full, nodes: map[string]*node{}}
	for _, dir := range []string{"/", "/home", "/var"} {
		t.nodes[dir] = &node{mode: fs.ModeDir | 0o755}
	}
	for _, dir := range []string{"/tmp", "/var/tmp"} {
		t.nodes[dir] = &node{mode: fs.ModeDir | fs.ModeSticky | 0o777}
	}
	t.nodes[home] = &node{mode: fs.ModeDir | 0o700, uid: uid}
	return t
}

// resolve follows symbolic links in the directories of p, and in p itself if last is set. mu is held.
func (t *tree) resolve(p string, last bool) (string, error) {
	p = path.Clean("/" + p)
	done, rest := "/", strings.Split(strings.TrimPrefix(p, "/"), "/")
	for hops := 0; len(rest) > 0; {
		next := path.Join(done, rest[0])
		rest = rest[1:]
		n := t.nodes[next]
		if n != nil && n.mode&fs.ModeSymlink != 0 && (last || len(rest) > 0) {
			if hops++; hops > 8 {
				return "", syscall.ELOOP
			}
			target := n.target
			if !path.IsAbs(target) {
				target = path.Join(done, target)
			}
			done, rest = "/", append(strings.Split(strings.TrimPrefix(path.Clean(target), "/"), "/"), rest...)
			continue
		}
		if len(rest) > 0 && (n == nil || !n.mode.IsDir()) {
			return "", os.ErrNotExist
		}
		done = next
	}
	return done, nil
}

func (t *tree) stat(p string, follow bool) (string, *node, error) {
	p, err := t.resolve(p, follow)
	if err != nil {
		return "", nil, err
	}
	if n := t.nodes[p]; n != nil {
		return p, n, nil
	}
	return p, nil, os.ErrNotExist
}

// writable says whether entries of dir may be changed.
func (t *tree) writable(dir string) error {
	_, n, err := t.stat(dir, true)
	switch {
	case err != nil:
		return err
	case !n.mode.IsDir():
		return syscall.ENOTDIR
	case t.uid == 0, n.uid == t.uid && n.mode&0o200 != 0, n.mode&0o002 != 0:
		return nil
	}
	return os.ErrPermission
}

// place prepares to create an entry: its resolved path, with a directory that takes it.
func (t *tree) place(p string) (string, error) {
	p, err := t.resolve(p, false)
	if err != nil {
		return "", err
	}
	if err := t.writable(path.Dir(p)); err != nil {
		return "", err
	}
	return p, nil
}

func (t *tree) mkdir(p string, mode fs.FileMode) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, err := t.place(p)
	if err != nil {
		return err
	}
	if t.nodes[p] != nil {
		return sftp.ErrSSHFxFailure // what OpenSSH's sftp-server makes of EEXIST
	}
	t.nodes[p] = &node{mode: fs.ModeDir | mode, uid: t.uid, mtime: time.Now()}
	return nil
}

func (t *tree) create(p string, flags sftp.FileOpenFlags) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, n, err := t.stat(p, !flags.Excl)
	switch {
	case err == nil && flags.Excl:
		return nil, sftp.ErrSSHFxFailure
	case err == nil && n.mode.IsDir():
		return nil, sftp.ErrSSHFxFailure
	case err == nil:
		if n.uid != t.uid && t.uid != 0 && n.mode&0o002 == 0 {
			return nil, os.ErrPermission
		}
		if flags.Trunc {
			n.data, n.size = nil, 0
		}
		return n, nil
	case !os.IsNotExist(err) || p == "" || !flags.Creat:
		return nil, err
	}
	if p, err = t.place(p); err != nil {
		return nil, err
	}
	n = &node{mode: 0o644, uid: t.uid, mtime: time.Now()}
	t.nodes[p] = n
	return n, nil
}

// put replaces a file, whoever owns the directory: it is the host itself that writes.
func (t *tree) put(p string, data []byte, mode fs.FileMode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nodes[p] = &node{mode: mode, uid: t.uid, data: data, size: int64(len(data)), mtime: time.Now()}
}

// bind makes a socket where its directory is there and nothing has its name, in one step: the directory may be on its
// way out.
func (t *tree) bind(p string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, _, err := t.stat(p, true); err == nil {
		return false
	}
	if _, dir, err := t.stat(path.Dir(p), true); err != nil || !dir.mode.IsDir() {
		return false
	}
	t.nodes[p] = &node{mode: fs.ModeSocket | 0o600, uid: t.uid, mtime: time.Now()}
	return true
}

func (t *tree) read(p string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, n, err := t.stat(p, true)
	if err != nil {
		return nil, err
	}
	if !n.mode.IsRegular() {
		return nil, syscall.EISDIR
	}
	return slices.Clone(n.data), nil
}

func (t *tree) mode(p string) (fs.FileMode, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, n, err := t.stat(p, true)
	if err != nil {
		return 0, false
	}
	return n.mode, true
}

func (t *tree) remove(p string, dir bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, n, err := t.stat(p, false)
	switch {
	case err != nil:
		return err
	case n.mode.IsDir() != dir:
		return sftp.ErrSSHFxFailure
	case dir && len(t.below(p)) > 0:
		return sftp.ErrSSHFxFailure // ENOTEMPTY
	}
	if err := t.writable(path.Dir(p)); err != nil {
		return err
	}
	delete(t.nodes, p)
	return nil
}

// below returns the paths below p, at any depth. mu is held.
func (t *tree) below(p string) []string {
	var out []string
	for q := range t.nodes {
		if strings.HasPrefix(q, strings.TrimSuffix(p, "/")+"/") && q != p {
			out = append(out, q)
		}
	}
	return out
}

func (t *tree) removeAll(p string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, _, err := t.stat(p, false)
	if err != nil {
		return
	}
	for _, q := range t.below(p) {
		delete(t.nodes, q)
	}
	delete(t.nodes, p)
}

func (t *tree) rename(from, to string, replace bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	from, n, err := t.stat(from, false)
	if err != nil {
		return err
	}
	if to, err = t.place(to); err != nil {
		return err
	}
	if err := t.writable(path.Dir(from)); err != nil {
		return err
	}
	if old := t.nodes[to]; old != nil && (!replace || old.mode.IsDir() != n.mode.IsDir() || len(t.below(to)) > 0) {
		return sftp.ErrSSHFxFailure
	}
	for _, q := range t.below(from) {
		t.nodes[to+strings.TrimPrefix(q, from)] = t.nodes[q]
		delete(t.nodes, q)
	}
	delete(t.nodes, from)
	t.nodes[to] = n
	return nil
}

func (t *tree) files() []File {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []File
	for _, p := range slices.Sorted(maps.Keys(t.nodes)) {
		n := t.nodes[p]
		out = append(out, File{Path: p, Mode: n.mode, UID: n.uid, Size: n.size, Data: slices.Clone(n.data), Target: n.target})
	}
	return out
}

// handle is an open file.
type handle struct {
	tree *tree
	node *node
}

// ReadAt and WriteAt are sftp's; they come from several goroutines.
func (f handle) ReadAt(b []byte, off int64) (int, error) {
	f.tree.mu.Lock()
	defer f.tree.mu.Unlock()
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f handle) WriteAt(b []byte, off int64) (int, error) {
	if f.tree.full() {
		return 0, sftp.ErrSSHFxFailure // what OpenSSH's sftp-server makes of ENOSPC
	}
	f.tree.mu.Lock()
	defer f.tree.mu.Unlock()
	f.node.grow(off + int64(len(b)))
	return copy(f.node.data[off:], b), nil
}

// grow makes the file at least size long.
func (n *node) grow(size int64) {
	if more := size - int64(len(n.data)); more > 0 {
		n.data = append(n.data, make([]byte, more)...)
		n.size = size
	}
}

// base says whether base, in dir, can be used as a base directory, and why not.
func (t *tree) base(dir, base string) (exists bool, reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, n, err := t.stat(base, false)
	switch {
	case err == nil && n.mode&fs.ModeSymlink != 0:
		return true, "has a mgmt-remote directory that is a symbolic link"
	case err == nil && (!n.mode.IsDir() || n.uid != t.uid || n.mode.Perm() != 0o700):
		return true, "has a mgmt-remote directory of somebody else"
	case err == nil:
		return true, ""
	}
	if err := t.writable(dir); err != nil {
		return false, "is not writable: " + err.Error()
	}
	return false, ""
}

// cached lists the files in a base's cache as "<sha256>/<name>".
func (t *tree) cached(base string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for p, n := range t.nodes {
		entry, ok := strings.CutPrefix(p, base+"/cache/")
		if sha, name, two := strings.Cut(entry, "/"); ok && two && len(sha) == 64 && !strings.HasPrefix(name, ".") &&
			n.mode.IsRegular() && n.mode.Perm()&0o100 != 0 {
			out = append(out, entry)
		}
	}
	slices.Sort(out)
	return out
}
