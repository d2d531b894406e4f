//go:build !engine

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/internal/filewatch"
)

// follower passes changes of definition files on to the hosts that they are for. A change that is no good is told, and
// reaches none of them.
type follower struct {
	stderr io.Writer
	files  map[string]*followed // by name
}

type followed struct {
	*source
	hosts []fleet.Host
}

// newFollower follows the regular files among sources, one of which there is for each host. What was read from a pipe is
// not there a second time.
func newFollower(stderr io.Writer, hosts []fleet.Host, sources []*source) *follower {
	w := &follower{stderr: stderr, files: map[string]*followed{}}
	for i, s := range sources {
		if f := w.files[s.file]; f != nil {
			f.hosts = append(f.hosts, hosts[i])
		} else if info, err := os.Stat(s.file); err != nil || info.Mode().IsRegular() {
			w.files[s.file] = &followed{s, hosts[i : i+1 : i+1]}
		}
	}
	return w
}

// run follows the files until ctx ends.
func (w *follower) run(ctx context.Context, f *fleet.Fleet) {
	known := map[string][]byte{}
	for name, file := range w.files {
		known[name] = file.bytes
	}
	if err := filewatch.Watch(ctx, known, func(c filewatch.Change) { w.changed(f, c) }); err != nil {
		say(w.stderr, "warning: changes of the definition files are not followed: %v", err)
	}
}

// changed takes one change. Hosts of a template differ, so each is asked before any is given something.
func (w *follower) changed(f *fleet.Fleet, c filewatch.Change) {
	file := w.files[c.Path]
	if c.Err != nil {
		say(w.stderr, "%s can't be read, the hosts keep the definition that they have: %v", c.Path, c.Err)
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
		w.refuse(c.Path, problems)
		return
	}
	for _, h := range file.hosts {
		if err := f.Update(h.Name, c.Content); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) > 0 {
		w.refuse(c.Path, problems)
	}
}

// maxRefusals is how many hosts' problems with one template are shown.
const maxRefusals = 3

func (w *follower) refuse(path string, problems []string) {
	more := ""
	if n := len(problems) - maxRefusals; n > 0 {
		problems, more = problems[:maxRefusals], fmt.Sprintf("\nand %d more", n)
	}
	say(w.stderr, "%s changed and is no good, the hosts keep the definition that they have:\n%s%s", path, strings.Join(problems, "\n"), more)
}
