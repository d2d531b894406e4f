package sshconn

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// startAgent starts a real ssh-agent with keys in it.
func startAgent(t *testing.T, keys ...string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent")
	agentd := exec.Command("ssh-agent", "-D", "-a", socket)
	must(t, agentd.Start())
	t.Cleanup(func() { _ = agentd.Process.Kill(); _ = agentd.Wait() })
	eventually(t, "the agent listens", func() bool {
		c, err := net.Dial("unix", socket)
		return err == nil && c.Close() == nil
	})
	for _, key := range keys {
		add := exec.Command("ssh-add", "-q", key)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v\n%s", err, out)
		}
	}
	return socket
}

// certify makes KEY-cert.pub with ssh-keygen.
func certify(t *testing.T, ca, user, key string, more ...string) {
	t.Helper()
	run(t, "ssh-keygen", append(append([]string{"-q", "-s", ca, "-I", "of the test", "-n", user}, more...), key+".pub")...)
}

// A certificate does for a user: beside the key, named for the host, of an agent, and where only the agent has the key. The
// server knows no key at all. The host has a certificate, too.
func TestCertificates(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	ca, caKey := newIdentity(t)
	hostCA, hostCAKey := newIdentity(t)
	trusted := writeFile(t, filepath.Join(t.TempDir(), "ca"), string(ssh.MarshalAuthorizedKey(caKey)))
	certHost := filepath.Join(t.TempDir(), "host-cert.pub")
	s := startSSHDWith(t, func(s *sshd) {
		run(t, "ssh-keygen", "-q", "-s", hostCA, "-I", "the host", "-h", "-n", "web.example", s.dir+"/host.pub")
		must(t, os.Rename(s.dir+"/host-cert.pub", certHost))
	}, "TrustedUserCAKeys "+trusted+"\nHostCertificate "+certHost+"\n")
	known := writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), "@cert-authority *.example "+string(ssh.MarshalAuthorizedKey(hostCAKey)))
	keys := newHostKeys(t, HostKeyOptions{Files: []string{known}})
	dial := func(auth AuthOptions, ssh inventory.SSH) error {
		t.Helper()
		ssh.HostKeyAlias = "web.example" // a certificate has no port and no address
		c, err := dialer(t, Options{HostKeys: keys, Auth: newAuth(t, auth)}).Dial(t.Context(), withSSH(s.host, ssh))
		if err == nil {
			must(t, c.Close())
		}
		return err
	}
	for _, kind := range [][]string{{"-t", "ed25519", "-N", ""}, {"-t", "rsa", "-b", "2048", "-N", ""}, {"-t", "ecdsa", "-N", ""}} {
		id, _ := newIdentity(t, kind...)
		wantFault(t, dial(AuthOptions{Identities: []string{id}}, inventory.SSH{}), fault.Denied, "tried 1 key")
		certify(t, ca, s.host.User, id)
		must(t, dial(AuthOptions{Identities: []string{id}}, inventory.SSH{}))
		must(t, dial(AuthOptions{}, inventory.SSH{Identities: []string{id}}))
		elsewhere := filepath.Join(t.TempDir(), "named-cert.pub")
		socket := startAgent(t, id) // ssh-add takes the certificate, too
		must(t, dial(AuthOptions{AgentSocket: socket}, inventory.SSH{}))
		must(t, dial(AuthOptions{}, inventory.SSH{Agent: socket, Identities: []string{id + ".pub"}, IdentitiesOnly: true}))
		must(t, os.Rename(id+"-cert.pub", elsewhere))
		must(t, dial(AuthOptions{}, inventory.SSH{Identities: []string{id}, Certificates: []string{"none", elsewhere}}))
		wantFault(t, dial(AuthOptions{}, inventory.SSH{Identities: []string{id}, Certificates: []string{id + ".pub"}}), fault.Denied, "is no user certificate")
	}
	// One that is over is not tried, and that is said.
	id, _ := newIdentity(t)
	certify(t, ca, s.host.User, id, "-V", "-2w:-1w")
	wantFault(t, dial(AuthOptions{Identities: []string{id}}, inventory.SSH{}), fault.Denied, `the certificate "of the test" was valid until`, "tried 1 key")
	// A host's certificate of another authority, and a revoked authority.
	certify(t, ca, s.host.User, id)
	other := writeFile(t, filepath.Join(t.TempDir(), "other"), "@cert-authority *.example "+string(ssh.MarshalAuthorizedKey(caKey)))
	if err := dial(AuthOptions{Identities: []string{id}}, inventory.SSH{KnownHosts: []string{other}}); err == nil {
		t.Error("a certificate of an unknown authority is taken")
	}
	revoked := writeFile(t, filepath.Join(t.TempDir(), "revoked"), "@revoked * "+string(ssh.MarshalAuthorizedKey(hostCAKey))+
		"@cert-authority *.example "+string(ssh.MarshalAuthorizedKey(hostCAKey)))
	wantFault(t, dial(AuthOptions{Identities: []string{id}}, inventory.SSH{KnownHosts: []string{revoked}}), fault.Untrusted, "revoked")
}

// With more keys in the agent than a server takes, IdentitiesOnly makes that the right one is tried alone.
func TestIdentitiesOnly(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	var wrong []string
	for range 4 {
		id, _ := newIdentity(t)
		wrong = append(wrong, id)
	}
	right, public := newIdentity(t)
	s := startSSHD(t, "MaxAuthTries 2", public)
	o := Options{HostKeys: newHostKeys(t, HostKeyOptions{Policy: Insecure}), Auth: newAuth(t, AuthOptions{AgentSocket: startAgent(t, append(wrong, right)...)})}
	dial := func(ssh inventory.SSH) error {
		c, err := dialer(t, o).Dial(t.Context(), withSSH(s.host, ssh))
		if err == nil {
			must(t, c.Close())
		}
		return err
	}
	wantFault(t, dial(inventory.SSH{}), fault.Denied, "Too many authentication failures")
	must(t, dial(inventory.SSH{Identities: []string{right}})) // named, it goes first
	must(t, dial(inventory.SSH{Identities: []string{right}, IdentitiesOnly: true}))
	must(t, dial(inventory.SSH{Identities: []string{"none", right + ".pub"}, IdentitiesOnly: true})) // the agent has the private one
	wantFault(t, dial(inventory.SSH{Identities: []string{wrong[0]}, IdentitiesOnly: true}), fault.Denied, "tried 1 key")
	wantFault(t, dial(inventory.SSH{Identities: []string{right + ".pub"}, IdentitiesOnly: true, Agent: "none"}), fault.Denied, "neither there nor in the ssh-agent")
	wantFault(t, dial(inventory.SSH{Identities: []string{right}, IdentitiesOnly: true, PubkeyAlgorithms: "rsa-sha2-512"}), fault.Denied, "tried 0 keys")
	wantFault(t, o.Auth.CheckMethods(withSSH(noPassword, inventory.SSH{Identities: []string{"/nonexistent-of-ours"}, IdentitiesOnly: true})), fault.Denied,
		"none of the keys that are named for the host can be used", "/nonexistent-of-ours")
}

// A key that several hosts have, encrypted, is asked for once; one that can't be asked for is told.
func TestEncryptedKeyOfHosts(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	id, public := newIdentity(t, "-t", "ed25519", "-a", "1", "-N", "open sesame")
	s := startSSHD(t, "", public)
	p := &answers{list: []inventory.Secret{"open sesame"}}
	o := Options{HostKeys: newHostKeys(t, HostKeyOptions{Policy: Insecure}), Auth: newAuth(t, AuthOptions{Prompter: p})}
	host := withSSH(s.host, inventory.SSH{Identities: []string{id}})
	for range 3 {
		connect(t, o, host)
	}
	if len(p.asked) != 1 {
		t.Errorf("asked %q", p.asked)
	}
	// Beforehand, where there will be nobody later.
	p = &answers{list: []inventory.Secret{"open sesame"}}
	o.Auth = newAuth(t, AuthOptions{Prompter: p})
	must(t, o.Auth.CheckMethods(host))
	must(t, o.Auth.Unlock(t.Context(), nil))
	if fmt.Sprint(p.asked) != "[Passphrase for "+id+": ]" {
		t.Errorf("asked %q", p.asked)
	}
	connect(t, o, host)
	// So are passwords of several hosts, each once.
	p = &answers{list: []inventory.Secret{"a", "b"}}
	o.Auth = newAuth(t, AuthOptions{Prompter: p})
	must(t, o.Auth.Unlock(t.Context(), []inventory.Host{{Name: "1", Shared: "web"}, {Name: "2", Shared: "web"}, {Name: "3", Shared: "db"}, {Name: "4"}, {Name: "5", Shared: "web", Password: "own"}}))
	if got := fmt.Sprint(p.asked); got != "[Password for hosts of web:  Password for hosts of db: ]" {
		t.Errorf("asked %q", got)
	}
	o.Auth = newAuth(t, AuthOptions{})
	wantFault(t, o.Auth.CheckMethods(inventory.Host{Name: "h", Shared: "web"}), fault.Denied, "nobody to ask for the password of hosts of web")
	if _, err := dialer(t, o).Dial(t.Context(), host); err == nil || !strings.Contains(err.Error(), "nobody to ask for its passphrase") {
		t.Error(err)
	}
}
