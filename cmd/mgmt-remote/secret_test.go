//go:build !engine

package main

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A password may come on standard input, which stays open: else the next file that is opened would be standard input, and would be lost when a
// process in the background gives that up.
func TestReadingASecretKeepsStandardInputOpen(t *testing.T) {
	for range 3 { // what is collected is closed a moment later
		_, _ = readSecret("--password-fd", 0) // there may be none
		later := make(chan struct{})
		runtime.AddCleanup(new([64]byte), func(struct{}) { close(later) }, struct{}{})
		runtime.GC()
		<-later
	}
	if _, err := unix.FcntlInt(0, unix.F_GETFD, 0); err != nil {
		t.Errorf("standard input: %v", err)
	}
}
