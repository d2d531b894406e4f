package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// A directory with a source is a copy of that in the way of `rsync -rlp`: every file, directory and symbolic link below
// the source exists below the directory, with the same content and permissions; what is there besides is left alone.
// Links are copied as links, whatever they point to; a device, socket or pipe in the source is an error. Files are
// replaced one by one, each atomically. Directories can always be read and written by their owner. The declared owner
// and group are those of everything that is copied, the declared mode is that of the topmost directory alone.
//
// Each file and directory in it is treated as a fileResource of its own, so all that is true of those is true here:
// above all, a link in place of a directory is never walked through.

func (f *fileResource) copiesTree() bool {
	return f.spec.Directory() && f.spec.State == graph.Exists && f.spec.Source != ""
}

// temporary are the names that files have for a moment while we, or others with the same library, replace them: a dot,
// the name, and up to 19 digits, of which less than 15 are as rare as one in ten thousand.
var temporary = regexp.MustCompile(`^\..+[0-9]{15,19}$`)

// walkSource calls visit for everything below the source, directories before what is in them.
func (f *fileResource) walkSource(visit func(path, rel string, info fs.FileInfo) error) error {
	source := strings.TrimSuffix(f.spec.Source, "/") + "/" // with the slash, a link there is followed as in other sources
	return filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		top := path == source
		if !top && (errors.Is(err, fs.ErrNotExist) || temporary.MatchString(filepath.Base(path))) {
			return nil // gone meanwhile, or soon
		}
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		if top {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		return visit(path, rel, info)
	})
}

// treePaths are the directories of the source and of the copy, as pathWatcher wants them.
func (f *fileResource) treePaths() []string {
	paths := []string{f.spec.Location() + "/", filepath.Clean(f.spec.Source) + "/"}
	// An error is told when the tree is looked at, right after this.
	_ = f.walkSource(func(path, rel string, info fs.FileInfo) error {
		if info.IsDir() {
			paths = append(paths, path+"/", filepath.Join(f.spec.Location(), rel)+"/")
		}
		return nil
	})
	return paths
}

// planTree adds to the steps for the directory itself those for what is copied into it.
func (f *fileResource) planTree(ctx context.Context, steps []stepToDo, own ownership) ([]stepToDo, error) {
	source, target := filepath.Clean(f.spec.Source), f.spec.Location()
	if !f.spec.Recurse {
		return nil, errors.New("source: copying a directory needs recurse: true")
	}
	if within(source, target) || within(target, source) {
		return nil, fmt.Errorf("source: %s and %s contain each other", f.spec.Source, f.spec.Path)
	}
	renewed := make(map[string]struct{}) // directories that are made first: there is nothing in them, whatever is there now
	if info, err := lookAt(target); err != nil {
		return nil, err
	} else if info == nil || !info.IsDir() {
		renewed["."] = struct{}{}
	}
	err := f.walkSource(func(path, rel string, info fs.FileInfo) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		part, err := f.part(path, rel, info)
		if err != nil {
			return err
		}
		if _, inRenewed := renewed[filepath.Dir(rel)]; inRenewed {
			if info.IsDir() {
				renewed[rel] = struct{}{}
			}
			steps = append(steps, stepToDo{rel + ": create", func() error { return part.applyAs(ctx, own) }})
			return nil
		}
		todo, err := part.planAs(own)
		if err != nil || len(todo) == 0 {
			return err
		}
		if there, err := lookAt(filepath.Join(target, rel)); err != nil {
			return err
		} else if info.IsDir() && (there == nil || !there.IsDir()) {
			renewed[rel] = struct{}{}
		}
		steps = append(steps, stepToDo{rel + ": " + describe(todo), func() error { return part.applyAs(ctx, own) }})
		return nil
	})
	return steps, err
}

// treePart is one file, directory or link of a tree.
type treePart struct {
	file *fileResource
	link string // what it points to; empty: it is not a link
}

func (f *fileResource) part(path, rel string, info fs.FileInfo) (treePart, error) {
	mode := info.Mode().Perm()
	spec := &graph.File{Path: filepath.Join(f.spec.Location(), rel), Mode: &mode, Recurse: f.spec.Recurse, Force: f.spec.Force}
	p := treePart{file: &fileResource{spec}}
	switch {
	case info.IsDir():
		mode |= 0o700
		spec.Path += "/"
	case info.Mode().IsRegular():
		spec.Source = path
	case info.Mode()&fs.ModeSymlink != 0:
		var err error
		p.link, err = os.Readlink(path)
		return p, err
	default:
		return p, fmt.Errorf("source: %s is %s; only files, directories and symbolic links are copied", path, typeOf(info.Mode()))
	}
	return p, nil
}

func (p treePart) planAs(own ownership) ([]stepToDo, error) {
	if p.link == "" {
		return p.file.planExists(own)
	}
	path := p.file.spec.Location()
	info, err := lookAt(path)
	if err != nil {
		return nil, err
	}
	var steps []stepToDo
	if info != nil && info.Mode()&fs.ModeSymlink == 0 {
		if !p.file.spec.Force {
			return nil, p.file.inTheWay(info)
		}
		steps = append(steps, p.file.remove(info))
	} else if info != nil {
		if there, err := os.Readlink(path); err != nil || there == p.link {
			return nil, err
		}
	}
	return append(steps, stepToDo{"link to " + p.link, func() error { return renameio.Symlink(p.link, path) }}), nil
}

func (p treePart) applyAs(ctx context.Context, own ownership) error {
	steps, err := p.planAs(own)
	if err != nil {
		return err
	}
	return carryOut(ctx, steps)
}
