package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// process names a process for good: IDs are used again, start times within a boot are not. On Linux Start is field
// 22 of /proc/PID/stat.
type process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"`
}

// record is shim.json: one line, written before the payload is started. That it exists means that the session was
// started; nothing is ever started where it is. The probe reads pid, start and boot_id from a shell.
type record struct {
	process                 // the shim that serves the session
	BootID          string  `json:"boot_id"` // of the boot in which the payload was started
	Protocol        int     `json:"protocol"`
	Run             string  `json:"run"`
	Host            string  `json:"host"`
	Nonce           string  `json:"nonce"`
	Fence           uint64  `json:"fence"` // the highest seen
	Argv0           string  `json:"argv0"`
	Starter         process `json:"starter"` // the shim that started the payload; its PID is the payload's session ID
	Payload         process `json:"payload"` // PID 0: not started (yet); otherwise also the process group's ID
	StartedUnixMS   int64   `json:"started_unix_ms"`
	Starts          int     `json:"starts"` // how often the payload was started, which only its restart policy makes more than 1
	EndpointAddress string  `json:"endpoint"`
}

// restarts is how often the payload was started again.
func (r record) restarts() uint32 { return uint32(max(r.Starts-1, 0)) }

// recordStore keeps a record on disk. Its methods may be called from any goroutine.
type recordStore struct {
	dir string
	mu  sync.Mutex
	rec record
}

// loadRecord returns the record of the session in dir and whether it was started. A record that can't be understood is
// an empty one of a started session: whatever it was, nothing must be started again.
func loadRecord(dir string) (record, bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, true, err
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return record{}, true, nil //nolint:nilerr // told above
	}
	return rec, true, nil
}

func (s *recordStore) get() record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec
}

// update changes the record and returns when the change is on disk. After an error the change did not happen.
func (s *recordStore) update(change func(*record)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.rec
	change(&rec)
	if err := s.write(rec); err != nil {
		return err
	}
	s.rec = rec
	return nil
}

// keep changes the record, whether or not the change can be written. After an error save is to be tried again.
func (s *recordStore) keep(change func(*record)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.rec)
	return s.write(s.rec)
}

// save writes the record as it is.
func (s *recordStore) save() error { return s.keep(func(*record) {}) }

func (s *recordStore) write(rec record) error {
	return writeDurably(filepath.Join(s.dir, recordFile), rec)
}

// exitRecord is exit.json.
type exitRecord struct {
	Code      int32  `json:"code"`
	Signal    int32  `json:"signal"`
	Error     string `json:"error,omitempty"`
	OutputEnd uint64 `json:"output_end"`
	UserUS    int64  `json:"user_us"`
	SystemUS  int64  `json:"system_us"`
	MaxRSSKiB int64  `json:"max_rss_kib"`
	ShutDown  bool   `json:"shut_down,omitempty"`
}

func saveExit(dir string, e *wire.Exit) error {
	return writeDurably(filepath.Join(dir, exitFile), exitRecord{
		Code: e.Code, Signal: e.Signal, Error: e.Error, OutputEnd: e.OutputEnd,
		UserUS: e.UserUs, SystemUS: e.SystemUs, MaxRSSKiB: e.MaxRssKib, ShutDown: e.ShutDown,
	})
}

// loadExit returns nil where there is no exit record.
func loadExit(dir string) (*wire.Exit, error) {
	data, err := os.ReadFile(filepath.Join(dir, exitFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // told above
	}
	if err != nil {
		return nil, err
	}
	var e exitRecord
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("%s: %w", exitFile, err)
	}
	return &wire.Exit{
		Code: e.Code, Signal: e.Signal, Error: e.Error, OutputEnd: e.OutputEnd,
		UserUs: e.UserUS, SystemUs: e.SystemUS, MaxRssKib: e.MaxRSSKiB, ShutDown: e.ShutDown,
	}, nil
}

// writeDurably replaces the file by v as one line of JSON, mode 0600, and returns when file and name are on disk.
func writeDurably(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := renameio.WriteFile(path, append(data, '\n'), 0o600, renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o600)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
