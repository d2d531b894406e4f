package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/console"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

type brokenPrinter struct{ printed int }

var errDiskFull = errors.New("disk full")

func (p *brokenPrinter) Print(messages.Event) error {
	p.printed++
	return errDiskFull
}

func (p *brokenPrinter) Close() error { return errDiskFull }

// What can't be written any more is told once, gets nothing any more, and keeps the others from nothing.
func TestOneThatFailsDoesNotKeepTheOthers(t *testing.T) {
	var out bytes.Buffer
	broken := &brokenPrinter{}
	all := shown{{Printer: broken, to: "a file"}, {Printer: console.NewJSON(&out), to: "stdout"}}
	if err := all.print(messages.RunStarted{}); err == nil || err.Error() != "write to a file: disk full" {
		t.Errorf("got %v", err)
	}
	if err := all.print(messages.RunFinished{}); err != nil {
		t.Errorf("told again: %v", err)
	}
	if err := all.close(); !errors.Is(err, errDiskFull) || strings.Count(err.Error(), "full") != 1 {
		t.Errorf("got %v", err)
	}
	if n := strings.Count(out.String(), "\n"); n != 2 || broken.printed != 1 {
		t.Errorf("%d events and %d", n, broken.printed)
	}
}
