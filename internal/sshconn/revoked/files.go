package revoked

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
)

// maxFile is how large a file may be, in bytes; as in OpenSSH.
const maxFile = 128 << 20

// Files keeps lists of files, so that many hosts are checked against a file that is read once, and again when it has
// changed. The zero value has none. It is safe for concurrent use.
type Files struct {
	mu    sync.Mutex
	known map[string]*kept
}

// kept is a file that was read, or is being read: its own lock is held for that long.
type kept struct {
	mu   sync.Mutex
	info fs.FileInfo // nil: not read
	list *List
	err  error // the file is there, and is no list
}

// Check says by what a key is revoked in a file, in words; "" = it is not. The error names the file.
func (f *Files) Check(name string, key ssh.PublicKey) (why string, err error) {
	f.mu.Lock()
	k := f.known[name]
	if k == nil {
		if f.known == nil {
			f.known = map[string]*kept{}
		}
		k = &kept{}
		f.known[name] = k
	}
	f.mu.Unlock()
	list, err := k.current(name)
	if err != nil {
		return "", err
	}
	return list.Revokes(key), nil
}

func (k *kept) current(name string) (*List, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.info != nil && k.info.Size() == info.Size() && k.info.ModTime().Equal(info.ModTime()) && os.SameFile(k.info, info) {
		return k.list, k.err
	}
	k.info = nil
	data, err := read(name, info)
	if err != nil {
		return nil, err // the next one tries again
	}
	k.info = info // of before it was read: a change meanwhile is seen next time
	if k.list, k.err = Parse(data); k.err != nil {
		k.err = fmt.Errorf("%s: %w", name, k.err)
	}
	return k.list, k.err
}

func read(name string, info fs.FileInfo) ([]byte, error) {
	if !info.Mode().IsRegular() && info.Mode()&fs.ModeCharDevice == 0 { // /dev/null is an empty list; a pipe would be waited for
		return nil, fmt.Errorf("%s: is no file", name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: is larger than %d MiB", name, maxFile>>20)
	}
	return data, err
}
