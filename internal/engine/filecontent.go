package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// sameContent compares with what is declared, and gives the declared size.
func (f *fileResource) sameContent(info fs.FileInfo) (same bool, size int64, err error) {
	if !f.managesContent() {
		return true, info.Size(), nil
	}
	want, size, err := f.content()
	if err != nil {
		return false, 0, err
	}
	defer func() { err = errors.Join(err, want.Close()) }()
	if size != info.Size() {
		return false, size, nil
	}
	have, err := os.OpenFile(f.spec.Location(), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false, 0, err
	}
	defer func() { err = errors.Join(err, have.Close()) }()
	same, err = equal(have, want)
	return same, size, err
}

// content opens what is declared; the caller closes it.
func (f *fileResource) content() (io.ReadCloser, int64, error) {
	if f.spec.Content != nil {
		return io.NopCloser(strings.NewReader(*f.spec.Content)), int64(len(*f.spec.Content)), nil
	}
	if len(f.spec.Fragments) > 0 {
		return f.openFragments()
	}
	if f.spec.Source == "" {
		return io.NopCloser(strings.NewReader("")), 0, nil
	}
	src, size, err := openRegular(f.spec.Source)
	if err != nil {
		return nil, 0, fmt.Errorf("source: %w", err)
	}
	return src, size, nil
}

func (f *fileResource) managesContent() bool {
	return f.spec.Content != nil || f.spec.Source != "" || len(f.spec.Fragments) > 0
}

// openRegular opens a file on the host that content comes from; the caller closes it.
func openRegular(path string) (*os.File, int64, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is %s", path, typeOf(info.Mode()))
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// openFragments opens the fragments as one stream; the caller closes it.
func (f *fileResource) openFragments() (io.ReadCloser, int64, error) {
	var c chain
	var size int64
	for _, fragment := range f.spec.Fragments {
		list := []string{fragment}
		if strings.HasSuffix(fragment, "/") {
			if filepath.Clean(fragment) == filepath.Dir(f.spec.Location()) {
				return nil, 0, fmt.Errorf("fragments: the file itself is in the directory of fragments %s", fragment)
			}
			var err error
			if list, err = fragmentsIn(fragment); err != nil {
				return nil, 0, fmt.Errorf("fragments: %w", err)
			}
		}
		for _, path := range list {
			info, err := os.Stat(path)
			if err == nil && !info.Mode().IsRegular() {
				err = fmt.Errorf("%s is %s", path, typeOf(info.Mode()))
			}
			if err != nil {
				return nil, 0, fmt.Errorf("fragments: %w", err)
			}
			size += info.Size()
			c.paths = append(c.paths, path)
		}
	}
	return &c, size, nil
}

// fragmentsIn lists the regular files directly in a directory by name. Those that begin with a dot don't count, so
// neither do the temporary files of those who write fragments, like us.
func fragmentsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, err
	}
	var list []string
	for _, entry := range entries {
		if entry.Type().IsRegular() && !strings.HasPrefix(entry.Name(), ".") {
			list = append(list, filepath.Join(dir, entry.Name()))
		}
	}
	return list, nil
}

// chain reads files one after the other and has one open at a time.
type chain struct {
	paths []string
	file  *os.File
}

// Read implements io.Reader.
func (c *chain) Read(p []byte) (int, error) {
	for {
		if c.file == nil {
			if len(c.paths) == 0 {
				return 0, io.EOF
			}
			var err error
			if c.file, _, err = openRegular(c.paths[0]); err != nil {
				return 0, fmt.Errorf("fragments: %w", err)
			}
			c.paths = c.paths[1:]
		}
		n, err := c.file.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		if err := c.Close(); err != nil || n > 0 {
			return n, err
		}
	}
}

// Close implements io.Closer.
func (c *chain) Close() error {
	if c.file == nil {
		return nil
	}
	file := c.file
	c.file = nil
	return file.Close()
}

func equal(a, b io.Reader) (bool, error) {
	bufA, bufB := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		for _, err := range []error{errA, errB} {
			if err != nil && !atEnd(err) {
				return false, err
			}
		}
		if atEnd(errA) || atEnd(errB) {
			return true, nil // equal pieces end together
		}
	}
}

// atEnd reports whether io.ReadFull met the end of its input.
func atEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// write replaces the file by one with the declared content. Mode and owner are those declared, else those of old; for
// a new file they follow the umask and this process.
func (f *fileResource) write(old fs.FileInfo, own ownership) (err error) {
	path := f.spec.Location()
	want, _, err := f.content()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, want.Close()) }()
	if err := f.makeParents(); err != nil {
		return err
	}
	create := renameio.WithStaticPermissions(0o600) // nobody reads it before it has its own mode and owner
	if f.spec.Mode == nil && old == nil {
		create = renameio.WithPermissions(0o644)
	}
	tmp, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), create)
	if err != nil {
		return explain(err)
	}
	defer func() { err = errors.Join(err, tmp.Cleanup()) }()
	if _, err := io.Copy(tmp, want); err != nil {
		return err
	}
	info, err := tmp.Stat()
	if err != nil {
		return err
	}
	uid, gid := ids(info)
	wantUID, wantGID := uid, gid
	if old != nil {
		wantUID, wantGID = ids(old)
	}
	wantUID, wantGID = own.apply(wantUID, wantGID)
	if wantUID != uid || wantGID != gid {
		if err := tmp.Chown(wantUID, wantGID); err != nil {
			return err
		}
	}
	mode := f.spec.Mode // after the owner: changing that clears setuid
	if mode == nil && old != nil {
		m := old.Mode() & (fs.ModePerm | specialBits)
		mode = &m
	}
	if mode != nil {
		if err := tmp.Chmod(*mode); err != nil {
			return err
		}
	}
	return tmp.CloseAtomicallyReplace()
}
