package shim

import (
	"testing"

	"golang.org/x/sys/unix"
)

// An emulator that refuses to let us adopt orphans is no reason to run no payload; then nobody can tell that none is left. Other
// refusals are errors.
func TestOrphansThatNobodyLetsUsAdopt(t *testing.T) {
	real := subreaper
	defer func() { subreaper = real }()
	for said, alone := range map[error]bool{nil: true, unix.EINVAL: false} {
		var r reaper
		subreaper = func() error { return said }
		if err := r.adopt(); err != nil || r.alone() != alone {
			t.Errorf("%v: %v, alone %v", said, err, r.alone())
		}
	}
	var r reaper
	subreaper = func() error { return unix.EPERM }
	if err := r.adopt(); err == nil {
		t.Error("EPERM was taken for a yes")
	}
}
