package shim

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

const (
	// statusEvery is how often the size of a status file is looked at. That is the same on every system and file system,
	// and nothing is missed in between, since the file only grows.
	statusEvery = 250 * time.Millisecond
	// maxStatus bounds what is read of a status file at once, and the length of a line in it.
	maxStatus = 64 << 10
)

// status is what the payload says of itself in its status file. It begins with "not quiet".
type status struct {
	mu    sync.Mutex
	quiet bool
	dips  uint64 // how often it said that it is not
}

// seen is how much of a status one attachment was told; the zero value is nothing.
type seen struct {
	any   bool
	quiet bool
	dips  uint64
}

// news returns what is still to be told, and notes it as told. Whoever was told nothing yet hears "not quiet" first, so
// that whatever an earlier attachment missed counts as a break.
func (s *status) news(told *seen) []bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var news []bool
	if !told.any || told.dips != s.dips {
		news = append(news, false)
		told.quiet = false
	}
	if told.quiet != s.quiet {
		news = append(news, s.quiet)
	}
	*told = seen{any: true, quiet: s.quiet, dips: s.dips}
	return news
}

// say notes one line of the file. What is not the word "true" is no claim to be quiet.
func (s *status) say(line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = string(bytes.TrimSpace(line)) == "true"
	if !s.quiet {
		s.dips++
	}
}

// statusFile reads the lines that were appended to a file since it was read last.
type statusFile struct {
	path   string
	offset int64
	rest   []byte // the beginning of a line that has no end yet
}

// poll hands new lines to say and reports whether there were any. A file that isn't there yet is an empty one. One that
// became shorter was begun anew, which is a break.
func (f *statusFile) poll(say func(line []byte)) (news bool, err error) {
	fi, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || fi.Size() == f.offset || !fi.Mode().IsRegular() {
		return false, err
	}
	if fi.Size() < f.offset {
		f.offset, f.rest = 0, nil
		say(nil)
		news = true
	}
	file, err := os.Open(f.path)
	if err != nil {
		return news, err
	}
	defer file.Close() //nolint:errcheck // only read
	for {
		chunk := make([]byte, maxStatus)
		n, err := file.ReadAt(chunk, f.offset)
		f.offset += int64(n)
		f.rest = append(f.rest, chunk[:n]...)
		for {
			line, rest, ok := bytes.Cut(f.rest, []byte{'\n'})
			if !ok {
				break
			}
			say(line)
			f.rest, news = rest, true
		}
		if len(f.rest) > maxStatus {
			say(nil) // no status at all
			f.rest, news = nil, true
		}
		if errors.Is(err, io.EOF) {
			return news, nil
		}
		if err != nil {
			return news, err
		}
	}
}

// followStatus keeps the session's status up to date until the payload ends for good.
func (s *server) followStatus(path string) {
	f := statusFile{path: path}
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-s.exited:
			return
		case <-tick.C:
		}
		news, err := f.poll(s.status.say)
		if err != nil && !failed {
			s.log.printf("read the payload's status: %v", err)
		}
		failed = err != nil
		if news {
			s.out.wake()
		}
	}
}
