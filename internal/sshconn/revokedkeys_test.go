package sshconn

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// sshConnects runs a command on a host with the real ssh, and reports whether that worked and what ssh said.
func sshConnects(t *testing.T, host inventory.Host, identity string, options ...string) (bool, string) {
	t.Helper()
	args := []string{"-F", "none", "-i", identity, "-p", fmt.Sprint(host.Port), "-l", host.User, "-o", "BatchMode=yes", "-o", "IdentityAgent=none", "-o", "GlobalKnownHostsFile=none"}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	cmd := exec.CommandContext(t.Context(), "ssh", append(args, host.Addr, "echo connected")...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("openssh-client is needed, see make deps: %v", err)
	}
	return err == nil && strings.Contains(string(out), "connected"), string(out)
}

// A host is refused where the real ssh refuses it: its key, its certificate or who signed that is revoked, or that can't be found out.
func TestRevokedHostKeys(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	id, public := newIdentity(t)
	ca, caKey := newIdentity(t)
	plain := startSSHD(t, "", public)
	certificate := filepath.Join(dir, "host-cert.pub")
	certified := startSSHDWith(t, func(s *sshd) {
		run(t, "ssh-keygen", "-q", "-s", ca, "-I", "web1", "-h", "-n", "web.example", "-z", "17", s.dir+"/host.pub")
		must(t, os.Rename(s.dir+"/host-cert.pub", certificate))
	}, "HostCertificate "+certificate, public)
	known := writeFile(t, filepath.Join(dir, "known_hosts"), "@cert-authority web.example "+string(ssh.MarshalAuthorizedKey(caKey))+
		knownhosts.Line([]string{"plain.example"}, plain.key)+"\n"+knownhosts.Line([]string{"key.example"}, certified.key)+"\n")
	file := func(name, text string) string { return writeFile(t, filepath.Join(dir, name), text) }
	krl := func(name, spec string, args ...string) string {
		list := filepath.Join(dir, name)
		run(t, "ssh-keygen", append(append([]string{"-q", "-k", "-f", list}, args...), file(name+".spec", spec+"\n"))...)
		return list
	}
	line := func(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }
	other := newSigner(t).PublicKey()
	damaged, err := os.ReadFile(krl("whole", "sha256: "+line(other)))
	must(t, err)

	for name, tc := range map[string]struct {
		file             string
		plain, certified []string // words of the error; nil = connected
	}{
		"another key":           {file: file("other", "# lost\n"+line(other)+"\n")},
		"the key":               {file: file("line", "# lost\n"+line(plain.key)+" of plain"), plain: []string{"revoked by " + dir + "/line, in line 2", ssh.FingerprintSHA256(plain.key), "give the host a new one"}},
		"the key in a list":     {file: krl("key", "key: "+line(plain.key)), plain: []string{"revoked by " + dir + "/key, by its key"}},
		"a fingerprint":         {file: krl("sha256", "sha256: "+line(certified.key)), certified: []string{"by its SHA256 fingerprint", ssh.FingerprintSHA256(certified.key)}},
		"the older fingerprint": {file: krl("sha1", "sha1: "+line(plain.key)), plain: []string{"by its SHA1 fingerprint"}},
		"a serial number":       {file: krl("serial", "serial: 10-20", "-s", ca+".pub"), certified: []string{"by the certificate's serial number 17"}},
		"another serial number": {file: krl("serials", "serial: 1-16\nserial: 18-20", "-s", ca+".pub")},
		"a name":                {file: krl("id", "id: web1", "-s", "none"), certified: []string{`by the certificate's ID "web1"`}},
		"the authority":         {file: file("ca", line(caKey)), certified: []string{"its authority " + ssh.FingerprintSHA256(caKey) + " is, in line 1"}},
		"nothing":               {file: krl("empty", "")},
		"no file":               {file: "none"},
		"missing":               {file: dir + "/missing", plain: []string{"no host is trusted", "no such file", "restore " + dir + "/missing"}, certified: []string{"no such file"}},
		"rubbish":               {file: file("rubbish", "h.example "+line(other)), plain: []string{dir + "/rubbish: line 1: "}, certified: []string{"line 1"}},
		"damaged":               {file: file("damaged", string(damaged[:len(damaged)-1])), plain: []string{dir + "/damaged: ", "ends too early"}, certified: []string{"ends too early"}},
	} {
		for _, to := range []struct {
			alias    string
			server   *sshd
			policy   HostKeyPolicy
			strict   string
			words    []string
			passOver bool
		}{
			{"plain.example", plain, Strict, "yes", tc.plain, false},
			{"web.example", certified, Strict, "yes", tc.certified, false},
			// A host of which the key is known is asked for its certificate as well.
			{"key.example", certified, Strict, "yes", tc.certified, tc.certified == nil && name != "nothing"},
			// Who takes any key does not take a revoked one.
			{"unknown.example", certified, Insecure, "no", tc.certified, tc.plain != nil},
		} {
			if to.passOver {
				continue
			}
			theirs, said := sshConnects(t, to.server.host, id, "HostKeyAlias="+to.alias, "UserKnownHostsFile="+known, "StrictHostKeyChecking="+to.strict, "RevokedHostKeys="+tc.file)
			keys := newHostKeys(t, HostKeyOptions{Policy: to.policy, Files: []string{known}})
			c, err := dialer(t, Options{HostKeys: keys, Auth: newAuth(t, AuthOptions{})}).Dial(t.Context(), withSSH(to.server.host, inventory.SSH{
				HostKeyAlias: to.alias, Identities: []string{id}, RevokedHostKeys: []string{tc.file},
			}))
			if err == nil {
				must(t, c.Close())
			}
			if theirs != (err == nil) {
				t.Errorf("%s, %s: ssh connects %v: %s; we say %v", name, to.alias, theirs, said, err)
			}
			if to.words == nil {
				must(t, err)
				continue
			}
			wantFault(t, err, fault.Untrusted, to.words...)
		}
	}
}

// Hosts with known_hosts files of their own share what was read of revoked keys, and a person is not asked about such a key.
func TestRevokedKeyIsNotAskedAbout(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	s := newServer(t)
	revoked := writeFile(t, filepath.Join(t.TempDir(), "revoked"), string(ssh.MarshalAuthorizedKey(s.hostKey.PublicKey())))
	p := &person{yes: true}
	for _, policy := range []HostKeyPolicy{Ask, AcceptNew} {
		file := filepath.Join(t.TempDir(), "known_hosts")
		keys := newHostKeys(t, HostKeyOptions{Policy: policy, Files: []string{file}, Confirm: p})
		d := dialer(t, Options{HostKeys: keys, Auth: newAuth(t, AuthOptions{}), NetDial: memory(t, s)})
		_, err := d.Dial(t.Context(), withSSH(testHost, inventory.SSH{KnownHosts: []string{file}, RevokedHostKeys: []string{"none", revoked}}))
		wantFault(t, err, fault.Untrusted, "revoked by "+revoked)
		if _, err := os.Stat(file); err == nil {
			t.Error("the key was remembered")
		}
	}
	if len(p.questions) > 0 {
		t.Errorf("asked %q", p.questions)
	}
}

// A certificate that does not count is no obstacle where the key is known, and is none to new hosts. One that is revoked is.
func TestKeyBehindACertificate(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	s := newServer(t)
	key, ca := s.hostKey.PublicKey(), newSigner(t)
	cert := &ssh.Certificate{Key: key, CertType: ssh.HostCert, ValidPrincipals: []string{"other.example"}, ValidBefore: ssh.CertTimeInfinity}
	must(t, cert.SignCert(rand.Reader, ca))
	signer, err := ssh.NewCertSigner(cert, s.hostKey)
	must(t, err)
	s.config.AddHostKey(signer)
	empty := writeFile(t, filepath.Join(t.TempDir(), "revoked"), "")
	known := knownhosts.Line([]string{"h.example"}, key) + "\n"
	authority := "@cert-authority * " + string(ssh.MarshalAuthorizedKey(ca.PublicKey()))
	for name, tc := range map[string]struct {
		policy HostKeyPolicy
		lines  string
		words  []string // nil = connected
	}{
		"the key is known":                 {Strict, known, nil},
		"the certificate is for another":   {Strict, authority, []string{`principal "h.example" not in the set`}},
		"and the key is known":             {Strict, authority + known, nil},
		"nothing is known":                 {Strict, "", []string{"the host is unknown, its key is ssh-ed25519 " + ssh.FingerprintSHA256(key)}},
		"nothing is known, take it":        {AcceptNew, "", nil},
		"a person is asked":                {Ask, "", nil},
		"the key has changed":              {AcceptNew, knownhosts.Line([]string{"h.example"}, newSigner(t).PublicKey()), []string{"has changed: it is now ssh-ed25519 " + ssh.FingerprintSHA256(key)}},
		"the authority is marked revoked":  {Strict, "@revoked * " + string(ssh.MarshalAuthorizedKey(ca.PublicKey())) + authority + known, []string{"revoked"}},
		"the same, without a good one":     {Strict, "@revoked * " + string(ssh.MarshalAuthorizedKey(ca.PublicKey())) + known, []string{"its authority", "is revoked in"}},
		"the key is marked revoked":        {Strict, "@revoked * " + string(ssh.MarshalAuthorizedKey(key)) + known, []string{"revoked"}},
		"the key is marked revoked, taken": {AcceptNew, "@revoked * " + string(ssh.MarshalAuthorizedKey(key)), []string{"revoked"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), tc.lines)
			p := &person{yes: true}
			keys := newHostKeys(t, HostKeyOptions{Policy: tc.policy, Files: []string{file}, Confirm: p})
			d := dialer(t, Options{HostKeys: keys, Auth: newAuth(t, AuthOptions{}), NetDial: memory(t, s)})
			c, err := d.Dial(t.Context(), withSSH(testHost, inventory.SSH{RevokedHostKeys: []string{empty}}))
			if tc.words != nil {
				wantFault(t, err, fault.Untrusted, tc.words...)
				return
			}
			must(t, err)
			must(t, c.Close())
			data, err := os.ReadFile(file)
			must(t, err)
			if !strings.Contains(string(data), known) && tc.policy != Strict {
				t.Errorf("%q was remembered, not the key", data)
			}
		})
	}
}
