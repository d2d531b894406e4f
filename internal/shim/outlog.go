package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	defaultOutputCap = 64 << 20
	maxSegment       = 4 << 20
	minSegment       = 4 << 10
	logPrefix        = "log."
)

// outputLog keeps the payload's output on disk until it is acknowledged, in segments, and never more than its cap:
// the oldest segment goes first. It survives the death of the shim, not a power failure, which also ends the payload.
// All methods may be called from any goroutine.
type outputLog struct {
	dir         string
	cap         int64
	segmentSize int64

	mu       sync.Mutex
	segments []*segment // oldest first; the last is written to
	file     *os.File   // of the last segment; nil: begin a new one
	nextSeq  int
	total    int64 // bytes in all segments
	end      uint64
	buf      []byte
	change   chan struct{}
	losing   bool // the last append lost something
}

// segment is a file of records. A segment in outputLog.segments has at least one record.
type segment struct {
	seq        int
	start, end uint64 // offsets; there may be holes in between
	size       int64  // bytes of complete records in the file
}

func segmentPath(dir string, seq int) string {
	return filepath.Join(dir, fmt.Sprintf("%s%06d", logPrefix, seq))
}

// openLog opens the log in dir and finds what an earlier shim left there. Output is appended behind that.
func openLog(dir string, limit int64) (*outputLog, error) {
	if limit <= 0 {
		limit = defaultOutputCap
	}
	l := &outputLog{dir: dir, cap: limit, segmentSize: min(maxSegment, max(minSegment, limit/4)), nextSeq: 1, change: make(chan struct{})}
	seqs, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	for _, seq := range seqs {
		s, err := scanSegment(dir, seq)
		if err != nil {
			return nil, err
		}
		l.nextSeq = max(l.nextSeq, seq+1)
		if s.size == 0 || s.start < l.end {
			continue // nothing in it, or nothing that fits behind what is there
		}
		l.segments = append(l.segments, s)
		l.total += s.size
		l.end = s.end
	}
	return l, nil
}

// listSegments returns the numbers of the segments in dir, oldest first.
func listSegments(dir string) ([]int, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var seqs []int
	for _, e := range names {
		number, ok := strings.CutPrefix(e.Name(), logPrefix)
		if seq, err := strconv.Atoi(number); ok && err == nil && seq > 0 {
			seqs = append(seqs, seq)
		}
	}
	slices.Sort(seqs) // the names' order ends where the numbers get longer
	return seqs, nil
}

// scanSegment finds the records in a segment, up to the first that is damaged or cut.
func scanSegment(dir string, seq int) (*segment, error) {
	f, err := os.Open(segmentPath(dir, seq))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	s := &segment{seq: seq}
	var buf []byte
	for {
		var rec outputRecord
		rec, buf, err = readRecord(f, buf)
		if err != nil || (s.size > 0 && rec.offset < s.end) {
			return s, nil // what follows is lost, and the reader reports the gap
		}
		if s.size == 0 {
			s.start = rec.offset
		}
		s.end = rec.end()
		s.size += int64(len(buf))
	}
}

// append adds output of one stream. What can't be written (the disk is full) becomes a gap; the payload never waits.
// The error says why, for the daemon's own log, and only where the append before lost nothing: a full disk lasts.
func (l *outputLog) append(stderr bool, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var first error
	for len(data) > 0 {
		n := min(len(data), maxRecord)
		if err := l.write(outputRecord{offset: l.end, stderr: stderr, data: data[:n]}); err != nil && first == nil {
			first = err
		}
		l.end += uint64(n)
		data = data[n:]
	}
	for l.total > l.cap && len(l.segments) > 1 {
		if err := l.dropOldest(); err != nil && first == nil {
			first = err
		}
	}
	l.wakeLocked()
	wasLosing := l.losing
	if l.losing = first != nil; wasLosing {
		return nil
	}
	return first
}

func (l *outputLog) write(rec outputRecord) error {
	l.buf = appendRecord(l.buf[:0], rec)
	if l.file != nil && l.last().size+int64(len(l.buf)) > l.segmentSize {
		l.closeFile()
	}
	if l.file == nil {
		return l.begin(rec)
	}
	s := l.last()
	if _, err := l.file.WriteAt(l.buf, s.size); err != nil {
		l.closeFile() // half a record may be there: nothing may follow it
		return fmt.Errorf("output is lost: %w", err)
	}
	s.size += int64(len(l.buf))
	s.end = rec.end()
	l.total += int64(len(l.buf))
	return nil
}

// begin makes a new segment with the record in l.buf.
func (l *outputLog) begin(rec outputRecord) error {
	path := segmentPath(l.dir, l.nextSeq)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		l.nextSeq++ // whatever it is, it is in the way
	}
	if err != nil {
		return fmt.Errorf("output is lost: %w", err)
	}
	if _, err := f.Write(l.buf); err != nil {
		return fmt.Errorf("output is lost: %w", errors.Join(err, f.Close(), os.Remove(path)))
	}
	l.segments = append(l.segments, &segment{seq: l.nextSeq, start: rec.offset, end: rec.end(), size: int64(len(l.buf))})
	l.file = f
	l.nextSeq++
	l.total += int64(len(l.buf))
	return nil
}

func (l *outputLog) last() *segment { return l.segments[len(l.segments)-1] }

func (l *outputLog) closeFile() {
	if l.file != nil {
		_ = l.file.Close() // not synced on purpose: see outputLog
		l.file = nil
	}
}

// dropOldest drops the first of two or more segments.
func (l *outputLog) dropOldest() error {
	s := l.segments[0]
	l.segments = slices.Delete(l.segments, 0, 1)
	l.total -= s.size
	if err := os.Remove(segmentPath(l.dir, s.seq)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ack forgets output below offset, as far as whole segments go. The last one stays: it tells where the log ends.
func (l *outputLog) ack(offset uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.segments) > 1 && l.segments[0].end <= offset {
		if err := l.dropOldest(); err != nil {
			return err
		}
	}
	return nil
}

// bounds returns the offset of the oldest output kept and the one behind the newest.
func (l *outputLog) bounds() (start, end uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segments) == 0 {
		return l.end, l.end
	}
	return l.segments[0].start, l.end
}

// changed returns a channel that is closed at the next append or wake. Get it before looking at the log.
func (l *outputLog) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.change
}

// wake makes all who wait on changed look again.
func (l *outputLog) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeLocked()
}

func (l *outputLog) wakeLocked() {
	close(l.change)
	l.change = make(chan struct{})
}

// close closes the file that is written to. A later append begins a new one.
func (l *outputLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeFile()
}

// find returns a copy of the segment that holds the first output at or behind from, ok = false where there is none, and the
// end of the log.
func (l *outputLog) find(from uint64) (s segment, ok bool, end uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments {
		if s.end > from {
			return *s, true, l.end
		}
	}
	return segment{}, false, l.end
}
