package sshd

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Password is that of all accounts of Options.Users.
const Password = "correct horse"

// passwordHash is Password's (`openssl passwd -6 -salt mgmtremote`): making one takes longer than the rest.
const passwordHash = "$6$mgmtremote$i/5Fj1Zr7gBPn9cwSKijrKEkkJgN1KmIuIZhcBpT5sBJ1lUPUis2jbt0QUf6D5Xly9mnEoJ05ei5AT0ugiW4h1"

// FirstUID is the user ID of the first one of Options.Users; the others follow.
const FirstUID = 61000

// ownEtc makes a copy of /etc that only the server sees, with accounts, and what says who may become whom in it. What sudo remembers is in
// a directory of the server's, too.
func (s *Server) ownEtc(t testing.TB, dir string, o Options) {
	t.Helper()
	etc, stamps := filepath.Join(dir, "etc"), filepath.Join(dir, "sudo")
	if out, err := exec.Command("cp", "-a", "/etc", etc).CombinedOutput(); err != nil {
		t.Fatalf("copy /etc: %v\n%s", err, out)
	}
	for _, d := range []string{stamps, "/run/sudo"} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range o.Users {
		home, err := os.MkdirTemp("", "home") // not below t.TempDir, which is closed to the user
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(home); err != nil {
				t.Error(err)
			}
		})
		uid := FirstUID + i
		if err := os.Chown(home, uid, uid); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			s.User, s.Home = name, home
		}
		appendTo(t, filepath.Join(etc, "passwd"), fmt.Sprintf("%s:x:%d:%d::%s:%s\n", name, uid, uid, home, cmp.Or(o.Shell, "/bin/sh")))
		appendTo(t, filepath.Join(etc, "group"), fmt.Sprintf("%s:x:%d:\n", name, uid))
		appendTo(t, filepath.Join(etc, "shadow"), fmt.Sprintf("%s:%s:20000:0:99999:7:::\n", name, passwordHash))
	}
	s.etc = etc
	s.Sudoers(o.Sudoers)
	if o.DoasConf != "" {
		s.etcFile("doas.conf", o.DoasConf, 0o400)
	}
	s.mounts = append(s.mounts, [2]string{etc, "/etc"}, [2]string{stamps, "/run/sudo"})
}

// Sudoers replaces what sudo is told beside the machine's own sudoers; the server has Options.Users.
func (s *Server) Sudoers(text string) { s.etcFile("sudoers.d/mgmt-remote", text, 0o440) }

// etcFile replaces a file of the server's /etc at once.
func (s *Server) etcFile(name, text string, mode os.FileMode) {
	s.t.Helper()
	path := filepath.Join(s.etc, name)
	if err := os.WriteFile(path+"~", []byte(text), mode); err != nil { // sudo takes no files with a ~ at the end
		s.t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		s.t.Fatal(err)
	}
}

func appendTo(t testing.TB, path, line string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if old := string(text); old != "" && !strings.HasSuffix(old, "\n") {
		line = "\n" + line
	}
	if err := os.WriteFile(path, append(text, line...), info.Mode()); err != nil {
		t.Fatal(err)
	}
}
