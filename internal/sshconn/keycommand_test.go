package sshconn

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/inventory"
)

// script makes a program of lines for the shell.
func script(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(name, []byte("#!/bin/sh\n"+strings.Join(lines, "\n")+"\n"), 0o700))
	return name
}

// The command is asked what the real ssh asks it, and what it says counts as it does there.
func TestKnownHostsCommand(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	id, public := newIdentity(t)
	ca, caKey := newIdentity(t)
	certificate := filepath.Join(dir, "host-cert.pub")
	s := startSSHD(t, "", public)
	certified := startSSHDWith(t, func(s *sshd) {
		run(t, "ssh-keygen", "-q", "-s", ca, "-I", "web1", "-h", "-n", "alias", s.dir+"/host.pub")
		must(t, os.Rename(s.dir+"/host-cert.pub", certificate))
	}, "HostCertificate "+certificate, public)
	other := newSigner(t).PublicKey()
	at := knownhosts.Normalize(s.host.Address())
	line := func(key ssh.PublicKey) string { return knownhosts.Line([]string{at}, key) }
	authority := "@cert-authority alias " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(caKey)))
	revokedCA := "@revoked * " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(caKey)))
	log := filepath.Join(dir, "log")
	find := script(t, `for a; do printf '<%s>' "$a"; done >>`+log, `echo >>`+log, `cat "$1"`, `echo no luck >&2`, `exit $2`)
	t.Setenv("TMPDIR", t.TempDir())
	empty, known := writeFile(t, filepath.Join(dir, "empty"), ""), writeFile(t, filepath.Join(dir, "known"), line(s.key)+"\n")
	wrong := writeFile(t, filepath.Join(dir, "wrong"), line(other)+"\n")

	for name, tc := range map[string]struct {
		file, says, status, alias string
		words                     []string // nil = connected
	}{
		"it knows the key":             {file: empty, says: line(s.key)},
		"the file does":                {file: known, says: ""},
		"both do":                      {file: known, says: "# nothing else\n" + line(s.key)},
		"nobody does":                  {file: empty, says: "", words: []string{"the host is unknown"}},
		"another than the file":        {file: known, says: line(other)},
		"the file knows another":       {file: wrong, says: line(s.key)},
		"both know another":            {file: wrong, says: line(other), words: []string{"has changed", ":1 says"}},
		"it alone knows, and wrong":    {file: empty, says: "\n" + line(other), words: []string{"has changed", "but KnownHostsCommand:2 says", "have the command print the new key"}},
		"it revokes":                   {file: known, says: "@revoked " + line(s.key), words: []string{"is revoked in KnownHostsCommand:1"}},
		"the authority":                {file: empty, says: authority, alias: "alias"},
		"it revokes the authority":     {file: writeFile(t, filepath.Join(dir, "ca"), authority+"\n"), says: revokedCA, alias: "alias", words: []string{"its authority " + ssh.FingerprintSHA256(caKey) + " is revoked in KnownHostsCommand:1"}},
		"it fails":                     {file: known, says: line(s.key), status: "3", words: []string{"exit status 3", "it said no luck", "run the command by hand"}},
		"it fails, and says otherwise": {file: empty, says: line(other), status: "255", words: []string{"exit status 255"}},
	} {
		server, alias := s, []string{}
		if tc.alias != "" {
			server, alias = certified, []string{"HostKeyAlias=" + tc.alias}
		}
		says := writeFile(t, filepath.Join(dir, "says"), tc.says+"\n")
		status := tc.status
		if status == "" {
			status = "0"
		}
		must(t, os.WriteFile(log, nil, 0o600))
		theirs, said := sshConnects(t, server.host, id, append(alias,
			"UserKnownHostsFile="+tc.file, "StrictHostKeyChecking=yes", fmt.Sprintf("KnownHostsCommand=%s %s %s %%H %%I %%t %%f %%K %%%%", find, says, status))...)
		asked, err := os.ReadFile(log)
		must(t, err)
		must(t, os.WriteFile(log, nil, 0o600))
		keys := newHostKeys(t, HostKeyOptions{Files: []string{tc.file}})
		c, err := dialer(t, Options{HostKeys: keys, Auth: newAuth(t, AuthOptions{})}).Dial(t.Context(), withSSH(server.host, inventory.SSH{
			Identities: []string{id}, HostKeyAlias: tc.alias, KnownHostsCommand: []string{find, says, status, "%H", "%I", "%t", "%f", "%K", "%%"},
		}))
		if err == nil {
			must(t, c.Close())
		}
		if theirs != (err == nil) {
			t.Errorf("%s: ssh connects %v: %s; we say %v", name, theirs, said, err)
		}
		if tc.words == nil {
			must(t, err)
		} else {
			wantFault(t, err, fault.Untrusted, tc.words...)
		}
		askedByUs, err := os.ReadFile(log)
		must(t, err)
		if string(asked) != string(askedByUs) || len(asked) == 0 {
			t.Errorf("%s: ssh asks\n%s, we ask\n%s", name, asked, askedByUs)
		}
	}
	// What can't be read is no reason to look at the rest of it alone, and neither is a program that is not there.
	dial := func(argv ...string) error {
		keys := newHostKeys(t, HostKeyOptions{Policy: AcceptNew, Files: []string{known}})
		c, err := dialer(t, Options{HostKeys: keys, Auth: newAuth(t, AuthOptions{})}).Dial(t.Context(), withSSH(s.host, inventory.SSH{Identities: []string{id}, KnownHostsCommand: argv}))
		if err == nil {
			must(t, c.Close())
		}
		return err
	}
	wantFault(t, dial("/bin/echo", "# x\nh.example rubbish"), fault.Untrusted, `KnownHostsCommand ["/bin/echo"`, "KnownHostsCommand:2: ")
	wantFault(t, dial("/nonexistent-of-ours"), fault.Untrusted, `KnownHostsCommand ["/nonexistent-of-ours"]`, "no such file")
	wantFault(t, dial(script(t, "while :; do echo '# and so on'; done")), fault.Untrusted, "more than 16 MiB")
	must(t, dial("/bin/true"))
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "mgmt-remote-keys*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// The same command is run once for hosts that come at about the same time. Who takes any key does not run it.
func TestKnownHostsCommandIsShared(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("TMPDIR", t.TempDir())
	s := newServer(t)
	log := filepath.Join(t.TempDir(), "log")
	command := script(t, "echo x >>"+log, "echo '"+knownhosts.Line([]string{"h.example"}, s.hostKey.PublicKey())+"'")
	host := withSSH(testHost, inventory.SSH{KnownHostsCommand: []string{command}})
	for policy, runs := range map[HostKeyPolicy]int{Strict: 1, Insecure: 0} {
		must(t, os.WriteFile(log, nil, 0o600))
		keys := newHostKeys(t, HostKeyOptions{Policy: policy, Files: []string{}})
		d := dialer(t, Options{HostKeys: keys, Auth: newAuth(t, AuthOptions{}), NetDial: memory(t, s)})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				c, err := d.Dial(t.Context(), host)
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.Close()
			})
		}
		all.Wait()
		data, err := os.ReadFile(log)
		must(t, err)
		if n := strings.Count(string(data), "x"); n != runs {
			t.Errorf("%v: it was run %d times", policy, n)
		}
	}
}

// Who is given up does not leave others without an answer, and nobody waits for a place longer than wanted.
func TestKnownHostsCommandIsBounded(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	run(t, "mkfifo", fifo)
	c := newKeyCommands()
	argv := []string{"/bin/cat", fifo}
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.ask(ctx, argv); first <- err }()
	eventually(t, "the command runs", func() bool { return len(c.slots) == 1 })
	go func() { _, err := c.ask(t.Context(), argv); second <- err }()
	cancel()
	if err := <-first; err == nil {
		t.Error("no error")
	}
	must(t, os.WriteFile(fifo, []byte("# nothing\n"), 0)) // waits until somebody reads, who is the second
	must(t, <-second)
	for range cap(c.slots) {
		c.slots <- struct{}{}
	}
	ctx, cancel = context.WithCancel(t.Context())
	go func() { _, err := c.ask(ctx, []string{"/bin/true"}); first <- err }()
	cancel()
	if err := <-first; err == nil {
		t.Error("no error")
	}
	<-c.slots
	if _, err := c.ask(t.Context(), []string{"/bin/true"}); err != nil {
		t.Error(err)
	}
}
