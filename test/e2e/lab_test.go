//go:build linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
	"github.com/mgmt-remote/mgmt-remote/test/netlab"
	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// lab is some hosts and what an initiator needs to reach them. All of it ends with the test.
type lab struct {
	t      *testing.T
	hosts  []*host
	runFor time.Duration // bounds each run of the program
	dir    string        // state, home and temporary files of the initiator; short, since paths of unix sockets are
	net    *netlab.Lab   // nil where everybody is on loopback

	stateHome string // where runs are kept; "" = dir
	program   string // what is run: the real program, where a test does not say otherwise
}

// host is one SSH server with its name in the run.
type host struct {
	*sshd.Server
	name string
}

// newLab starts n plain sshd, named h1, h2, …. Each has its own port, keys, home and /var/tmp.
func newLab(t *testing.T, n int) *lab {
	t.Helper()
	l := emptyLab(t)
	for range n {
		l.add(sshd.Start(t, sshd.Options{OwnVarTmp: true}))
	}
	return l
}

// emptyLab has no hosts yet: see add.
func emptyLab(t *testing.T) *lab {
	t.Helper()
	return &lab{t: t, dir: shortDir(t), runFor: runFor, program: program}
}

// shortDir is t.TempDir with a short path.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// add makes a server a host of the lab.
func (l *lab) add(s *sshd.Server) *host {
	h := &host{Server: s, name: "h" + strconv.Itoa(len(l.hosts)+1)}
	l.hosts = append(l.hosts, h)
	return h
}

// newNetLab starts n plain sshd, each in a network of its own; so is the program.
func newNetLab(t *testing.T, n int, config ...string) *lab {
	t.Helper()
	l := emptyLab(t)
	l.net = netlab.New(t, n)
	for _, node := range l.net.Hosts {
		l.add(sshd.Start(t, sshd.Options{OwnVarTmp: true, NetNS: node.NS, Listen: node.Addr, Config: config}))
	}
	return l
}

// command is the program, where the lab has it run.
func (l *lab) command(ctx context.Context, args ...string) *exec.Cmd {
	if l.net != nil {
		return l.net.Initiator.Command(ctx, l.program, args...)
	}
	return exec.CommandContext(ctx, l.program, args...)
}

// arg is the host as -H takes it.
func (h *host) arg() string { return fmt.Sprintf("%s=%s@%s", h.name, h.User, h.Addr) }

// args are the arguments of `mgmt-remote run` for all hosts, and more.
func (l *lab) args(more ...string) []string {
	l.t.Helper()
	args := []string{"run", "--known-hosts", l.knownHosts()}
	for _, h := range l.hosts {
		args = append(args, "-i", h.KeyFile, "-H", h.arg())
	}
	return append(args, more...)
}

// knownHosts writes the keys of all hosts into one file.
func (l *lab) knownHosts() string {
	l.t.Helper()
	var all []byte
	for _, h := range l.hosts {
		one, err := os.ReadFile(h.KnownHostsFile)
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, one...)
	}
	file := filepath.Join(l.dir, "known_hosts")
	if err := os.WriteFile(file, all, 0o600); err != nil {
		l.t.Fatal(err)
	}
	return file
}

// file writes a file of the initiator and returns its path.
func (l *lab) file(name, text string, mode os.FileMode) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// outside is where a path below the host's /var/tmp is for the test. Other paths are the same for both.
func (h *host) outside(path string) string {
	if rest, ok := strings.CutPrefix(path, "/var/tmp/"); ok && h.VarTmp != "" {
		return filepath.Join(h.VarTmp, rest)
	}
	return path
}

// base is the directory of mgmt-remote on the host, as the test sees it.
func (h *host) base() string {
	return h.outside(filepath.Join("/var/tmp", "mgmt-remote-"+strconv.Itoa(os.Getuid())))
}

// checkCacheOnly fails the test unless nothing but the cache is left on the host: no process, no socket, no other file.
func (h *host) checkCacheOnly(t *testing.T, run string) {
	t.Helper()
	h.checkNoProcess(t, run)
	files, err := leftovers.Files(h.VarTmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f != h.base() && f != filepath.Join(h.base(), "cache") && !strings.HasPrefix(f, filepath.Join(h.base(), "cache")+"/") {
			t.Errorf("%s: left over: %s", h.name, f)
		}
	}
}

// checkNothing fails the test unless nothing at all is left on the host.
func (h *host) checkNothing(t *testing.T, run string) {
	t.Helper()
	h.checkNoProcess(t, run)
	leftovers.Check(t, h.VarTmp)
	leftovers.Check(t, h.Home)
}

// checkNoProcess looks for processes and sockets of the run on the host. What sshd started has the host's HOME; paths with the run's
// ID are those of its session.
func (h *host) checkNoProcess(t *testing.T, run string) {
	t.Helper()
	session := filepath.Join("/var/tmp", filepath.Base(h.base()), run, h.name)
	leftovers.Check(t, session) // in the test's /var/tmp there is no such file, but sockets and command lines say so
	// What lost its connection a moment ago may need another moment.
	deadline := time.Now().Add(endFor)
	for {
		ps, err := leftovers.Processes(h.Home)
		if err != nil {
			t.Fatal(err)
		}
		ps = slices.DeleteFunc(ps, h.Owns)
		if len(ps) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: left over: %v", h.name, ps)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// endFor is how long a process may need to notice that it is not needed any more. Mostly it is moments; the rest is for a machine that is busy.
const endFor = time.Minute
