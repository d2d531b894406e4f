//go:build !engine

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

// Each group has a password of its own, asked for once.
func TestAskPassOfGroups(t *testing.T) {
	inventory := filepath.Join(t.TempDir(), "groups.yaml")
	if err := os.WriteFile(inventory, []byte("groups:\n  web: {hosts: 'h1,h2'}\n  db: {hosts: 'h3,h2'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(terminalFleet(t, withPassword("h1", "h2", "h3")), "-I", inventory, "--ask-pass=web", "--ask-pass=db", "--max-connections", "1", "--", "true")
	p := startOnTerminal(t, args...)
	for _, group := range []string{"web", "db"} {
		p.sees("Password for hosts of " + group + ": ")
		p.types("hunter2\r")
	}
	if out := p.ends(exitOK); strings.Count(out, "assword") != 2 || strings.Contains(out, "hunter2") {
		t.Errorf("not one question for each group, without an echo:\n%s", out)
	}
}

// Keys of new hosts are shown in one question. After a yes they are known, after a no they are not, and nobody is asked again.
func TestAskAboutNewHosts(t *testing.T) {
	args := terminalFleet(t, sshfleet.Options{Names: []string{"h1", "h2", "h3"}})
	known := filepath.Join(t.TempDir(), "known_hosts")
	args[slices.Index(args, "--known-hosts")+1] = known
	args = append(args, "-F", "none", "--host-key", "ask", "--", "true")

	p := startOnTerminal(t, args...)
	p.sees("The keys of 3 hosts are not known:")
	p.sees("  h1 (127.0.0.1:")
	p.sees("SHA256:")
	p.sees("Yes writes them to ")
	p.sees("Trust them? (yes/no) ")
	p.types("what\r")
	p.sees("Please type yes or no: ")
	p.types("no\r")
	out := p.ends(exitFailed)
	if strings.Count(out, "are not known") != 1 || !strings.Contains(out, "was refused") {
		t.Errorf("%s", out)
	}
	if data, err := os.ReadFile(known); err == nil {
		t.Errorf("remembered %s", data)
	}

	p = startOnTerminal(t, args...)
	p.sees("(yes/no) ")
	p.types("yes\r")
	p.ends(exitOK)
	if data, err := os.ReadFile(known); err != nil || strings.Count(string(data), "\n") != 3 {
		t.Errorf("%s %v", data, err)
	}
	if out := startOnTerminal(t, args...).ends(exitOK); strings.Contains(out, "yes/no") {
		t.Errorf("asked again:\n%s", out)
	}
}

// The flag is a list of groups, and still the switch that it is without one.
func TestAskFlag(t *testing.T) {
	for _, c := range []struct {
		given []string
		want  string
		all   bool
	}{
		{nil, "", false},
		{[]string{"--ask-pass"}, "all", true},
		{[]string{"--ask-pass=web", "--ask-pass=db"}, "web,db", false},
		{[]string{"--ask-pass=web", "--ask-pass"}, "web,all", true},
		{[]string{"--ask-pass=true"}, "all", true},
		{[]string{"--ask-pass", "--ask-pass=false"}, "", false},
	} {
		cmd := newRunCommand()
		if err := cmd.ParseFlags(c.given); err != nil {
			t.Fatal(err)
		}
		f := cmd.Flags().Lookup("ask-pass").Value.(*askFlag)
		if f.String() != c.want || f.all() != c.all {
			t.Errorf("%q: %q, %v", c.given, f, f.all())
		}
	}
	var f askFlag
	if err := f.Replace([]string{"web", "db"}); err != nil || f.String() != "web,db" || len(f.GetSlice()) != 2 {
		t.Error(f, err)
	}
}
