package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// ErrGap: output was offered that does not follow what is there.
var ErrGap = errors.New("output is missing in between")

// Log is the durable output of one host's payload. Offsets are the shim's: they count every byte that the payload
// ever wrote. The file holds the plain bytes that arrived; a second file says which ranges never will (the shim keeps
// a bounded amount while nobody is attached). From both, Offset is right after a kill -9 at any moment: the position
// in the output is the size of the file plus the size of all gaps, each write of the data adds exactly what it
// wrote, and a gap counts only once its line is whole.
//
// The files are made when there is something to put into them: most payloads say little, and a fleet has many.
//
// One goroutine at a time writes; Offset and Synced may be asked by any.
type Log struct {
	path string
	data *os.File // nil until there is output
	gaps *os.File // nil until there is a gap

	mu     sync.Mutex
	offset uint64 // next byte expected
	synced uint64 // what survives a power loss
}

// openLog opens path.log and path.gaps where they exist, and syncs them, so that all that is there is durable.
func openLog(path string) (*Log, error) {
	f, err := os.OpenFile(path+".log", os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l := &Log{path: path}
	if err == nil {
		l.data = f
	}
	if err := l.load(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Log) load() error {
	text, err := os.ReadFile(l.path + ".gaps")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lost, good, err := parseGaps(text)
	if err != nil {
		return fmt.Errorf("%s.gaps: %w", l.path, err)
	}
	if len(text) > 0 {
		if err := l.openGaps(); err != nil {
			return err
		}
		if err := l.gaps.Truncate(int64(good)); err != nil {
			return err
		}
	}
	l.offset = lost
	if l.data != nil {
		st, err := l.data.Stat()
		if err != nil {
			return err
		}
		l.offset += uint64(st.Size())
	}
	return l.Sync()
}

// parseGaps adds up the gaps and returns how many bytes of the text are good. Only the last line can be torn.
func parseGaps(text []byte) (lost uint64, good int, err error) {
	var last uint64
	for len(text) > good {
		row, _, whole := bytes.Cut(text[good:], []byte("\n"))
		if !whole {
			return lost, good, nil
		}
		var from, to uint64
		if n, err := fmt.Sscanf(string(row), "%d %d", &from, &to); n != 2 || err != nil || from < last || to <= from {
			return 0, 0, fmt.Errorf("damaged: %q at byte %d is no gap", row, good)
		}
		lost += to - from
		last = to
		good += len(row) + 1
	}
	return lost, good, nil
}

func (l *Log) openData() (err error) {
	l.data, err = l.make(".log")
	return err
}

func (l *Log) openGaps() (err error) {
	l.gaps, err = l.make(".gaps")
	return err
}

// make opens one of the files, and makes its name durable where it is new.
func (l *Log) make(suffix string) (*os.File, error) {
	f, err := os.OpenFile(l.path+suffix, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(l.path)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Offset returns the next byte of the output that is wanted. Everything before it is in the file or was declared
// lost, and stays so when this process is killed.
func (l *Log) Offset() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.offset
}

// Synced returns the offset up to which the log survives a power loss too: Offset at the last Sync. It is what may
// be acknowledged to the shim.
func (l *Log) Synced() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.synced
}

// Append adds output that begins at offset. What is there already is ignored, so a shim may repeat itself. Output
// that begins behind Offset is refused: errors.Is(err, ErrGap). After another error part of the data may have been
// written; Offset says how much.
func (l *Log) Append(offset uint64, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset > l.offset {
		return fmt.Errorf("%s.log: %w: bytes %d to %d", l.path, ErrGap, l.offset, offset)
	}
	known := l.offset - offset
	if known >= uint64(len(data)) {
		return nil
	}
	if l.data == nil {
		if err := l.openData(); err != nil {
			return err
		}
	}
	n, err := l.data.Write(data[known:])
	l.offset += uint64(n)
	return err
}

// Gap declares the output between two offsets as lost for ever. What is there already is ignored; a gap that begins
// behind Offset is refused with ErrGap.
func (l *Log) Gap(from, to uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from > l.offset {
		return fmt.Errorf("%s.log: %w: bytes %d to %d", l.path, ErrGap, l.offset, from)
	}
	if to <= l.offset {
		return nil
	}
	if l.gaps == nil {
		if err := l.openGaps(); err != nil {
			return err
		}
	}
	// A gap must not become durable before the data in front of it: the sum would come out right at the wrong place.
	if l.data != nil {
		if err := l.data.Sync(); err != nil {
			return err
		}
	}
	end, err := l.gaps.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(l.gaps, "%d %d\n", l.offset, to)
	if err == nil {
		err = l.gaps.Sync()
	}
	if err != nil {
		return errors.Join(err, l.gaps.Truncate(end)) // a torn line would damage the file, a whole one would count
	}
	l.offset, l.synced = to, to
	return nil
}

// Sync makes everything before Offset survive a power loss.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.synced == l.offset {
		return nil
	}
	if l.data != nil {
		if err := l.data.Sync(); err != nil {
			return err
		}
	}
	if l.gaps != nil { // written through by Gap, but after an open the last process's line may not be
		if err := l.gaps.Sync(); err != nil {
			return err
		}
	}
	l.synced = l.offset
	return nil
}

// Close closes the files without a sync.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, f := range []*os.File{l.data, l.gaps} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
