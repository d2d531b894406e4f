package become

import (
	"errors"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// What the real programs said: sudo 1.9.13p3 and opendoas 6.8.2 of Debian 12, run as users without a terminal, with the
// sudoers, doas.conf and accounts that the names tell of. The prompt is taken out, as heard does it.
var recorded = []struct {
	name, method, said string
	asked              bool
	kind               fault.Kind
	text, remedy       string
}{
	{"sudo: -n, a password is needed", Sudo, "sudo: a password is required\n", false, fault.Denied, "sudo wants a password for ann", "--ask-become-pass"},
	{"sudo: in no sudoers, right password", Sudo, "ann is not in the sudoers file.\n", true, fault.Denied, "user ann is not in the sudoers file", "visudo"},
	{"sudo: wrong password, end of input", Sudo, "Sorry, try again.\n\nsudo: no password was provided\nsudo: 1 incorrect password attempt\n", true, fault.Denied, "password is wrong", "not tried again"},
	{"sudo: wrong password, passwd_tries=1", Sudo, "sudo: 1 incorrect password attempt\n", true, fault.Denied, "password is wrong", "not tried again"},
	{"sudo: unknown user", Sudo, "sudo: unknown user bob\nsudo: error initializing audit plugin sudoers_audit\n", false, fault.Environment, "there is no user bob", "--become-user"},
	{"sudo: requiretty", Sudo, "sudo: sorry, you must have a tty to run sudo\n", false, fault.Environment, "requiretty", "Defaults:ann !requiretty"},
	{"sudo: expired account", Sudo, "sudo: account validation failure, is your account locked?\nsudo: a password is required\n", true, fault.Denied, "account of ann is locked", "chage"},
	{"sudo: expired password", Sudo, "sudo: Account or password is expired, reset your password and try again\nChanging password for ann.\n[sudo] password for %p: sudo: unable to change expired password: Authentication token manipulation error\nsudo: a password is required\n", true, fault.Denied, "password of ann has expired", "change it"},
	{"sudo: no new privileges", Sudo, "sudo: The \"no new privileges\" flag is set, which prevents sudo from running as root.\nsudo: If sudo is running in a container, you may need to adjust the container configuration to disable the flag.\n", false, fault.Environment, "no new privileges", "container"},
	{"sudo: another command allowed only, right password", Sudo, "Sorry, user ann is not allowed to execute '/bin/sh -c ...' as bob on host.\n", true, fault.Denied, "may not run a shell as bob", "/bin/sh"},
	{"sudo: what nobody knows", Sudo, "sudo: the moon is in the wrong phase\x1b[31m\n", false, fault.Environment, "the moon is in the wrong phase", "sudo -u bob true"},
	{"sudo: what nobody knows, after the password", Sudo, "pam_otp: no\n", true, fault.Denied, "pam_otp: no", "sudo -u bob true"},
	// Not recorded, but as the source of sudo-rs 0.2 has them.
	{"sudo-rs: a password is needed", Sudo, "sudo: interactive authentication is required\n", false, fault.Denied, "sudo wants a password for ann", "--ask-become-pass"},
	{"sudo-rs: in no sudoers", Sudo, "sudo: I'm sorry ann. I'm afraid I can't do that\n", true, fault.Denied, "ann is not in the sudoers file", "visudo"},
	{"sudo-rs: nothing allowed", Sudo, "sudo: Sorry, user ann may not run /bin/sh on host.\n", true, fault.Denied, "user ann may not use sudo here", "visudo"},
	{"sudo-rs: wrong password", Sudo, "sudo: Authentication failed, try again.\nsudo: Maximum 1 incorrect authentication attempts\n", true, fault.Denied, "password is wrong", "not tried again"},
	{"doas: no doas.conf", Doas, "doas: doas is not enabled, /etc/doas.conf: No such file or directory\n", false, fault.Environment, "doas is not set up", "permit nopass ann as bob"},
	{"doas: a password is needed", Doas, "doas: Authentication required\n", false, fault.Denied, "doas wants a password", "permit nopass ann as bob"},
	{"doas: nobody permitted it", Doas, "doas: Operation not permitted\n", false, fault.Denied, "user ann may not become bob", "permit nopass ann as bob"},
	{"doas: unknown user", Doas, "doas: unknown user\n", false, fault.Environment, "there is no user bob", "--become-user"},
	{"doas: broken doas.conf", Doas, "doas: syntax error at line 1\n", false, fault.Environment, "doas.conf has an error", "doas -C"},
}

func TestMessages(t *testing.T) {
	for _, tc := range recorded {
		t.Run(tc.name, func(t *testing.T) {
			d := (&way{host: "h1", login: "ann", user: "bob", method: tc.method}).door()
			var f *fault.Fault
			if err := d.refused(tc.said, &sshconn.ExitError{Code: 1}, tc.asked); !errors.As(err, &f) {
				t.Fatalf("%v", err)
			}
			if f.Kind != tc.kind || f.Host != "h1" || f.Op != "become" {
				t.Errorf("%v, %s %s, want %v", f.Kind, f.Host, f.Op, tc.kind)
			}
			if !strings.Contains(f.Err.Error(), tc.text) || !strings.Contains(f.Remedy, tc.remedy) {
				t.Errorf("%q, %q; want %q, %q", f.Err, f.Remedy, tc.text, tc.remedy)
			}
			if strings.ContainsAny(f.Error()+f.Remedy, "\x1b\n{}") {
				t.Errorf("not fit for a terminal: %q", f.Error()+f.Remedy)
			}
		})
	}
}
