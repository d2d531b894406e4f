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
	files  *logFiles
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
	return &LogDir{root: root, kept: kept, copied: map[string]int64{}, files: newLogFiles(mostOpen)}, nil
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
		return errors.Join(l.update(e.Result.Host), l.files.drop(e.Result.Host))
	}
	return nil
}

// Close closes the directory and what is open in it.
func (l *LogDir) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.files.closeAll(), l.root.Close())
}

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
func (l *LogDir) update(host string) error {
	if _, begun := l.copied[host]; !begun { // it came into the run later
		return l.begin(host)
	}
	file, err := l.open(host)
	if file == nil || err != nil {
		return err
	}
	n, err := io.Copy(file.to, file.from)
	l.copied[host] += n
	if err != nil {
		return errors.Join(err, l.files.drop(host)) // nobody knows where the files stand
	}
	return nil
}

// open returns a host's files, nil where it said nothing yet.
func (l *LogDir) open(host string) (*logFile, error) {
	if file := l.files.get(host); file != nil {
		return file, nil
	}
	from, err := os.Open(filepath.Join(l.from, host+".log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	to, err := l.root.OpenFile(host+".log", os.O_WRONLY, 0)
	if err != nil {
		return nil, errors.Join(err, from.Close())
	}
	for _, f := range []*os.File{from, to} {
		if _, err := f.Seek(l.copied[host], io.SeekStart); err != nil {
			return nil, errors.Join(err, from.Close(), to.Close())
		}
	}
	file := &logFile{host: host, from: from, to: to}
	return file, l.files.put(file)
}
