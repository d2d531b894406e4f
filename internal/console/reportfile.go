package console

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// ReportFile is a Printer that writes the Report of a run as JSON when the run is over: a whole file with mode 0600, or
// none. What was there before stays until then.
type ReportFile struct {
	path string

	mu        sync.Mutex
	collector *Collector
}

// NewReportFile returns a printer to a file, after it has tried whether one can be made there.
func NewReportFile(path string) (*ReportFile, error) {
	file, err := reportFile(path)
	if err != nil {
		return nil, err
	}
	return &ReportFile{path: path, collector: NewCollector()}, file.Cleanup()
}

func reportFile(path string) (*renameio.PendingFile, error) {
	return renameio.NewPendingFile(path, renameio.WithStaticPermissions(0o600))
}

// Print notes an event, and writes the file at the last one.
func (r *ReportFile) Print(event messages.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collector.Note(event)
	if _, over := event.(messages.RunFinished); !over {
		return nil
	}
	text, err := json.MarshalIndent(r.collector.Report(), "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	file, err := reportFile(r.path)
	if err != nil {
		return err
	}
	defer file.Cleanup() //nolint:errcheck // there is nothing to remove, or the error below says what is wrong
	if _, err := file.Write(append(messages.EscapeC1(text), '\n')); err != nil {
		return err
	}
	return file.CloseAtomicallyReplace()
}

// Close does nothing: a run without an end has no report.
func (r *ReportFile) Close() error { return nil }
