//go:build !engine

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/filewatch"
)

// follower passes changes of definition files on to the hosts that they are for. A change that is no good is told, and
// reaches none of them.
type follower struct {
	stderr io.Writer
	files  map[string]*followed // by path
	gone   map[string]error     // files that are not there any more, by path
}

type followed struct {
	*source
	hosts []fleet.Host
}

// newFollower follows the files of hosts, one source for each; it says in Follow which they are.
func newFollower(stderr io.Writer, hosts []fleet.Host, sources []*source) (*follower, error) {
	w := &follower{stderr: stderr, files: map[string]*followed{}}
	for i, s := range sources {
		if info, err := os.Stat(s.file); err == nil && !info.Mode().IsRegular() {
			continue // what was read from a pipe is not there a second time
		}
		path, err := filepath.Abs(s.file)
		if err != nil {
			return nil, err
		}
		hosts[i].Follow = path
		w.add(path, hosts[i], s)
	}
	return w, nil
}

// followSaved follows the files that the run followed when its initiator died. What was saved to them since then is a change.
func followSaved(stderr io.Writer, hosts []fleet.Host) (*follower, error) {
	w := &follower{stderr: stderr, files: map[string]*followed{}, gone: map[string]error{}}
	for _, h := range hosts {
		if h.Follow == "" || w.gone[h.Follow] != nil {
			continue
		}
		if f := w.files[h.Follow]; f != nil {
			if !bytes.Equal(f.bytes, h.Definition) {
				f.bytes = nil // some hosts have an older one: whatever is there now is news to them
			}
			w.add(h.Follow, h, nil)
			continue
		}
		if _, err := os.Stat(h.Follow); err != nil { // the run may come from another machine
			w.gone[h.Follow] = err
			continue
		}
		s := &source{file: h.Follow, bytes: h.Definition}
		var err error
		if s.def, err = s.check(h.Definition, h.Name, h.Addr, h.Vars); err != nil {
			return nil, err
		}
		s.remote = s.def.Remote != ""
		w.add(h.Follow, h, s)
	}
	return w, nil
}

// add has a host follow a file; the first one brings the source.
func (w *follower) add(path string, h fleet.Host, s *source) {
	f := w.files[path]
	if f == nil {
		f = &followed{source: s}
		w.files[path] = f
	}
	f.hosts = append(f.hosts, h)
}

// run follows the files until ctx ends.
func (w *follower) run(ctx context.Context, f *fleet.Fleet) {
	for _, path := range slices.Sorted(maps.Keys(w.gone)) {
		say(w.stderr, "warning: changes of the definition are not followed any more: %v", w.gone[path])
	}
	if len(w.files) == 0 {
		return
	}
	known := map[string][]byte{}
	for path, file := range w.files {
		known[path] = file.bytes
	}
	if err := filewatch.Watch(ctx, known, func(c filewatch.Change) { w.changed(f, c) }); err != nil {
		say(w.stderr, "warning: changes of the definition files are not followed: %v", err)
	}
}

// changed takes one change. Hosts of a template differ, so each is asked before any is given something.
func (w *follower) changed(f *fleet.Fleet, c filewatch.Change) {
	file := w.files[c.Path]
	if c.Err != nil {
		say(w.stderr, "%s can't be read, the hosts keep the definition that they have: %v", file.file, c.Err)
		return
	}
	var problems []string
	for _, h := range file.hosts {
		if err := file.checkFor(h, c.Content); err != nil {
			problems = append(problems, err.Error())
		}
		if h.Vars == nil { // no template: what is good for one is good for all
			break
		}
	}
	if len(problems) > 0 {
		w.refuse(file.file, problems)
		return
	}
	for _, h := range file.hosts {
		if err := f.Update(h.Name, c.Content); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) > 0 {
		w.refuse(file.file, problems)
	}
}

// maxRefusals is how many hosts' problems with one template are shown.
const maxRefusals = 3

func (w *follower) refuse(name string, problems []string) {
	more := ""
	if n := len(problems) - maxRefusals; n > 0 {
		problems, more = problems[:maxRefusals], fmt.Sprintf("\nand %d more", n)
	}
	say(w.stderr, "%s changed and is no good, the hosts keep the definition that they have:\n%s%s", name, strings.Join(problems, "\n"), more)
}
