//go:build linux

package sshd

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
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
	s, dir := prepare(t, "dropbear", "dropbear-bin", o)
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dropbearKey := filepath.Join(dir, "dropbear_key")
	convert := exec.CommandContext(t.Context(), "dropbearconvert", "openssh", "dropbear", filepath.Join(dir, "host_key"), dropbearKey)
	if out, err := convert.CombinedOutput(); err != nil {
		t.Fatalf("dropbearconvert (install dropbear-bin: make deps): %v: %s", err, out)
	}
	keys, err := os.ReadFile(filepath.Join(dir, "authorized_keys"))
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
	s.mounts = append(s.mounts, [2]string{s.Home, u.HomeDir})
	s.launch()
	return s
}
