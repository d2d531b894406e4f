//go:build linux

package sshd

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"syscall"
	"testing"
)

// StartDropbear starts Dropbear, a server without unix socket forwards. Config and NoSFTP of the options mean nothing to it; with
// Debian's openssh-sftp-server installed it offers sftp.
//
// Dropbear reads authorized_keys below the home of the user database and has no option to change that. So it runs in a
// mount namespace of its own, where Server.Home is mounted on that home: this needs root. Commands see the
// same directory under both names, and HOME is the one of the user database.
func StartDropbear(t testing.TB, o Options) *Server {
	t.Helper()
	s, dir := prepare(t, "dropbear", "dropbear-bin")
	if os.Geteuid() != 0 {
		t.Fatal("dropbear needs root for its own mount namespace: run the tests as root")
	}
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dropbearKey := filepath.Join(dir, "dropbear_key")
	convert := exec.CommandContext(t.Context(), "dropbearconvert", "openssh", "dropbear", filepath.Join(dir, "host_key"), dropbearKey)
	if out, err := convert.CombinedOutput(); err != nil {
		t.Fatalf("dropbearconvert (install dropbear-bin: make deps): %v: %s", err, out)
	}
	keys, err := os.ReadFile(filepath.Join(dir, "authorized_keys")) //nolint:gosec // our own file
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.Home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.Home, ".ssh", "authorized_keys"), string(keys))
	s.ready = "Not backgrounding"
	s.args = func(port int) []string {
		return append([]string{"-F", "-E", "-s", "-r", dropbearKey, "-P", filepath.Join(dir, "pid"),
			"-p", fmt.Sprintf("127.0.0.1:%d", port)}, o.Args...)
	}
	s.wrap = func(cmd *exec.Cmd) {
		// The words come as arguments, so nothing needs quoting. exec keeps the PID.
		cmd.Args = append([]string{"sh", "-c", `mount --bind "$1" "$2" && shift 2 && exec "$@"`, "sh", s.Home, u.HomeDir, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS // Go makes the mounts private then
	}
	s.launch()
	return s
}
