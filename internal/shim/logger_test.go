package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOwnLogIsBounded writes more than there is room for, in the lives of several daemons.
func TestOwnLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), stderrFile)
	line := strings.Repeat("x", 1000)
	for life := range 3 {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		log := newLogger(f)
		for i := range 400 {
			log.printf("life %d, line %d %s", life, i, line)
			if fi, err := f.Stat(); err != nil || fi.Size() > maxLog+4096 {
				t.Fatalf("the log has %d bytes (%v)", fi.Size(), err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(data), "\n")
	if !strings.Contains(first, "earlier lines are gone") || !strings.Contains(string(data), "life 2, line 399") {
		t.Errorf("it begins with %q and has %d bytes", first, len(data))
	}
}
