package leftovers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Report is what was found of one directory. Every slice is sorted as its source lists it.
type Report struct {
	Processes []Process
	Sockets   []string // paths of bound unix sockets, also of those whose file is already gone
	Files     []string // absolute paths below the directory; the directory itself is not in it
}

// Empty reports whether nothing was found.
func (r Report) Empty() bool {
	return len(r.Processes) == 0 && len(r.Sockets) == 0 && len(r.Files) == 0
}

// String lists everything, one finding a line; "nothing" for an empty report.
func (r Report) String() string {
	if r.Empty() {
		return "nothing"
	}
	var b strings.Builder
	for _, p := range r.Processes {
		fmt.Fprintf(&b, "process  %s\n", p)
	}
	for _, s := range r.Sockets {
		fmt.Fprintf(&b, "socket   %s\n", s)
	}
	for _, f := range r.Files {
		fmt.Fprintf(&b, "file     %s\n", f)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Find looks once for everything that is left of dir. A dir that doesn't exist has no files; it may have processes.
func Find(dir string) (Report, error) {
	var r Report
	var errs [3]error
	r.Processes, errs[0] = Processes(dir)
	r.Sockets, errs[1] = Sockets(dir)
	r.Files, errs[2] = Files(dir)
	return r, errors.Join(errs[:]...)
}

// Sockets lists the unix sockets bound to a path below dir, from /proc/net/unix: those of this network namespace,
// whoever holds them, this process included. A path appears once for each socket, listening or accepted.
func Sockets(dir string) ([]string, error) {
	names, err := namesOf(dir)
	if err != nil {
		return nil, err
	}
	table, err := os.Open("/proc/net/unix")
	if err != nil {
		return nil, fmt.Errorf("list unix sockets: %w", err)
	}
	defer table.Close()
	var found []string
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		if path := socketPath(lines.Text()); path != "" && mentionsAny(path, names) {
			found = append(found, path)
		}
	}
	return found, lines.Err()
}

// socketPath returns the path of one line of /proc/net/unix ("Num RefCount Protocol Flags Type St Inode Path"), empty
// for sockets without one and for abstract ones, which are shown with a leading '@'. A path may hold blanks.
func socketPath(line string) string {
	rest := line
	for range 7 {
		_, after, ok := strings.Cut(strings.TrimLeft(rest, " "), " ")
		if !ok {
			return ""
		}
		rest = after
	}
	if !strings.HasPrefix(rest, "/") {
		return ""
	}
	return rest
}

// Files lists everything below dir, directories too, but not dir itself. Symlinks are listed, never followed.
func Files(dir string) ([]string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	err = filepath.WalkDir(abs, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // removed while we walk
			return nil
		}
		if err == nil && path != abs {
			found = append(found, path)
		}
		return err
	})
	return found, err
}

// pollEvery is how often Wait looks again: much shorter than a person notices, long enough to leave the CPU to those
// that are still cleaning up.
const pollEvery = 20 * time.Millisecond

// Wait looks until nothing is left of dir or ctx ends, and returns what the last look found. The end of ctx is no
// error: the report tells.
func Wait(ctx context.Context, dir string) (Report, error) {
	return wait(ctx, func() (Report, error) { return Find(dir) })
}

func wait(ctx context.Context, find func() (Report, error)) (Report, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		r, err := find()
		if err != nil || r.Empty() {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, nil
		case <-tick.C:
		}
	}
}

// TB is the part of testing.TB that Check uses; it keeps the testing package out of programs that import this one.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
}

// checkFor bounds Check. Things that end because their connection ended need moments; the rest is for a machine that is busy.
const checkFor = time.Minute

// Check fails the test with a list unless, within a minute, nothing is left of dir.
func Check(t TB, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), checkFor)
	defer cancel()
	check(ctx, t, dir)
}

func check(ctx context.Context, t TB, dir string) {
	t.Helper()
	r, err := Wait(ctx, dir)
	if err != nil {
		t.Errorf("cannot look for leftovers of %s: %v", dir, err)
		return
	}
	if !r.Empty() {
		t.Errorf("left over of %s:\n%s", dir, r)
	}
}
