package sshconn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// dialWith dials a server under the name h.example:2222 with these known_hosts lines.
func dialWith(t *testing.T, s *server, policy HostKeyPolicy, lines ...string) (string, error) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "ssh", "known_hosts")
	if lines != nil {
		writeFile(t, file, strings.Join(lines, "\n"))
	}
	o := Options{HostKeys: newHostKeys(t, HostKeyOptions{Policy: policy, Files: []string{file}}), Auth: newAuth(t, AuthOptions{}), NetDial: memory(t, s)}
	host := testHost
	host.Port = 2222
	c, err := dialer(t, o).Dial(t.Context(), host)
	if err == nil {
		must(t, c.Close())
	}
	return file, err
}

func TestHostKeys(t *testing.T) {
	s := newServer(t)
	key, other := s.hostKey.PublicKey(), newSigner(t).PublicKey()
	line := func(name string, k ssh.PublicKey) string { return knownhosts.Line([]string{name}, k) }
	ca := newSigner(t)
	cert := &ssh.Certificate{Key: key, CertType: ssh.HostCert, ValidPrincipals: []string{"h.example"}, ValidBefore: ssh.CertTimeInfinity}
	must(t, cert.SignCert(strings.NewReader(strings.Repeat("random", 100)), ca))
	certSigner, err := ssh.NewCertSigner(cert, s.hostKey)
	must(t, err)
	certified := newServer(t)
	certified.config.AddHostKey(certSigner)
	authority := "@cert-authority *.example " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(ca.PublicKey())))
	fingerprint := ssh.FingerprintSHA256(key)

	for _, tc := range []struct {
		name   string
		server *server
		lines  []string
		kind   fault.Kind // Unknown: accepted
		words  []string
	}{
		{name: "plain", lines: []string{"# comment", line("h.example:2222", key)}},
		{name: "hashed", lines: []string{line(knownhosts.HashHostname("[h.example]:2222"), key)}},
		{name: "wildcard", lines: []string{line("*.example", key)}},
		{name: "second key", lines: []string{line("h.example:2222", other), line("h.example:2222", key)}},
		{name: "certificate", server: certified, lines: []string{authority}},
		{name: "unknown", lines: []string{}, kind: fault.Untrusted, words: []string{"unknown", fingerprint, "ssh-keyscan -p 2222 h.example", "--host-key=accept-new"}},
		{name: "other port", lines: []string{line("h.example:22", key)}, kind: fault.Untrusted, words: []string{"unknown"}},
		{name: "changed", lines: []string{"", "# x", line("h.example:2222", other)}, kind: fault.Untrusted, words: []string{"changed", "known_hosts:3", fingerprint, ssh.FingerprintSHA256(other), "ssh-keygen -R '[h.example]:2222'"}},
		{name: "changed, hashed", lines: []string{line(knownhosts.HashHostname("[h.example]:2222"), other)}, kind: fault.Untrusted, words: []string{"changed", "known_hosts:1"}},
		{name: "revoked", lines: []string{line("h.example:2222", key), "@revoked " + line("*", key)}, kind: fault.Untrusted, words: []string{"revoked", "known_hosts:2"}},
		{name: "negated", lines: []string{line("*.example,!h.example", key)}, kind: fault.Untrusted, words: []string{"unknown"}},
		{name: "authority is no host key", lines: []string{"@cert-authority *.example " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(other)))}, kind: fault.Untrusted},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := tc.server
			if srv == nil {
				srv = s
			}
			_, err := dialWith(t, srv, Strict, tc.lines...)
			if tc.kind == fault.Unknown {
				must(t, err)
			} else {
				wantFault(t, err, tc.kind, tc.words...)
			}
			if err == nil {
				return
			}
			// accept-new takes the unknown, and nothing else.
			_, err = dialWith(t, srv, AcceptNew, tc.lines...)
			if isUnknown := strings.Contains(strings.Join(tc.words, " "), "unknown"); isUnknown != (err == nil) {
				t.Errorf("accept-new: %v", err)
			}
			must(t, func() error { _, err := dialWith(t, srv, Insecure, tc.lines...); return err }())
		})
	}
}

func TestAcceptNewWritesOneLine(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	s := newServer(t)
	file := filepath.Join(t.TempDir(), "ssh", "known_hosts")
	keys := newHostKeys(t, HostKeyOptions{Policy: AcceptNew, Files: []string{file}})
	o := Options{HostKeys: keys, Auth: newAuth(t, AuthOptions{}), NetDial: memory(t, s)}
	d := dialer(t, o)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			c, err := d.Dial(t.Context(), testHost)
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		})
	}
	wg.Wait()
	want := knownhosts.Line([]string{"h.example"}, s.hostKey.PublicKey()) + "\n"
	got, err := os.ReadFile(file)
	must(t, err)
	if string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	for path, mode := range map[string]os.FileMode{file: 0o600, filepath.Dir(file): 0o700} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	// In the same process the host is known from now on, so another key is a changed one.
	o.NetDial = memory(t, newServer(t))
	_, err = dialer(t, o).Dial(t.Context(), testHost)
	wantFault(t, err, fault.Untrusted, "changed", "known_hosts:1")
	got, err = os.ReadFile(file)
	must(t, err)
	if string(got) != want {
		t.Errorf("the changed key was written: %q", got)
	}
}

func TestAcceptNewKeepsTheLastLine(t *testing.T) {
	s := newServer(t)
	old := knownhosts.Line([]string{"other"}, newSigner(t).PublicKey()) // no newline at the end
	file, err := dialWith(t, s, AcceptNew, old)
	must(t, err)
	got, err := os.ReadFile(file)
	must(t, err)
	if want := old + "\n" + knownhosts.Line([]string{"[h.example]:2222"}, s.hostKey.PublicKey()) + "\n"; string(got) != want {
		t.Errorf("%q", got)
	}
}

// TestKnownHostsIsReadAgain: who follows the remedy need not restart us.
func TestKnownHostsIsReadAgain(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	s := newServer(t)
	file := filepath.Join(t.TempDir(), "known_hosts")
	o := Options{HostKeys: newHostKeys(t, HostKeyOptions{Files: []string{file}}), Auth: newAuth(t, AuthOptions{}), NetDial: memory(t, s)}
	d := dialer(t, o)
	_, err := d.Dial(t.Context(), testHost)
	wantFault(t, err, fault.Untrusted)
	writeFile(t, file, knownhosts.Line([]string{"h.example"}, s.hostKey.PublicKey()))
	c, err := d.Dial(t.Context(), testHost)
	must(t, err)
	must(t, c.Close())
}

// TestKnownTypeIsNegotiated: a server with several keys shows the one that we know.
func TestKnownTypeIsNegotiated(t *testing.T) {
	id, public := newIdentity(t, "-t", "rsa", "-b", "2048", "-N", "")
	s := newServer(t) // has an ed25519 key, which we would prefer
	pem, err := os.ReadFile(id)
	must(t, err)
	rsa, err := ssh.ParsePrivateKey(pem)
	must(t, err)
	s.config.AddHostKey(rsa)
	for _, name := range []string{"[h.example]:2222", knownhosts.HashHostname("[h.example]:2222")} {
		_, err := dialWith(t, s, Strict, knownhosts.Line([]string{name}, public))
		must(t, err)
	}
	h := newHostKeys(t, HostKeyOptions{Files: []string{knownHosts(t, "h.example:22", public)}})
	if got := fmt.Sprint(h.algorithms(testHost, nil)[:2]); got != "[rsa-sha2-512 rsa-sha2-256]" || strings.Contains(fmt.Sprint(h.algorithms(testHost, nil)), "ssh-rsa]") {
		t.Error(got)
	}
}

func TestBadKnownHosts(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "known_hosts"), "# fine\nh.example ssh-ed25519 rubbish\n")
	_, err := NewHostKeys(HostKeyOptions{Files: []string{file}})
	if err == nil || !strings.Contains(err.Error(), file+":2") {
		t.Errorf("%v", err)
	}
}

func TestHostKeyPolicyWords(t *testing.T) {
	for _, p := range []HostKeyPolicy{Strict, AcceptNew, Insecure} {
		if got, err := ParseHostKeyPolicy(p.String()); err != nil || got != p {
			t.Error(p, got, err)
		}
	}
	if _, err := ParseHostKeyPolicy("yes"); err == nil {
		t.Error("no error")
	}
}
