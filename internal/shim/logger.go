package shim

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// maxLog caps what the daemon writes about itself, in bytes: it may live for weeks.
const maxLog = 256 << 10

// logger writes the daemon's own few lines, until maxLog is reached. Secrets never go there.
type logger struct {
	mu      sync.Mutex
	w       io.Writer
	written int
}

func (l *logger) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written > maxLog {
		return
	}
	n, _ := fmt.Fprintf(l.w, "%s %s\n", time.Now().UTC().Format(time.RFC3339), fmt.Sprintf(format, args...)) // nobody is left to tell
	l.written += n
}
