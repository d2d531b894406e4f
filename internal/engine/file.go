package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// specialBits are the mode bits that a definition may give besides the permissions.
const specialBits = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// fileResource keeps a file or a directory. Content is only ever replaced as a whole, by a rename: a reader sees the old
// or the new file, and a crash leaves one of them. Symbolic links are never followed at the end of a path.
type fileResource struct {
	spec *graph.File
}

// stepToDo is one change that brings the file nearer to its declaration.
type stepToDo struct {
	what string
	do   func() error
}

func (f *fileResource) check(context.Context) (string, error) {
	steps, err := f.plan()
	if err != nil {
		return "", err
	}
	words := make([]string, 0, len(steps))
	for _, s := range steps {
		words = append(words, s.what)
	}
	return strings.Join(words, ", "), nil
}

func (f *fileResource) apply(ctx context.Context) (string, error) {
	steps, err := f.plan()
	if err != nil {
		return "", err
	}
	for _, s := range steps {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if err := s.do(); err != nil {
			return "", fmt.Errorf("%s: %w", s.what, explain(err))
		}
	}
	return "", nil
}

// explain adds what to do where the bare error puzzles people.
func explain(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w (a directory above it is missing: declare it, or set recurse on a directory)", err)
	}
	return err
}

// plan looks at the file and says what has to be done, in order.
func (f *fileResource) plan() ([]stepToDo, error) {
	path := f.spec.Location()
	info, err := os.Lstat(path)
	missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	if err != nil && !missing {
		return nil, err
	}
	fits := !missing && f.fits(info)
	if f.spec.State == graph.Absent {
		if missing {
			return nil, nil
		}
		if !fits && info.IsDir() != f.spec.Directory() && !f.spec.Force {
			return nil, f.inTheWay(info)
		}
		return []stepToDo{f.remove(info)}, nil
	}
	own, err := f.ownership()
	if err != nil {
		return nil, err
	}
	var steps []stepToDo
	if !missing && !fits {
		if !f.spec.Force {
			return nil, f.inTheWay(info)
		}
		steps = append(steps, f.remove(info))
		missing = true
	}
	if f.spec.Directory() {
		if missing {
			return append(steps, stepToDo{"create directory", func() error { return f.makeDirectory(own) }}), nil
		}
		return f.attributes(info, own), nil
	}
	return f.planContent(steps, info, missing, own)
}

func (f *fileResource) planContent(steps []stepToDo, info fs.FileInfo, missing bool, own ownership) ([]stepToDo, error) {
	if missing {
		what := "create"
		if f.spec.Content != nil {
			what = fmt.Sprintf("create with %d bytes", len(*f.spec.Content))
		}
		return append(steps, stepToDo{what, func() error { return f.write(nil, own) }}), nil
	}
	same, size, err := f.sameContent(info)
	if err != nil {
		return nil, err
	}
	attributes := f.attributes(info, own)
	if same {
		return attributes, nil
	}
	// One rename brings content, mode and owner together.
	words := []string{fmt.Sprintf("content of %d bytes → %d bytes", info.Size(), size)}
	for _, s := range attributes {
		words = append(words, s.what)
	}
	return append(steps, stepToDo{strings.Join(words, ", "), func() error { return f.write(info, own) }}), nil
}

// fits reports whether what is there is of the declared type.
func (f *fileResource) fits(info fs.FileInfo) bool {
	if f.spec.Directory() {
		return info.IsDir()
	}
	return info.Mode().IsRegular()
}

func (f *fileResource) inTheWay(info fs.FileInfo) error {
	return fmt.Errorf("%s is %s; set force: true to replace it", f.spec.Location(), typeOf(info.Mode()))
}

func typeOf(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "a regular file"
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	default:
		return "a special file"
	}
}

// remove deletes what is there; everything below a directory only with recurse.
func (f *fileResource) remove(info fs.FileInfo) stepToDo {
	path := f.spec.Location()
	if info.IsDir() && f.spec.Recurse {
		return stepToDo{"remove directory with everything in it", func() error { return os.RemoveAll(path) }}
	}
	return stepToDo{"remove " + typeOf(info.Mode()), func() error {
		err := os.Remove(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // somebody was faster
		case errors.Is(err, syscall.ENOTEMPTY):
			return fmt.Errorf("%w (set recurse: true to remove what is in it too)", err)
		}
		return err
	}}
}

func (f *fileResource) makeDirectory(own ownership) error {
	path := f.spec.Location()
	mode := fs.FileMode(0o755)
	if f.spec.Mode != nil {
		mode = f.spec.Mode.Perm()
	}
	if f.spec.Recurse {
		//nolint:gosec // the user's directories on the way to a declared one: as mkdir -p makes them, less the umask
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	for _, s := range f.attributes(info, own) {
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// sameContent compares with what is declared, and gives the declared size.
func (f *fileResource) sameContent(info fs.FileInfo) (same bool, size int64, err error) {
	if f.spec.Content == nil && f.spec.Source == "" {
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
	if f.spec.Source == "" {
		return io.NopCloser(strings.NewReader("")), 0, nil
	}
	src, err := os.OpenFile(f.spec.Source, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("source: %w", err)
	}
	info, err := src.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is %s", f.spec.Source, typeOf(info.Mode()))
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("source: %w", err), src.Close())
	}
	return src, info.Size(), nil
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
	create := renameio.WithStaticPermissions(0o600) // nobody reads it before it has its own mode and owner
	if f.spec.Mode == nil && old == nil {
		create = renameio.WithPermissions(0o644)
	}
	tmp, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), create)
	if err != nil {
		return err
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

// paths are the file itself and what it is made from.
func (f *fileResource) paths() []string {
	if f.spec.Source == "" {
		return []string{f.spec.Location()}
	}
	return []string{f.spec.Location(), filepath.Clean(f.spec.Source)}
}
