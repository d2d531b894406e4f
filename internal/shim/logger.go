package shim

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// maxLog caps what the daemon writes about itself, in bytes: it may live for weeks.
const maxLog = 256 << 10

// logger writes the daemon's own few lines. Secrets never go there. When there are more than maxLog of them, the file begins
// anew: what happened last matters most.
type logger struct {
	mu   sync.Mutex
	w    io.Writer
	size int64
}

// newLogger returns a logger that goes on in f, which was opened to be appended to.
func newLogger(f *os.File) *logger {
	l := &logger{w: f}
	if fi, err := f.Stat(); err == nil {
		l.size = fi.Size()
	}
	return l
}

func (l *logger) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > maxLog && !l.beginAnew() {
		return
	}
	l.print(fmt.Sprintf(format, args...))
}

// beginAnew empties the file and returns whether that was possible.
func (l *logger) beginAnew() bool {
	f, ok := l.w.(interface{ Truncate(size int64) error })
	if !ok || f.Truncate(0) != nil {
		return false
	}
	l.size = 0
	l.print(fmt.Sprintf("earlier lines are gone: there were more than %d KiB", maxLog>>10))
	return true
}

func (l *logger) print(text string) {
	n, _ := fmt.Fprintf(l.w, "%s %s\n", time.Now().UTC().Format(time.RFC3339), text) // nobody is left to tell
	l.size += int64(n)
}
