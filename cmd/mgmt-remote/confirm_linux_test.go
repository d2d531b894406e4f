package main

import (
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

func TestTheNextWaveIsConfirmed(t *testing.T) {
	args := append(terminalFleet(t, sshfleet.Options{Names: []string{"h1", "h2", "h3"}}), "--output", "lines", "--serial", "1", "--confirm", "--", "true")
	p := startOnTerminal(t, args...)
	p.sees("wave 1 of 3 is over, and the next one is to be asked for; begin it? [yes/no] ")
	p.types("perhaps\r")
	p.sees("Please type yes or no: ")
	p.types("yes\r")
	p.sees("wave 2 of 3 is over")
	p.sees("begin it? [yes/no] ")
	p.types("no\r")
	if out := p.ends(exitInterrupted); strings.Contains(out, "wave 3 of 3:") || !strings.Contains(out, "2 of 3 hosts ok") {
		t.Errorf("the third wave was refused:\n%s", out)
	}

	p = startOnTerminal(t, args...)
	p.sees("begin it? [yes/no] ")
	p.types("\x03")
	p.sees("stopping")
	p.ends(exitInterrupted)
}
