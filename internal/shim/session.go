package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// The names in a session directory that are the shim's own.
const (
	lockFile       = "lock"
	recordFile     = "shim.json"
	exitFile       = "exit.json"
	stderrFile     = "shim.log" // what the daemon itself has to say
	controlSocket  = "ctl.sock"
	endpointSocket = wire.EndpointSocket
)

// errNoSession tells that a directory holds nothing to start or attach to.
var errNoSession = errors.New("no session")

// checkDir makes sure that dir is a directory of ours that nobody else can look into, and no symlink.
func checkDir(dir string) error {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return fmt.Errorf("the session directory %q is not a clean absolute path", dir)
	}
	fi, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no directory %s", errNoSession, dir)
	}
	if err != nil {
		return err
	}
	return private(fi, dir, fs.ModeDir)
}

// private checks type, owner and permissions of a file or directory that holds secrets.
func private(fi fs.FileInfo, path string, kind fs.FileMode) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case fi.Mode().Type() != kind:
		return fmt.Errorf("%s is not what it should be, but %s", path, fi.Mode())
	case !ok || int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s does not belong to uid %d", path, os.Geteuid())
	case fi.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to others (%s)", path, fi.Mode())
	}
	return nil
}

// readSpec reads and checks what the initiator wants of the session in dir.
func readSpec(dir string) (wire.Spec, error) {
	path := filepath.Join(dir, wire.SpecFile)
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return wire.Spec{}, fmt.Errorf("%w: %s is missing", errNoSession, path)
	}
	if err != nil {
		return wire.Spec{}, err
	}
	if err := private(fi, path, 0); err != nil {
		return wire.Spec{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return wire.Spec{}, err
	}
	spec, err := parseSpec(data)
	if err != nil {
		return wire.Spec{}, fmt.Errorf("%s: %w", path, err)
	}
	return spec, nil
}

func parseSpec(data []byte) (wire.Spec, error) {
	var spec wire.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		// The text of a JSON error can quote what it read: the token is in there.
		return wire.Spec{}, errors.New("not the JSON of a session")
	}
	switch {
	case spec.Version != 1:
		return wire.Spec{}, fmt.Errorf("version %d is not 1", spec.Version)
	case spec.Run == "" || spec.Host == "":
		return wire.Spec{}, errors.New("run or host is missing")
	case spec.Token == "":
		return wire.Spec{}, errors.New("the token is missing")
	case len(spec.Argv) == 0 || spec.Argv[0] == "":
		return wire.Spec{}, errors.New("argv is empty")
	case spec.Endpoint != wire.EndpointUnix && spec.Endpoint != wire.EndpointTCP:
		return wire.Spec{}, fmt.Errorf("endpoint %q is neither %q nor %q", spec.Endpoint, wire.EndpointUnix, wire.EndpointTCP)
	case spec.StatusFile != "" && !filepath.IsAbs(spec.StatusFile):
		return wire.Spec{}, fmt.Errorf("the status file %q is not an absolute path", spec.StatusFile)
	}
	if err := checkRestart(spec.Restart); err != nil {
		return wire.Spec{}, err
	}
	return spec, nil
}

// tryLock takes the lock of the session in the current directory, where it is free. A lock on a file that was
// removed meanwhile (the session was cleaned up) is none.
func tryLock() (*os.File, bool, error) {
	f, err := os.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("lock %s: %w", lockFile, err)
	}
	mine, err := f.Stat()
	if err == nil {
		var there fs.FileInfo
		if there, err = os.Stat(lockFile); err == nil && os.SameFile(mine, there) {
			return f, true, nil
		}
	}
	_ = f.Close()
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return nil, false, err
}

// removeSession removes the session directory with all that is in it, then its run directory and, on request, the
// base, where they are empty. It refuses a directory that isn't the session of spec.
func removeSession(dir string, spec wire.Spec) error {
	if err := checkDir(dir); err != nil {
		return err
	}
	there, err := readSpec(dir)
	if err != nil {
		return fmt.Errorf("not removed: %w", err)
	}
	if there.Run != spec.Run || there.Host != spec.Host {
		return fmt.Errorf("%s is not removed: it belongs to run %q, host %q", dir, there.Run, there.Host)
	}
	// Renamed first, so that nobody meets half a session. os.Root never leaves the run directory, whatever the
	// names are links to.
	run, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // nothing was written through it
	gone := ".gone-" + filepath.Base(dir)
	if err := run.RemoveAll(gone); err != nil {
		return err
	}
	if err := run.Rename(filepath.Base(dir), gone); err != nil {
		return err
	}
	if err := run.RemoveAll(gone); err != nil {
		return err
	}
	parents := []string{filepath.Dir(dir)}
	if spec.RemoveBase {
		parents = append(parents, filepath.Dir(parents[0]))
	}
	for _, p := range parents {
		err := os.Remove(p)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
			return nil // other hosts' sessions, other runs or the cache are in there
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
