package become

import (
	"os/user"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// The script on this machine, which has sudo, doas and OpenSSH's SFTP server (make deps).
func TestLook(t *testing.T) {
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t)
	got, err := look(t.Context(), conn, Target{User: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	want := found{uid: self.Uid, user: self.Username, targetUID: nobody.Uid, sudo: "/usr/bin/sudo", doas: "/usr/bin/doas", sftp: "/usr/lib/openssh/sftp-server"}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for target, wrapped := range map[string]bool{self.Username: false, "": false, "nobody": true} {
		w, err := Enter(t.Context(), conn, Options{Host: "h1", Target: Target{User: target}})
		if err != nil {
			t.Fatal(err)
		}
		if _, is := w.(*sshconn.Conn); is == wrapped {
			t.Errorf("as %q: %T", target, w)
		}
	}
	if _, err := Enter(t.Context(), conn, Options{Host: "h1", Target: Target{User: "no-such-user"}}); fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), "no user no-such-user") {
		t.Errorf("%v", err)
	}
}

func TestChoose(t *testing.T) {
	both, none := found{sudo: "/usr/bin/sudo", doas: "/usr/bin/doas"}, found{}
	doas := found{doas: "/usr/local/bin/doas"}
	for _, tc := range []struct {
		f            found
		method       string
		name, errors string
	}{
		{both, "", Sudo, ""},
		{both, Doas, Doas, ""},
		{doas, "", Doas, ""},
		{doas, Sudo, "", "no sudo in a directory of the system"},
		{none, "", "", "neither sudo nor doas"},
	} {
		name, _, err := tc.f.choose(tc.method)
		if tc.errors == "" && (err != nil || name != tc.name) || tc.errors != "" && (fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), tc.errors)) {
			t.Errorf("%+v, %q: %q, %v", tc.f, tc.method, name, err)
		}
	}
}

// What a host answers is not believed.
func TestAnswersThatAreNone(t *testing.T) {
	for out, want := range map[string]string{
		"":                              "instead of an answer",
		"This account is not available": "not available",
		"\nM BEGIN\nuid=0\n":            "instead of an answer",
		"\nM BEGIN\nuser=root\nM END\n": "who logged in",
		"\nM BEGIN\nuid=1\nsudo=/usr/bin/sudo; reboot\nM END\n": "not an absolute path",
		"\nM BEGIN\nuid=1\nsftp=../sftp\nM END\n":               "not an absolute path",
	} {
		if _, err := parseLook("M", out); fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", out, err, want)
		}
	}
	f, err := parseLook("M", "noise without end\r\nM BEGIN\r\nuid=1000\r\nunknown=x\r\ntarget=0\r\nM END\r\nbye")
	if err != nil || f != (found{uid: "1000", targetUID: "0"}) {
		t.Errorf("%+v, %v", f, err)
	}
}
