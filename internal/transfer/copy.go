package transfer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
)

// tempPrefix starts the names of unfinished files in a session directory.
const tempPrefix = ".up-"

func tempName(dir string) string { return dir + "/" + tempPrefix + strings.ToLower(rand.Text()[:16]) }

// upload is one blob on its way.
type upload struct {
	path    string // where it goes in the end
	sha256  string
	source  *io.SectionReader
	gzipped bool
}

// Copy is the first half of step 3: it uploads what the host does not have, and puts the small files into place. The programs are
// there only after Finish was called with the result's Pending, when the client is closed.
func (c *Client) Copy(ctx context.Context, r CopyRequest) (CopyResult, error) {
	const op = "copy"
	if r.Dir == "" {
		r.Dir = c.dir
	}
	if err := r.check(); err != nil {
		return CopyResult{}, fault.Wrap(fault.Bug, op, err)
	}
	defer c.guard(ctx)()
	result, err := c.copy(ctx, r)
	if err != nil {
		return CopyResult{}, classify(op, orCause(ctx, err))
	}
	return result, nil
}

func (r CopyRequest) check() error {
	if err := errors.Join(probe.ValidPath(r.Base), probe.ValidPath(r.Dir)); err != nil {
		return err
	}
	if !strings.HasPrefix(r.Dir, r.Base+"/") {
		return fault.New(fault.Bug, "copy", "%s is not below %s", r.Dir, r.Base)
	}
	for _, f := range r.Files {
		if f.Name == "" || safeName(f.Name) != f.Name {
			return fault.New(fault.Bug, "copy", "%q is no name for a session's file", f.Name)
		}
	}
	return nil
}

func (c *Client) copy(ctx context.Context, r CopyRequest) (CopyResult, error) {
	result := CopyResult{Paths: make(map[string]string, len(r.Blobs))}
	uploads, err := plan(ctx, r, &result, c.there)
	if err != nil {
		return result, err
	}
	if len(uploads) > 0 {
		if err := c.sweep(r.Dir); err != nil {
			return result, err
		}
	}
	meter := &meter{report: r.Progress}
	for _, u := range uploads {
		meter.total += u.source.Size()
	}
	for _, u := range uploads {
		temp, err := c.upload(r.Dir, u, meter)
		if err != nil {
			return result, err
		}
		result.Pending = append(result.Pending, Install{Temp: temp, Path: u.path, SHA256: u.sha256, Gzip: u.gzipped})
	}
	result.Sent = meter.sent

	// Each file costs six round trips, so they share them.
	var group errgroup.Group
	group.SetLimit(inFlight)
	for _, f := range r.Files {
		group.Go(func() error { return c.put(r.Dir, f) })
	}
	return result, group.Wait()
}

// there reports whether a program that was put into a session directory is still there. What has its name was verified: it is there after an
// earlier connection of this session.
func (c *Client) there(path string, size int64) (bool, error) {
	info, err := c.sftp.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, at(path, err)
	}
	return err == nil && info.Mode().IsRegular() && info.Size() == size, nil
}

// plan says what has to be sent; there is asked about programs that don't go to the cache.
func plan(ctx context.Context, r CopyRequest, result *CopyResult, there func(path string, size int64) (bool, error)) ([]upload, error) {
	var uploads []upload
	for _, b := range r.Blobs {
		if _, twice := result.Paths[b.SHA256]; twice {
			continue
		}
		u := upload{path: r.Base + "/" + probe.CacheDir + "/" + b.Key(), sha256: b.SHA256}
		skip := slices.Contains(r.Cached, b.Key())
		var err error
		if r.NoCache {
			u.path = r.Dir + "/bin/" + b.Name
			if skip, err = there(u.path, b.Size); err != nil {
				return nil, err
			}
		}
		result.Paths[b.SHA256] = u.path
		if skip {
			result.Skipped += b.Size
			continue
		}
		if u.source, u.gzipped, err = b.wire(ctx, r.Gzip); err != nil {
			return nil, &localError{err}
		}
		uploads = append(uploads, u)
	}
	return uploads, nil
}

// sweep removes what a broken copy left. The session directory is this session's alone, so nobody else can be uploading there.
func (c *Client) sweep(dir string) error {
	entries, err := c.sftp.ReadDir(dir)
	if err != nil {
		return at(dir, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := c.sftp.Remove(dir + "/" + e.Name()); err != nil {
				return at(dir+"/"+e.Name(), err)
			}
		}
	}
	return nil
}

// upload sends one blob to a temporary file and returns its path.
func (c *Client) upload(dir string, u upload, m *meter) (string, error) {
	temp := tempName(dir)
	source := &source{data: u.source, link: c.link, meter: m}
	// What is unpacked on the host is new data anyway, and made durable there.
	err := c.write(temp, source, writeOptions{mode: 0o600, durable: !u.gzipped, size: u.source.Size()})
	return temp, err
}

// mode gives nothing to others.
func (f File) mode() fs.FileMode {
	if mode := f.Mode.Perm() &^ 0o077; mode != 0 {
		return mode
	}
	return 0o600
}

// put writes a small file under a temporary name and renames it.
func (c *Client) put(dir string, f File) error {
	mode := f.mode()
	temp, final := tempName(dir), dir+"/"+f.Name
	if err := c.write(temp, bytes.NewReader(f.Data), writeOptions{mode: mode, durable: true, size: int64(len(f.Data))}); err != nil {
		return err
	}
	if _, ok := c.sftp.HasExtension("posix-rename@openssh.com"); ok {
		return at(final, c.sftp.PosixRename(temp, final))
	}
	// Plain SFTP renames never replace.
	if err := c.sftp.Remove(final); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return at(final, err)
	}
	return at(final, c.sftp.Rename(temp, final))
}

type writeOptions struct {
	mode    fs.FileMode
	durable bool // fsync where the server can (OpenSSH PROTOCOL, section 4.4 "fsync@openssh.com")
	size    int64
}

// write makes a new file; on an error it is removed where that is still possible.
func (c *Client) write(name string, r io.Reader, o writeOptions) error {
	f, err := c.sftp.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return at(name, err)
	}
	err = c.fill(f, r, o)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		return nil
	}
	if !c.link.isCut() {
		err = c.full(name, err)
		// If it can't be removed either, the next copy or the end of the session does it.
		_ = c.sftp.Remove(name)
	}
	return at(name, err)
}

func (c *Client) fill(f *sftp.File, r io.Reader, o writeOptions) error {
	if err := f.Chmod(o.mode); err != nil {
		return err
	}
	if err := send(f, r); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != o.size {
		return environment("%d of %d bytes arrived", info.Size(), o.size).WithRemedy("the disk or the quota may be full on the host")
	}
	if version, ok := c.sftp.HasExtension("fsync@openssh.com"); ok && version == "1" && o.durable {
		return f.Sync()
	}
	return nil
}

// send writes everything that r has. What is in memory already is sent from there: File.ReadFrom makes a buffer of a whole
// packet first, however little there is to send.
func send(f *sftp.File, r io.Reader) (err error) {
	if data, ok := r.(*bytes.Reader); ok {
		_, err = data.WriteTo(f)
		return err
	}
	_, err = f.ReadFrom(r)
	return err
}

// full adds what SFTP does not say: whether a write failed because nothing is left. It looks while the file is still there.
func (c *Client) full(name string, err error) error {
	var status *sftp.StatusError
	if !errors.As(err, &status) || status.FxCode() != sftp.ErrSSHFxFailure {
		return err
	}
	if _, ok := c.sftp.HasExtension("statvfs@openssh.com"); !ok {
		return err
	}
	vfs, vfsErr := c.sftp.StatVFS(name)
	if vfsErr != nil {
		return err
	}
	const little = 1 << 20 // a failed packet of a few hundred KiB fitted no more
	if free := vfs.Bavail * vfs.Frsize; free < little {
		return environment("the file system is full (%d KiB left): %w", free>>10, err).
			WithRemedy("free some space on the host or use --prefix DIR")
	}
	return err
}

// meter counts what is sent.
type meter struct {
	mu          sync.Mutex
	sent, total int64
	report      func(sent, total int64)
}

func (m *meter) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent += int64(n)
	if m.report != nil && n > 0 {
		m.report(m.sent, m.total)
	}
}

// source is a blob as the SFTP library reads it: from one goroutine, in packets. Its Size method is what makes the library send several
// at once. It fails once the link is cut, see link.Write.
type source struct {
	data  *io.SectionReader
	link  *link
	meter *meter
}

func (s *source) Size() int64 { return s.data.Size() }

func (s *source) Read(p []byte) (int, error) {
	if s.link.isCut() {
		return 0, io.ErrClosedPipe
	}
	n, err := s.data.Read(p)
	s.meter.add(n)
	if err != nil && err != io.EOF {
		err = &localError{err}
	}
	return n, err
}
