package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

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

// maxWords is how many steps are told; a tree may have thousands.
const maxWords = 8

func (f *fileResource) check(ctx context.Context) (string, error) {
	steps, err := f.plan(ctx)
	if err != nil {
		return "", err
	}
	return describe(steps), nil
}

func describe(steps []stepToDo) string {
	words := make([]string, 0, min(len(steps), maxWords+1))
	for i, s := range steps {
		if i == maxWords {
			words = append(words, fmt.Sprintf("and %d more", len(steps)-i))
			break
		}
		words = append(words, s.what)
	}
	return strings.Join(words, ", ")
}

func (f *fileResource) apply(ctx context.Context) (string, error) {
	steps, err := f.plan(ctx)
	if err != nil {
		return "", err
	}
	return "", carryOut(ctx, steps)
}

func carryOut(ctx context.Context, steps []stepToDo) error {
	for _, s := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	return nil
}

// paths are the file itself and what it is made from.
func (f *fileResource) paths() []string {
	paths := []string{f.spec.Location()}
	switch {
	case f.spec.State == graph.Absent:
	case f.copiesTree():
		paths = append(paths, f.treePaths()...)
	case f.spec.Source != "":
		paths = append(paths, filepath.Clean(f.spec.Source))
	}
	if f.spec.State == graph.Exists {
		paths = append(paths, f.spec.Fragments...)
	}
	return paths
}

// explain adds what to do where the bare error puzzles people.
func explain(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w (a directory above it is missing: declare it, or set recurse: true)", err)
	}
	return err
}

// plan looks at the file and says what has to be done, in order.
func (f *fileResource) plan(ctx context.Context) ([]stepToDo, error) {
	if f.spec.State == graph.Absent {
		return f.planAbsent()
	}
	own, err := f.ownership()
	if err != nil {
		return nil, err
	}
	steps, err := f.planExists(own)
	if err != nil || !f.copiesTree() {
		return steps, err
	}
	return f.planTree(ctx, steps, own)
}

// lookAt returns nil if there is nothing at a path. It does not follow a link there.
func lookAt(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	return info, err
}

func (f *fileResource) planAbsent() ([]stepToDo, error) {
	info, err := lookAt(f.spec.Location())
	if err != nil || info == nil {
		return nil, err
	}
	if !f.fits(info) && info.IsDir() != f.spec.Directory() && !f.spec.Force {
		return nil, f.inTheWay(info)
	}
	return []stepToDo{f.remove(info)}, nil
}

func (f *fileResource) planExists(own ownership) ([]stepToDo, error) {
	info, err := lookAt(f.spec.Location())
	if err != nil {
		return nil, err
	}
	var steps []stepToDo
	if info != nil && !f.fits(info) {
		if !f.spec.Force {
			return nil, f.inTheWay(info)
		}
		steps = append(steps, f.remove(info))
		info = nil
	}
	if f.spec.Directory() {
		if info == nil {
			return append(steps, stepToDo{"create directory", func() error { return f.makeDirectory(own) }}), nil
		}
		return f.attributes(info, own), nil
	}
	return f.planContent(steps, info, info == nil, own)
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

// makeParents makes the directories above, where that was asked for.
func (f *fileResource) makeParents() error {
	if !f.spec.Recurse {
		return nil
	}
	//nolint:gosec // the user's directories on the way to a declared one: as mkdir -p makes them, less the umask
	return os.MkdirAll(filepath.Dir(f.spec.Location()), 0o755)
}

func (f *fileResource) makeDirectory(own ownership) error {
	path := f.spec.Location()
	mode := fs.FileMode(0o755)
	if f.spec.Mode != nil {
		mode = f.spec.Mode.Perm()
	}
	if err := f.makeParents(); err != nil {
		return err
	}
	if err := os.Mkdir(path, mode); err != nil {
		return explain(err)
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
