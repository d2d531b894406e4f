package console

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/mgmt-remote/mgmt-remote/messages"
)

// LogDir is a Printer that keeps each host's output in a file of its own, DIR/HOST.log, while the run goes on. The bytes are
// those that the payload wrote, both streams in the order in which they came.
//
// What it writes it copies from the run's own durable logs, and an event only tells it that there is more. So a file
// always is the beginning of the output, nothing lost and nothing twice, also where an initiator was killed and another one continues
// the run: that one writes the files anew, from their beginning.
type LogDir struct {
	root *os.Root
	kept func(run string) (dir string, err error)

	mu     sync.Mutex
	from   string           // the directory of the run's own logs
	copied map[string]int64 // by host
}

// NewLogDir makes the directory, for its owner only where it is new. kept returns the directory with a run's own logs.
func NewLogDir(dir string, kept func(run string) (dir string, err error)) (*LogDir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &LogDir{root: root, kept: kept, copied: map[string]int64{}}, nil
}

// Print brings the file of the host that an event is about up to date.
func (l *LogDir) Print(event messages.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e := event.(type) {
	case messages.RunStarted:
		dir, err := l.kept(e.Run)
		if err != nil {
			return err
		}
		l.from = dir
		for _, host := range e.Hosts { // also those that will say nothing: what an earlier run left is not theirs
			if err := l.begin(host); err != nil {
				return err
			}
		}
	case messages.OutputReceived:
		return l.update(e.Host)
	case messages.HostFinished:
		return l.update(e.Result.Host)
	}
	return nil
}

// Close closes the directory.
func (l *LogDir) Close() error { return l.root.Close() }

// begin makes an empty file, and copies what there is already.
func (l *LogDir) begin(host string) error {
	file, err := l.root.OpenFile(host+".log", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Chmod(0o600), file.Close()); err != nil {
		return err
	}
	l.copied[host] = 0
	return l.update(host)
}

// update copies what the run's own log has more.
func (l *LogDir) update(host string) (err error) {
	if _, begun := l.copied[host]; !begun { // it came into the run later
		return l.begin(host)
	}
	from, err := os.Open(filepath.Join(l.from, host+".log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it said nothing yet
	}
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // it was read from
	if _, err := from.Seek(l.copied[host], io.SeekStart); err != nil {
		return err
	}
	to, err := l.root.OpenFile(host+".log", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if _, err := to.Seek(l.copied[host], io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(to, from)
	l.copied[host] += n
	return err
}
