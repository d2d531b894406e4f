package shim

import (
	"errors"
	"io/fs"
	"os"
)

// maxChunk is how much output goes into one frame, in bytes.
const maxChunk = 32 << 10

// chunk is what a logReader found: output, or a gap where data is nil.
type chunk struct {
	outputRecord
	gapEnd uint64
}

// logReader reads a log from its disk, forward. It belongs to one goroutine.
type logReader struct {
	log *outputLog

	file *os.File // of segment seq; nil before the first
	seq  int
	pos  int64 // of the record that comes next
	buf  []byte
}

// read returns the output or gap at from, and nothing (ok = false) where from is at the end of the log or output would
// reach up to limit. from never goes back from call to call.
func (r *logReader) read(from, limit uint64) (c chunk, ok bool, err error) {
	for {
		s, found, end := r.log.find(from)
		switch {
		case from >= end:
			return chunk{}, false, nil
		case !found:
			return gap(from, end), true, nil
		case s.start > from:
			return gap(from, s.start), true, nil
		case from >= limit:
			return chunk{}, false, nil
		}
		if r.file == nil || r.seq != s.seq {
			r.close()
			f, err := os.Open(segmentPath(r.log.dir, s.seq))
			if errors.Is(err, fs.ErrNotExist) {
				continue // dropped since: the next look finds the gap
			}
			if err != nil {
				return chunk{}, false, err
			}
			r.file, r.seq, r.pos = f, s.seq, 0
		}
		c, err := r.fromSegment(s, from, min(limit, from+maxChunk))
		return c, err == nil, err
	}
}

func gap(from, to uint64) chunk { return chunk{outputRecord: outputRecord{offset: from}, gapEnd: to} }

// fromSegment reads [from, limit) or less of it: contiguous output of one stream.
func (r *logReader) fromSegment(s segment, from, limit uint64) (chunk, error) {
	var out chunk
	for r.pos < s.size && from+uint64(len(out.data)) < limit {
		var rec outputRecord
		var err error
		rec, r.buf, err = readRecord(&fileAt{r.file, r.pos}, r.buf)
		if err != nil {
			if errors.Is(err, errBadRecord) || errors.Is(err, errEndOfWrite) {
				break // damaged on disk: the rest of the segment is a gap
			}
			return chunk{}, err
		}
		size := int64(len(r.buf))
		if rec.end() <= from {
			r.pos += size
			continue
		}
		at := from + uint64(len(out.data))
		if out.data == nil {
			if rec.offset > from {
				return gap(from, rec.offset), nil
			}
			out.outputRecord = outputRecord{offset: from, stderr: rec.stderr}
		} else if rec.offset != at || rec.stderr != out.stderr {
			return out, nil
		}
		data := rec.data[at-rec.offset:]
		if room := limit - at; uint64(len(data)) > room {
			data = data[:room] // the record is read again next time
		} else {
			r.pos += size
		}
		out.data = append(out.data, data...)
	}
	if out.data == nil {
		return gap(from, s.end), nil
	}
	return out, nil
}

// fileAt reads a file from a position without moving the file's own.
type fileAt struct {
	f   *os.File
	pos int64
}

func (a *fileAt) Read(p []byte) (int, error) {
	n, err := a.f.ReadAt(p, a.pos)
	a.pos += int64(n)
	if n > 0 {
		return n, nil
	}
	return n, err
}

func (r *logReader) close() {
	if r.file != nil {
		_ = r.file.Close() // only read
		r.file = nil
	}
}
