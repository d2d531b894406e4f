package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// Errors that callers tell apart with errors.Is; they arrive inside a fault.
var (
	// ErrLocked: another process drives this run.
	ErrLocked = errors.New("another mgmt-remote drives this run")
	// ErrUnfinished: Remove was asked to forget sessions that may still exist on their hosts.
	ErrUnfinished = errors.New("the run has sessions that were not cleaned up")
	// ErrElsewhere: the run's last initiator was on another machine.
	ErrElsewhere = errors.New("the run was driven on another machine and may still be")
	// ErrClosed: the run was closed.
	ErrClosed = errors.New("the run's state is closed")
)

const (
	idLength   = 8
	idAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	// trashPrefix begins the name of a run that is being removed; no run ID begins with a dot.
	trashPrefix = ".removed-"
)

// RunOptions say which run's state to open.
type RunOptions struct {
	Root string // the directory of all runs; "" = $XDG_STATE_HOME/mgmt-remote/runs or ~/.local/state/mgmt-remote/runs
	ID   string // an existing run; "" = a new one

	// TakeOver makes us the initiator of a run that another machine drove, or may still: its directory was copied here. The fencing token
	// is raised, so that hosts refuse the other one from the first moment that they hear of us.
	TakeOver bool
}

// Run is the state of one run on the initiator's disk, locked for this process until Close. Its methods may be
// used by many goroutines.
type Run struct {
	id      string
	dir     string
	lock    *os.File // the run's directory itself, with flock
	tenure  tenure
	journal *journal
}

// OpenRun opens the state of a run and locks it. A new run gets a random ID. Where ID names a run that isn't there,
// errors.Is(err, fs.ErrNotExist); where another process has it, errors.Is(err, ErrLocked), and where another machine had it last, errors.Is(err, ErrElsewhere). Errors are faults of kind
// Environment. The lock is the kernel's (flock), so it ends with the process, however that ends.
func OpenRun(o RunOptions) (*Run, error) {
	const op = "open the run's state"
	root, err := rootDir(o.Root)
	if err != nil {
		return nil, fault.Wrap(fault.Environment, op, err)
	}
	r := &Run{id: o.ID}
	if o.ID == "" {
		r.id, err = newRunDir(root)
	} else {
		err = validID(o.ID)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Environment, op, err)
	}
	r.dir = filepath.Join(root, r.id)
	if r.lock, err = lockDir(r.dir); err != nil {
		f := fault.Wrap(fault.Environment, op, err)
		switch {
		case errors.Is(err, ErrLocked):
			var t tenure
			_ = readTenure(r.dir, &t) // to name the holder is a courtesy
			f = f.WithRemedy("%s drives it since %s: follow it with `mgmt-remote attach %s`, or `stop` it", t.Owner, t.Owner.Since.Format(time.DateTime), r.id)
		case errors.Is(err, fs.ErrNotExist):
			f = f.WithRemedy("look into %s for the runs there are", root)
		}
		return nil, f
	}
	if r.tenure, err = nextTenure(r.dir, o.TakeOver); err == nil {
		r.journal, err = openJournal(filepath.Join(r.dir, journalFile))
	}
	if err != nil {
		f := fault.Wrap(fault.Environment, op, errors.Join(err, r.lock.Close()))
		if errors.Is(err, ErrElsewhere) {
			f = f.WithRemedy("stop it there if you can, then `mgmt-remote resume --take-over %s`", r.id)
		}
		return nil, f
	}
	return r, nil
}

// rootDir returns the directory of all runs and makes it where it is missing.
func rootDir(root string) (string, error) {
	if root == "" {
		state := os.Getenv("XDG_STATE_HOME")
		if !filepath.IsAbs(state) { // the XDG base directory specification: relative paths are to be ignored
			home, err := os.UserHomeDir()
			if err != nil {
				return "", err
			}
			state = filepath.Join(home, ".local", "state")
		}
		root = filepath.Join(state, "mgmt-remote", "runs")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	return root, os.MkdirAll(root, 0o700)
}

// newRunDir makes the directory of a run with an ID that nobody uses.
func newRunDir(root string) (id string, err error) {
	for range 100 {
		if id, err = newID(); err != nil {
			return "", err
		}
		if err = os.Mkdir(filepath.Join(root, id), 0o700); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return "", err
	}
	return id, syncDir(root)
}

func newID() (string, error) {
	id := make([]byte, idLength)
	for i := range id {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(idAlphabet))))
		if err != nil {
			return "", err
		}
		id[i] = idAlphabet[n.Int64()]
	}
	return string(id), nil
}

func validID(id string) error {
	if len(id) != idLength || strings.Trim(id, idAlphabet) != "" {
		return fmt.Errorf("%q is no run ID: it has %d lower-case letters and digits", id, idLength)
	}
	return nil
}

// Who looks at a run holds its lock for a moment, too (see PeekRun), and must not be taken for an initiator.
const (
	lockTries = 10
	lockPause = 20 * time.Millisecond
)

// lockDir opens a directory that must be ours alone and locks it.
func lockDir(dir string) (f *os.File, err error) {
	for range lockTries {
		if f, err = tryLockDir(dir); !errors.Is(err, ErrLocked) {
			break
		}
		time.Sleep(lockPause)
	}
	return f, err
}

func tryLockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := checkLocked(f, dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func checkLocked(f *os.File, dir string) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user", dir)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is open to other users (mode %#o, need 0700)", dir, st.Mode().Perm())
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%s: %w", dir, ErrLocked)
		}
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	// Between opening and locking, the former holder may have removed the run.
	now, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !os.SameFile(st, now) {
		return fmt.Errorf("%s was replaced: %w", dir, fs.ErrNotExist)
	}
	return nil
}

// ID returns the run's ID.
func (r *Run) ID() string { return r.id }

// Dir returns the run's directory. It exists until Remove.
func (r *Run) Dir() string { return r.dir }

// Generation counts the initiators that have driven this run; this process is that many-th.
func (r *Run) Generation() uint64 { return r.tenure.Generation }

// Fence is the fencing token of this initiator. Hosts that saw one refuse initiators with a lower one.
func (r *Run) Fence() uint64 { return r.tenure.Fence }

// Owner is this process, as others are told.
func (r *Run) Owner() Owner { return r.tenure.Owner }

// SaveSpec keeps what the run is to do, in the caller's own words, for those who come after. It replaces what was there
// and returns when it is on the disk. It must hold no secrets.
func (r *Run) SaveSpec(spec json.RawMessage) error {
	if err := writeDurably(filepath.Join(r.dir, specFile), spec); err != nil {
		return fault.Wrap(fault.Environment, "save the run's specification", err).WithRemedy("check the disk of %s", r.dir)
	}
	return nil
}

// Spec returns what SaveSpec kept; nil where it never was called.
func (r *Run) Spec() (json.RawMessage, error) {
	data, err := os.ReadFile(filepath.Join(r.dir, specFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Environment, "read the run's specification", err)
	}
	return data, nil
}

// SaveEnd keeps how the run ended, in the caller's own words, as SaveSpec does.
func (r *Run) SaveEnd(end json.RawMessage) error {
	if err := writeDurably(filepath.Join(r.dir, endFile), end); err != nil {
		return fault.Wrap(fault.Environment, "save the run's end", err).WithRemedy("check the disk of %s", r.dir)
	}
	return nil
}

// EtcdDir returns where an embedded etcd of this run keeps its data. OpenEtcd makes it.
func (r *Run) EtcdDir() string { return filepath.Join(r.dir, "etcd") }

// Session returns what was last recorded about a host. It is false where nothing was.
func (r *Run) Session(host string) (SessionRecord, bool) { return r.journal.session(host) }

// Sessions returns the names of all hosts of which something is recorded, sorted.
func (r *Run) Sessions() []string { return r.journal.hosts() }

// Record makes rec the state of a host's session. When it returns nil the record is on the disk, and only then does
// Session show it. Many callers at once share one fsync. When ctx ends first the error is ctx's and the record may or
// may not become durable, as with a crash. A disk that failed once fails every later Record: after a failed
// fsync nobody knows what is on the disk. Errors are faults of kind Environment or Canceled.
func (r *Run) Record(ctx context.Context, host string, rec SessionRecord) error {
	if err := r.journal.appendSession(ctx, host, rec); err != nil {
		return fault.Wrap(fault.Environment, "record the session", err).WithHost(host).WithRemedy("check the disk of %s", r.dir)
	}
	return nil
}

// RecordResult makes the final result of a host durable, in the caller's own words. Rules and errors are those of Record.
func (r *Run) RecordResult(ctx context.Context, host string, result json.RawMessage) error {
	if err := r.journal.append(ctx, line{Host: host, Result: result}); err != nil {
		return fault.Wrap(fault.Environment, "record the result", err).WithHost(host).WithRemedy("check the disk of %s", r.dir)
	}
	return nil
}

// Results returns the final results of all hosts that have one.
func (r *Run) Results() map[string]json.RawMessage { return r.journal.results() }

// Log opens the output log of a host, which must be a valid host name. The caller closes it; one at a time per host.
// Errors are faults of kind Environment.
func (r *Run) Log(host string) (*Log, error) {
	const op = "open the output log"
	dir := filepath.Join(r.dir, logsDir)
	if host == "" || strings.ContainsAny(host, "/\x00") || host[0] == '.' {
		return nil, fault.New(fault.Bug, op, "%q is no host name", host)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Wrap(fault.Environment, op, err).WithHost(host)
	}
	l, err := openLog(filepath.Join(dir, host))
	if err != nil {
		return nil, fault.Wrap(fault.Environment, op, err).WithHost(host)
	}
	return l, nil
}

// Close ends the journal's goroutine and releases the lock. It must be called once. A Record that it overtakes is
// either written whole or fails with ErrClosed.
func (r *Run) Close() error {
	return errors.Join(r.journal.close(), r.lock.Close())
}

// Remove deletes the state of a finished run and closes it, in place of Close. The embedded etcd and all logs must be
// closed before. Where a session may still exist on its host nothing is deleted, the run stays open, and
// errors.Is(err, ErrUnfinished).
func (r *Run) Remove() error {
	if err := r.unfinished(); err != nil {
		return fault.Wrap(fault.Environment, "remove the run's state", err)
	}
	return r.Forget()
}

// unfinished names the hosts that may have a session.
func (r *Run) unfinished() error {
	var open []string
	for _, host := range r.Sessions() {
		if rec, _ := r.Session(host); rec.Phase != PhaseCleaned {
			open = append(open, host)
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("%w: %s", ErrUnfinished, strings.Join(abridge(open), ", "))
	}
	return nil
}

// Shrink deletes what of a finished run is large: the data of its etcd, and its logs. Both must be closed before. What the run was to do
// and how it ended stays. Where a session may still exist on its host nothing is deleted, and errors.Is(err, ErrUnfinished).
func (r *Run) Shrink() error {
	const op = "keep how the run ended"
	if err := r.unfinished(); err != nil {
		return fault.Wrap(fault.Environment, op, err)
	}
	errs := []error{writeDurably(filepath.Join(r.dir, shrunkFile), nil)}
	for _, dir := range []string{r.EtcdDir(), filepath.Join(r.dir, logsDir)} {
		errs = append(errs, os.RemoveAll(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fault.Wrap(fault.Environment, op, err)
	}
	return nil
}

// Forget is Remove without a look at what may be left on hosts: sessions there end by themselves after their orphan
// timeout, and nobody can claim them any more.
func (r *Run) Forget() error {
	const op = "remove the run's state"
	// The rename makes it one step for anybody who looks: a run is there whole, or not at all.
	root := filepath.Dir(r.dir)
	trash := filepath.Join(root, trashPrefix+r.id)
	err := os.Rename(r.dir, trash)
	if err == nil {
		err = errors.Join(os.RemoveAll(trash), syncDir(root))
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return fault.Wrap(fault.Environment, op, err)
	}
	return nil
}

func abridge(hosts []string) []string {
	const most = 5
	if len(hosts) <= most {
		return hosts
	}
	return append(slices.Clone(hosts[:most]), fmt.Sprintf("and %d more", len(hosts)-most))
}

// syncDir makes a new or removed name in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
