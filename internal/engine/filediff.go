package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

// Limits of what is compared and shown for people.
const (
	maxDiffInput = 4 << 20  // bytes of either file
	maxDiff      = 64 << 10 // bytes
	maxDiffLines = 2000
)

// diff shows how the content would change. A new file is compared with nothing; what it is made from may not be there
// yet, then there is nothing to show.
func (f *fileResource) diff(context.Context) (string, error) {
	if f.spec.State == graph.Absent || f.spec.Directory() || !f.managesContent() {
		return "", nil
	}
	want, _, err := f.content()
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	after, err := readSome(want)
	if err != nil {
		return "", err
	}
	before, name, err := f.current()
	if err != nil {
		return "", err
	}
	return diffText(name, before, f.spec.Location(), after), nil
}

// current is the content that is there now, and the name for it in a diff.
func (f *fileResource) current() ([]byte, string, error) {
	path := f.spec.Location()
	info, err := lookAt(path)
	if err != nil {
		return nil, "", err
	}
	if info == nil || !info.Mode().IsRegular() {
		return nil, "/dev/null", nil
	}
	have, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", err
	}
	data, err := readSome(have)
	return data, path, err
}

// readSome reads a little more than may be compared, and closes r.
func readSome(r io.ReadCloser) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDiffInput+1))
	return data, errors.Join(err, r.Close())
}

func diffText(oldName string, before []byte, newName string, after []byte) string {
	switch {
	case bytes.Equal(before, after):
		return "" // mode or owner alone
	case len(before) > maxDiffInput || len(after) > maxDiffInput:
		return fmt.Sprintf("content differs; files above %d MiB are not compared line by line\n", maxDiffInput>>20)
	case !text(before) || !text(after):
		return "binary content differs\n"
	}
	_, body, _ := bytes.Cut(diff.Diff(oldName, before, newName, after), []byte("\n")) // without the line "diff old new"
	var out strings.Builder
	lines := 0
	for line := range bytes.Lines(body) {
		if lines++; lines > maxDiffLines || out.Len()+len(line) > maxDiff {
			out.WriteString("… the rest of the diff is left out\n")
			break
		}
		out.Write(line)
	}
	return out.String()
}

// text reports whether data is for people to read.
func text(data []byte) bool { return utf8.Valid(data) && bytes.IndexByte(data, 0) < 0 }
