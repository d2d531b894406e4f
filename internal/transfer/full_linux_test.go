package transfer

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/probe"
	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// TestDiskFull mounts a small file system that only this thread and the server started from it see.
func TestDiskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test must run as root: it mounts a file system in its own namespace")
	}
	dir := tempDir(t)
	// The thread is never unlocked, so that it ends with the test and its namespace with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for name, packed := range map[string]bool{"while uploading": false, "while unpacking": true, "while uploading through a shell": false} {
		conn := dial(t, sshd.Start(t, sshd.Options{NoSFTP: strings.HasSuffix(name, "shell")}))
		s := Session{Base: probe.BaseDir(dir, 0), Run: "abc123", Host: "web1"}
		blob, _ := program(t, 5_000_000, packed)
		_, err := stage(t.Context(), conn, s, CopyRequest{Blobs: []*Blob{blob}, Gzip: packed})
		if fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), "free some space") {
			t.Errorf("%s: %v", name, err)
		}
		left, err := filepath.Glob(probe.SessionDir(s.Base, s.Run, s.Host) + "/.*")
		if err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v %v", name, left, err)
		}
		small, data := program(t, 100_000, false)
		result, err := stage(t.Context(), conn, s, CopyRequest{Blobs: []*Blob{small}})
		if err != nil {
			t.Fatalf("%s: the space was not given back: %v", name, err)
		}
		same(t, result.Paths[small.SHA256], data)
	}
}
