package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/fleet"
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

// What a host says is in many messages.
func TestMessagesCannotDriveTheTerminal(t *testing.T) {
	var said, table bytes.Buffer
	say(&said, "h1: %s", "one\ntwo\x1b]0;title\x07\u009b31m\u202e")
	if want := "mgmt-remote: h1: one\ntwo?]0;title??31m?\n"; said.String() != want {
		t.Errorf("got %q, want %q", said.String(), want)
	}
	evil := fleet.CleanResult{Host: "h1", Cleaned: fleet.Cleaned{CacheKept: []string{"/tmp/\x1b[2J"}}, Err: fault.New(fault.Lost, "run", "\r\u009b")}
	if err := cleanedTable(&table, []fleet.CleanResult{evil}, false); err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(table.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("a control character is left at %d: %q", i, table.String())
	}
}
