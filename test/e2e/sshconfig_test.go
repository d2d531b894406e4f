//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// sshConfig writes a configuration that alone says how the hosts of the lab are reached, and returns its path.
func (l *lab) sshConfig(more string) string {
	l.t.Helper()
	text := more
	for _, h := range l.hosts {
		text += fmt.Sprintf("Host %s\n  HostName 127.0.0.1\n  Port %d\n  User %s\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n",
			h.name, h.Port, h.User, h.KeyFile, h.KnownHostsFile)
	}
	return l.file("ssh_config", text, 0o600)
}

// accepts counts the logins in a server's log.
func (h *host) accepts() int { return strings.Count(h.Log(), "Accepted publickey") }

// TestTwoHopsOfAConfiguration reaches hosts as OpenSSH's configuration says: through two jump hosts, one of which is only named for
// the other, with keys and known hosts of their own. Each jump host is logged in to once.
func TestTwoHopsOfAConfiguration(t *testing.T) {
	t.Parallel()
	l := newLab(t, 4)
	config := l.sshConfig("Host h3 h4\n  ProxyJump h2\nHost h2\n  ProxyJump h1\n")
	out, err := exec.CommandContext(t.Context(), "ssh", "-F", config, "h3", "echo reached").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "reached") {
		t.Fatalf("the real ssh does not get there: %v\n%s", err, out)
	}
	before := []int{l.hosts[0].accepts(), l.hosts[1].accepts()}
	p := l.run("run", "-F", config, "-H", "h[3-4]", "--json", "--no-cache", "--", "true")
	p.wantCode(0)
	for i, h := range l.hosts[:2] {
		if n := h.accepts() - before[i]; n != 1 {
			t.Errorf("%s was logged in to %d times", h.name, n)
		}
	}
	for _, h := range l.hosts[2:] {
		h.checkNothing(t, p.runID())
	}
}

// TestAProxyCommand reaches a host through the real ssh -W as a proxy command.
func TestAProxyCommand(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	file := filepath.Join(l.dir, "ssh_config")
	config := l.sshConfig("Host h2\n  ProxyCommand ssh -F " + file + " -W %h:%p h1\n")
	p := l.run("run", "-F", config, "-H", "h2", "--json", "--no-cache", "--", "true")
	p.wantCode(0)
	l.hosts[1].checkNothing(t, p.runID())
	if n := l.hosts[0].accepts(); n == 0 {
		t.Error("the proxy command was not used")
	}
	// What it says goes into the report.
	bad := l.file("bad_config", "Host h2\n  ProxyCommand echo no such way >&2\n", 0o600)
	p = l.run("run", "-F", bad, "-H", "h2", "-i", l.hosts[1].KeyFile, "--json", "--retry-for", "0", "--", "true")
	p.wantCode(4)
	if r := p.result("h2"); !strings.Contains(r.Reason, "it said no such way") {
		t.Errorf("%+v", r)
	}
}

// TestCertificatesOfUserAndHost has a server that knows no key of anybody, only an authority, and a client that knows no key of any host.
func TestCertificatesOfUserAndHost(t *testing.T) {
	t.Parallel()
	l := emptyLab(t)
	keygen := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ssh-keygen", append([]string{"-q"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	ca, key, hostKey := filepath.Join(l.dir, "ca"), filepath.Join(l.dir, "key"), filepath.Join(l.dir, "hostkey")
	for _, path := range []string{ca, key, hostKey} {
		keygen("-t", "ed25519", "-N", "", "-f", path)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	keygen("-s", ca, "-I", "somebody", "-n", me.Username, key+".pub")
	keygen("-s", ca, "-I", "a host", "-h", "-n", "web.example", hostKey+".pub")
	h := l.add(sshd.Start(t, sshd.Options{OwnVarTmp: true, Config: []string{
		"TrustedUserCAKeys " + ca + ".pub", "AuthorizedKeysFile none", "HostKey " + hostKey, "HostCertificate " + hostKey + "-cert.pub",
	}}))
	authority, err := os.ReadFile(ca + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	known := l.file("known_hosts", "@cert-authority *.example "+string(authority), 0o600)
	config := l.file("ssh_config", fmt.Sprintf(`Host web.example
  HostName 127.0.0.1
  HostKeyAlias web.example
  Port %d
  User %s
  IdentityFile %s
  UserKnownHostsFile %s
`, h.Port, h.User, key, known), 0o600)
	p := l.run("run", "-F", config, "-H", h.name+"=web.example", "--json", "--no-cache", "--", "true")
	p.wantCode(0)
	h.checkNothing(t, p.runID())
}
