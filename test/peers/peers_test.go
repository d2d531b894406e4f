//go:build linux

// Package peers measures this project beside other programs that run a command on many hosts, in one go and on the
// same real sshd, so that the ratios mean something on any machine. Only `go test -bench` does anything here.
package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

const (
	servers = 2  // real sshd
	names   = 40 // host names that share them
	width   = 20 // hosts at a time, for every program alike
)

// fleet is what all programs are pointed at: names in one ssh_config.
type fleet struct {
	dir, config string
	servers     []*sshd.Server
}

func newFleet(b *testing.B) *fleet {
	b.Helper()
	dir, err := os.MkdirTemp("", "mr-peers-") // short: paths of Unix sockets are
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	f := &fleet{dir: dir, config: filepath.Join(dir, "config")}
	for range servers {
		f.servers = append(f.servers, sshd.Start(b, sshd.Options{Config: []string{"MaxStartups 200"}}))
	}
	var config, known strings.Builder
	for i := range names {
		s := f.server(i)
		fmt.Fprintf(&config, "Host p%d\n HostName 127.0.0.1\n Port %d\n User %s\n IdentityFile %s\n IdentitiesOnly yes\n UserKnownHostsFile %s\n ControlPath none\n",
			i, s.Port, s.User, s.KeyFile, f.knownHosts())
	}
	for _, s := range f.servers {
		line, err := os.ReadFile(s.KnownHostsFile)
		if err != nil {
			b.Fatal(err)
		}
		known.Write(line)
	}
	for file, text := range map[string]string{f.config: config.String(), f.knownHosts(): known.String(), f.list(): f.lines()} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

func (f *fleet) server(i int) *sshd.Server { return f.servers[i%len(f.servers)] }
func (f *fleet) knownHosts() string        { return filepath.Join(f.dir, "known_hosts") }
func (f *fleet) list() string              { return filepath.Join(f.dir, "hosts") }

func (f *fleet) lines() string {
	var lines strings.Builder
	for i := range names {
		fmt.Fprintf(&lines, "p%d\n", i)
	}
	return lines.String()
}

// program is one way to run `true` on all hosts. Each does at most width of them at the same time.
type program struct {
	name    string
	needs   string
	command func(f *fleet) []string
}

var programs = []program{
	{"mgmt-remote", "../../bin/mgmt-remote", func(f *fleet) []string {
		args := []string{"../../bin/mgmt-remote", "run", "--known-hosts", f.knownHosts(), "--max-connections", fmt.Sprint(width)}
		for _, s := range f.servers {
			args = append(args, "-i", s.KeyFile)
		}
		for i := range names {
			s := f.server(i)
			args = append(args, "-H", fmt.Sprintf("p%d=%s@127.0.0.1:%d", i, s.User, s.Port))
		}
		return append(args, "--", "true")
	}},
	{"ssh", "ssh", func(f *fleet) []string {
		return []string{"xargs", "-a", f.list(), "-P", fmt.Sprint(width), "-I", "{}", "ssh", "-F", f.config, "{}", "true"}
	}},
	{"clush", "clush", func(f *fleet) []string {
		return []string{"clush", "-S", "-f", fmt.Sprint(width), "-o", "-F " + f.config, "--hostfile", f.list(), "true"}
	}},
	{"parallel-ssh", "parallel-ssh", func(f *fleet) []string {
		return []string{"parallel-ssh", "-p", fmt.Sprint(width), "-x", "-F " + f.config, "-h", f.list(), "true"}
	}},
}

// BenchmarkPeers runs `true` on all hosts with each program in turn and reports the program's own CPU time and the wall
// time, per host. Ours does much more than its peers (directory, copy, tunnel, detached session); theirs only runs.
func BenchmarkPeers(b *testing.B) {
	f := newFleet(b)
	for _, p := range programs {
		b.Run(p.name, func(b *testing.B) {
			if _, err := exec.LookPath(p.needs); err != nil {
				b.Skipf("not here: %v (make build; apt-get install clustershell pssh)", err)
			}
			f.run(b, p) // what is cached from then on is cached for all
			var cpu, wall time.Duration
			for b.Loop() {
				c, w := f.run(b, p)
				cpu, wall = cpu+c, wall+w
			}
			per := float64(b.N) * names * float64(time.Millisecond)
			b.ReportMetric(float64(cpu)/per, "cpu-ms/host")
			b.ReportMetric(float64(wall)/per, "wall-ms/host")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// run runs a program once and returns its CPU time, that of its own children included, and its wall time.
func (f *fleet) run(b *testing.B, p program) (cpu, wall time.Duration) {
	b.Helper()
	argv := p.command(f)
	cmd := exec.CommandContext(b.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+f.dir, "SSH_AUTH_SOCK=")
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", p.name, err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), time.Since(began)
}
