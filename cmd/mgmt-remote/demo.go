//go:build !engine

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

// demoConverged is how long the demo's group must be quiet: long enough to be seen.
const demoConverged = time.Second

// demoLimit ends a demo that does not converge.
const demoLimit = 2 * time.Minute

func newDemoCommand() *cobra.Command {
	var hosts int
	var json bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a graph on a fleet inside this process: no sshd, no root",
		Long: `Start SSH servers inside this process, each with a sandbox directory as its
machine, and run a graph on all of them: real SSH, real files, real processes,
real etcd, on loopback only.

Each host offers a line to the others and makes a list of those of all. At the
end it checks from outside that each host's files are there and the lists are
whole, that the group converged through the etcd, and that nothing of ours is
left in any sandbox. It fails if any of that is not so.`,
		Example: "  mgmt-remote demo\n  mgmt-remote demo --hosts 20",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if hosts < 1 || hosts > 1000 {
				return fmt.Errorf("--hosts %d: use 1 to 1000", hosts)
			}
			return demo(cmd, hosts, json)
		},
	}
	cmd.Flags().IntVar(&hosts, "hosts", 5, "run on `N` hosts")
	cmd.Flags().BoolVar(&json, "json", false, "one JSON event per line on stdout (docs/events.md)")
	return cmd
}

func demo(cmd *cobra.Command, hosts int, json bool) (err error) {
	dir, err := os.MkdirTemp("", "mr-demo-") // short: paths of Unix sockets are
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	machines, err := sshfleet.New(sshfleet.Options{Dir: filepath.Join(dir, "m"), Hosts: hosts})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, machines.Close()) }()

	out := cmd.OutOrStdout()
	say := func(format string, args ...any) {
		if !json {
			_, _ = fmt.Fprintf(out, format+"\n", args...) // the printer tells when stdout is gone
		}
	}
	say("%d machines, each an SSH server in this process, below %s\n", hosts, dir)
	watch := &demoWatch{machines: machines, patience: demoPatience, steps: map[string]map[messages.Step]bool{}}
	opts := fleet.Options{
		SSH: fleet.SSH{
			KnownHosts: []string{machines.KnownHostsFile()}, Identities: []string{machines.KeyFile()},
		},
		ConvergedTimeout: demoConverged, MaxRuntime: demoLimit, NoCache: true,
		StateDir: filepath.Join(dir, "state"), Observe: watch.event,
	}
	for _, m := range machines.Hosts() {
		addr, _, err := net.SplitHostPort(m.Addr())
		if err != nil {
			return err
		}
		opts.Hosts = append(opts.Hosts, fleet.Host{
			Name: m.Name(), Addr: addr, Port: m.Port(), User: m.User(), Prefix: m.Prefix(), Definition: demoDefinition(m),
		})
	}
	output := outputFlags{json: json}
	if !json {
		output.form = formLines // what is done is the point, not how far it is
	}
	show, err := output.open(out, false)
	if err != nil {
		return err
	}
	if err := drive(cmd, opts, show, nil); err != nil {
		return err
	}
	return watch.verdict(say)
}

// demoDefinition has a file, another that must come after it, a command that runs after that, and what makes a fleet of the
// hosts: each offers a line about itself to the others, collects those of all, and makes a list of them.
func demoDefinition(m *sshfleet.Host) []byte {
	home := m.Home()
	return fmt.Appendf(nil, `graph: demo
comment: what mgmt-remote demo applies on every host
resources:
  noop:
  - name: start
  file:
  - name: greeting
    path: %[1]s/greeting
    content: |
      hello from %[2]s
    mode: "0640"
    state: exists
  - name: notes
    path: %[1]s/notes
    content: "applied after the greeting\n"
    state: exists
  - name: met
    path: %[1]s/met/
  - name: everybody
    path: %[1]s/everybody
    fragments: [%[1]s/met/]
  - name: "@@%[2]s"
    path: /%[2]s
    content: "%[2]s says hello\n"
  exec:
  - name: count
    cmd: wc -c < %[1]s/greeting > %[1]s/count
    shell: /bin/sh
    state: present
edges:
- {name: e1, from: {kind: noop, name: start}, to: {kind: file, name: greeting}}
- {name: e2, from: {kind: file, name: greeting}, to: {kind: file, name: notes}}
- {name: e3, from: {kind: file, name: notes}, to: {kind: exec, name: count}}
collect:
- {kind: file, pattern: %[1]s/met/}
`, home, m.Name())
}

// demoWatch sees what the printer sees and looks at the sandboxes from outside. event is called by one goroutine.
type demoWatch struct {
	machines *sshfleet.Fleet
	patience time.Duration // with what has not ended yet

	mu        sync.Mutex
	steps     map[string]map[messages.Step]bool
	converged bool
	problems  []error // with the files, at the moment of convergence
}

func (w *demoWatch) event(event messages.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := event.(type) {
	case messages.StepDone:
		if w.steps[e.Host] == nil {
			w.steps[e.Host] = map[messages.Step]bool{}
		}
		w.steps[e.Host][e.Step] = true
	case messages.Converged:
		w.converged = true
		for _, m := range w.machines.Hosts() {
			w.problems = append(w.problems, checkFiles(m, w.everybody()))
		}
	}
}

// everybody is the list that each host makes of what all of them export, in the order of the files' names.
func (w *demoWatch) everybody() string {
	var lines []string
	for _, m := range w.machines.Hosts() {
		lines = append(lines, m.Name()+" says hello\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// checkFiles holds a sandbox against the definition.
func checkFiles(m *sshfleet.Host, everybody string) error {
	greeting := "hello from " + m.Name() + "\n"
	want := map[string]string{
		"greeting": greeting, "notes": "applied after the greeting\n", "count": fmt.Sprintf("%d\n", len(greeting)),
		"everybody": everybody,
	}
	var errs []error
	for name, content := range want {
		got, err := os.ReadFile(filepath.Join(m.Home(), name))
		if err == nil && strings.TrimLeft(string(got), " ") != content {
			err = fmt.Errorf("contains %q instead of %q", got, content)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", m.Name(), name, err))
		}
	}
	return errors.Join(errs...)
}

// verdict says what was found, and fails where it is not as promised.
func (w *demoWatch) verdict(say func(string, ...any)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	errs := []error{errors.Join(w.problems...)}
	if !w.converged {
		errs = append(errs, errors.New("the group did not converge through the etcd"))
	}
	for _, m := range w.machines.Hosts() {
		for step := messages.StepConnect; step <= messages.StepDisconnect; step++ {
			if !w.steps[m.Name()][step] {
				errs = append(errs, fmt.Errorf("%s: step %d %v was not done", m.Name(), step, step))
			}
		}
		errs = append(errs, nothingLeft(m, w.patience))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the demo failed:\n%w", err)
	}
	n := len(w.machines.Hosts())
	say("\nchecked from outside: all nine steps done on %d hosts, their files as declared,", n)
	say("each has what all of them exported, converged together through the etcd,")
	say("nothing of ours left in any sandbox")
	return nil
}

// demoPatience is how long the end of a machine's own processes may take: the shell that a closed connection's command
// ran in ends by itself, but not before we look, and on a busy machine long after it.
const demoPatience = 30 * time.Second

// nothingLeft looks for what the session may have left on a machine, until there is nothing or the patience is over.
func nothingLeft(m *sshfleet.Host, patience time.Duration) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	over := time.After(patience)
	for {
		err := leftOn(m)
		if err == nil {
			return nil
		}
		select {
		case <-look.C:
		case <-over:
			return err
		}
	}
}

// leftOn says what is left right now: below the directory that the session worked in, and processes.
func leftOn(m *sshfleet.Host) error {
	report, err := leftovers.Find(m.Prefix())
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(m.Prefix())
	if err != nil {
		return err
	}
	processes, err := m.Processes()
	if err != nil {
		return err
	}
	if !report.Empty() || len(entries) > 0 || len(processes) > 0 {
		return fmt.Errorf("%s: left behind: %v %v %v", m.Name(), report, entries, processes)
	}
	return nil
}
