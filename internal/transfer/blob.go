package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// Blob is a program to be copied to hosts, addressed by its content. It is safe for concurrent use: one Blob serves a whole fleet.
type Blob struct {
	Name   string // the file name on the hosts: the given one with odd characters replaced
	SHA256 string // of the content, in hex
	Size   int64  // bytes

	file   *os.File
	closed chan struct{}
	once   sync.Once

	pack   sync.Mutex // held while compressing
	packed int        // how often that was done: once, unless it failed or was canceled
	gz     *os.File   // unlinked; nil if compression does not pay
	size   int64      // of gz
}

// OpenBlob opens and hashes a file. The caller closes the blob after the last copy. The file must not change meanwhile: hosts would refuse
// it by its hash.
func OpenBlob(path, name string) (*Blob, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	hash := sha256.New()
	var size int64
	if err == nil {
		size, err = io.Copy(hash, f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Blob{
		Name: safeName(name), SHA256: hex.EncodeToString(hash.Sum(nil)), Size: size,
		file: f, closed: make(chan struct{}),
	}, nil
}

var (
	oddChars = regexp.MustCompile(`[^A-Za-z0-9._+-]`)
	oddStart = regexp.MustCompile(`^[.-]+`)
)

// safeName makes name one that needs no quoting anywhere and is neither hidden nor an option.
func safeName(name string) string {
	name = oddChars.ReplaceAllString(filepath.Base(name), "_")
	name = oddStart.ReplaceAllString(name, "_")
	if len(name) > 64 {
		name = name[:64]
	}
	if name == "" {
		name = "program"
	}
	return name
}

// Key is how the blob appears in probe.Facts.Cached: "<sha256>/<name>".
func (b *Blob) Key() string { return b.SHA256 + "/" + b.Name }

// Close gives back the files. Copies that still run fail.
func (b *Blob) Close() error {
	var err error
	b.once.Do(func() {
		close(b.closed)
		b.pack.Lock()
		defer b.pack.Unlock()
		err = b.file.Close()
		if b.gz != nil {
			err = errors.Join(err, b.gz.Close())
		}
	})
	return err
}

// wire returns what is to be sent and its length.
func (b *Blob) wire(ctx context.Context, compress bool) (r *io.SectionReader, gzipped bool, err error) {
	if compress {
		if err := b.compress(ctx); err != nil {
			return nil, false, err
		}
		if b.gz != nil {
			return io.NewSectionReader(b.gz, 0, b.size), true, nil
		}
	}
	return io.NewSectionReader(b.file, 0, b.Size), false, nil
}

// compress makes the compressed form once; everybody else waits for it.
func (b *Blob) compress(ctx context.Context) error {
	b.pack.Lock()
	defer b.pack.Unlock()
	if b.packed > 0 {
		return nil
	}
	select {
	case <-b.closed:
		return os.ErrClosed
	default:
	}
	gz, err := os.CreateTemp("", "mgmt-remote-*.gz")
	if err != nil {
		return err
	}
	if err := os.Remove(gz.Name()); err != nil { // nobody finds it, and it can't be left behind
		return errors.Join(err, gz.Close())
	}
	w, err := gzip.NewWriterLevel(gz, gzip.DefaultCompression)
	if err == nil {
		_, err = io.Copy(w, &contextReader{ctx: ctx, r: io.NewSectionReader(b.file, 0, b.Size)})
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return errors.Join(err, gz.Close())
	}
	size, err := gz.Seek(0, io.SeekCurrent)
	if err != nil {
		return errors.Join(err, gz.Close())
	}
	b.packed++
	if !pays(size, b.Size) {
		return gz.Close()
	}
	b.gz, b.size = gz, size
	return nil
}

// pays: unpacking costs the host a process and time, so a few percent are not worth it.
func pays(packed, size int64) bool { return packed*10 <= size*9 }

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
