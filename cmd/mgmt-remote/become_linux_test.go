package main

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

// The password is asked for once, before any host is connected, and not shown. (Whether sudo takes it is tested in test/e2e.)
func TestAskBecomePassAsksOnceForAllHosts(t *testing.T) {
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	args := append(terminalFleet(t, sshfleet.Options{Names: []string{"h1", "h2", "h3"}}), "--become", "--become-user", self.Username, "--ask-become-pass",
		"--output", "lines", "--", "true") // the live view names all steps, also before they are done
	p := startOnTerminal(t, args...)
	p.sees("Password to become another user, for all hosts: ")
	if strings.Contains(p.shown.String(), "1 connect") {
		t.Errorf("connected before it was asked:\n%s", p.shown.String())
	}
	p.types("hunter2\r")
	out := p.ends(exitOK)
	if strings.Count(out, "assword") != 1 || strings.Contains(out, "hunter2") {
		t.Errorf("not one question without an echo:\n%s", out)
	}

	p = startOnTerminal(t, args...)
	p.sees("Password to ")
	p.types("\x03")
	if out := p.ends(exitFailed); strings.Count(out, "assword to") != 1 || !strings.Contains(out, "canceled at the prompt") {
		t.Errorf("the question was asked again, or the end has no reason:\n%s", out)
	}
}

// Each group has a password of its own, asked for once; so has a host that is in none, where all are asked about.
func TestAskBecomePassOfGroups(t *testing.T) {
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	inventory := filepath.Join(t.TempDir(), "groups.yaml")
	if err := os.WriteFile(inventory, []byte("groups:\n  web: {hosts: 'h1,h2'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(terminalFleet(t, sshfleet.Options{Names: []string{"h1", "h2", "h3"}}), "-I", inventory, "--become", "--become-user", self.Username,
		"--ask-become-pass=web", "--ask-become-pass", "--max-connections", "1", "--", "true")
	p := startOnTerminal(t, args...)
	for _, whose := range []string{"hosts of web", "all hosts"} {
		p.sees("Password to become another user, for " + whose + ": ")
		p.types("hunter2\r")
	}
	if out := p.ends(exitOK); strings.Count(out, "assword") != 2 || strings.Contains(out, "hunter2") {
		t.Errorf("not one question for each, without an echo:\n%s", out)
	}
}
