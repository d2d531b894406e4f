package console

import (
	"container/list"
	"errors"
	"os"
)

// mostOpen is how many hosts' files are open at the same time, two each: enough that a host that talks is not opened for every line,
// and few beside the connections of a large fleet.
const mostOpen = 64

// logFiles keeps the files of those hosts open that said something last. What is in it stands behind what was copied.
type logFiles struct {
	most   int
	order  *list.List // of *logFile, the last used first
	byHost map[string]*list.Element
}

// logFile is one host's two files.
type logFile struct {
	host     string
	from, to *os.File
}

func newLogFiles(most int) *logFiles {
	return &logFiles{most: most, order: list.New(), byHost: map[string]*list.Element{}}
}

// get returns a host's files where they are open, nil where they are not.
func (f *logFiles) get(host string) *logFile {
	e, open := f.byHost[host]
	if !open {
		return nil
	}
	f.order.MoveToFront(e)
	return e.Value.(*logFile)
}

// put keeps a host's files open and closes those that nobody used for longest, where there are too many.
func (f *logFiles) put(file *logFile) error {
	var err error
	for f.order.Len() >= f.most {
		err = errors.Join(err, f.close(f.order.Back()))
	}
	f.byHost[file.host] = f.order.PushFront(file)
	return err
}

// drop closes a host's files, if they are open.
func (f *logFiles) drop(host string) error {
	e, open := f.byHost[host]
	if !open {
		return nil
	}
	return f.close(e)
}

func (f *logFiles) closeAll() error {
	var err error
	for f.order.Len() > 0 {
		err = errors.Join(err, f.close(f.order.Back()))
	}
	return err
}

func (f *logFiles) close(e *list.Element) error {
	file := f.order.Remove(e).(*logFile)
	delete(f.byHost, file.host)
	_ = file.from.Close() // it was read from
	return file.to.Close()
}
