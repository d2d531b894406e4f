package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// The names in a run's directory.
const (
	journalFile = "journal.jsonl"
	specFile    = "spec.json"
	tenureFile  = "initiator.json"
	endFile     = "end.json"
	// shrunkFile says that nothing else is kept, see Run.Shrink.
	shrunkFile = "shrunk"
	// logsDir has the output of hosts.
	logsDir = "logs"
)

// tenure counts the initiators of a run, one after the other.
type tenure struct {
	Generation uint64    `json:"generation"` // 1 for the first
	Fence      uint64    `json:"fence"`      // see Run.Fence; 1 for the first
	Began      time.Time `json:"began"`      // when the first one did
	Owner      Owner     `json:"owner"`      // of this generation
}

// nextTenure makes this process the run's initiator, durably. The caller has the lock. A lock does not reach other machines, so that
// what was brought here from another one needs takeOver.
func nextTenure(dir string, takeOver bool) (tenure, error) {
	var t tenure
	if err := readTenure(dir, &t); err != nil {
		return t, err
	}
	machine, err := os.Hostname()
	if err != nil {
		return t, err
	}
	if t.Generation > 0 && t.Owner.Machine != machine && !takeOver {
		return t, fmt.Errorf("%w there, as %s", ErrElsewhere, t.Owner)
	}
	now := time.Now().Round(0)
	if t.Generation == 0 {
		t.Began = now
	}
	t.Generation++
	if t.Fence = max(t.Fence, 1); takeOver {
		t.Fence++
	}
	t.Owner = Owner{PID: os.Getpid(), Machine: machine, Since: now}
	data, err := json.Marshal(t)
	if err != nil {
		return t, err
	}
	return t, writeDurably(filepath.Join(dir, tenureFile), append(data, '\n'))
}

// readTenure leaves t as it is where there is none.
func readTenure(dir string, t *tenure) error {
	path := filepath.Join(dir, tenureFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, t); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeDurably replaces a file, mode 0600, and returns when content and name are on the disk.
func writeDurably(path string, data []byte) error {
	if err := renameio.WriteFile(path, data, 0o600, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
