package filewatch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symbolic links are followed, as in Linux (path_resolution(7)).
const maxLinks = 40

// trail returns the full names on the way to a file, each of which may become something else, and the directories that
// they are in. It ends where there is nothing (yet).
func trail(path string) (names, dirs []string, err error) {
	if !filepath.IsAbs(path) {
		here, err := os.Getwd()
		if err != nil {
			return nil, nil, fmt.Errorf("watch %s: %w", path, err)
		}
		path = here + "/" + path
	}
	dir, rest := "/", parts(path)
	for links := 0; len(rest) > 0; {
		if rest[0] == ".." {
			dir, rest = filepath.Dir(dir), rest[1:]
			continue
		}
		name := filepath.Join(dir, rest[0])
		names, dirs, rest = append(names, name), append(dirs, dir), rest[1:]
		target, err := os.Readlink(name)
		if err != nil { // no link, or nothing at all: what is there shows when it is read
			dir = name
			continue
		}
		if links++; links > maxLinks {
			break // opening the file says so
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		rest = append(parts(target), rest...)
	}
	return names, dirs, nil
}

// parts leaves ".." in: behind a symbolic link it is not what it looks like.
func parts(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
