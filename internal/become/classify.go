package become

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/mgmt-remote/mgmt-remote/fault"
)

// meaning is what a message of sudo or doas is to us. In texts, {user} is who is become, {login} who logged in.
type meaning struct {
	method string // whose message it is; "" = of both
	said   string // a part of it, in lower case
	kind   fault.Kind
	text   string
	remedy string
}

// meanings are in the order in which they are looked for: sudo often says two things, and the first one is the reason. The messages are those of
// sudo 1.8 to 1.9, of sudo-rs, and of doas from OpenBSD and opendoas in the C locale.
var meanings = []meaning{
	{Sudo, "must have a tty", fault.Environment, "sudo wants a terminal (requiretty)",
		"put 'Defaults:{login} !requiretty' into the host's sudoers (visudo)"},
	{"", "no new privileges", fault.Environment, "the kernel keeps the SSH server's processes from becoming anybody (no new privileges)",
		"see NoNewPrivileges of the SSH server's service, or the container's settings"},
	{Sudo, "must be owned by uid 0 and have the setuid bit set", fault.Environment, "sudo is not set up on the host", "install it anew"},
	{Sudo, "effective uid is not 0", fault.Environment, "sudo can't work on the host (its file system is mounted nosuid)", "mount it without nosuid"},
	{Sudo, "not in the sudoers file", fault.Denied, "user {login} is not in the sudoers file", "allow the user there (visudo), or log in as another one"},
	{Sudo, "may not run", fault.Denied, "user {login} may not use sudo here", "allow the user in the host's sudoers (visudo)"},
	{Sudo, "afraid i can't do that", fault.Denied, "user {login} is not in the sudoers file", "allow the user there (visudo), or log in as another one"},
	{Sudo, "is not allowed to execute", fault.Denied, "user {login} may not run a shell as {user}",
		"allow /bin/sh as {user} in the host's sudoers (visudo): everything is run through it"},
	{Sudo, "not allowed to run sudo", fault.Denied, "user {login} may not use sudo here", "allow the user in the host's sudoers (visudo)"},
	{Sudo, "unknown user", fault.Environment, "there is no user {user}", "make the user, or name another one with --become-user"},
	{Sudo, "account validation failure", fault.Denied, "the account of {login} is locked or expired", "see chage and passwd -S on the host"},
	{Sudo, "password is expired", fault.Denied, "the password of {login} has expired", "log in and change it"},
	{Sudo, "password expired", fault.Denied, "the password of {login} has expired", "log in and change it"},
	{Sudo, "incorrect password attempt", fault.Denied, "the password is wrong", wrongRemedy},
	{Sudo, "incorrect authentication attempt", fault.Denied, "the password is wrong", wrongRemedy},
	{Sudo, "sorry, try again", fault.Denied, "the password is wrong", wrongRemedy},
	{Sudo, "authentication failed, try again", fault.Denied, "the password is wrong", wrongRemedy},
	{Sudo, "interactive authentication is required", fault.Denied, "sudo wants a password for {login} to become {user}",
		"use --ask-become-pass, or allow it without (NOPASSWD) in the host's sudoers"},
	{Sudo, "unable to change expired password", fault.Denied, "the password of {login} has expired", "log in and change it"},
	{Sudo, "a password is required", fault.Denied, "sudo wants a password for {login} to become {user}",
		"use --ask-become-pass, or allow it without (NOPASSWD) in the host's sudoers"},
	{Sudo, "no password was provided", fault.Denied, "sudo wants a password for {login} to become {user}",
		"use --ask-become-pass, or allow it without (NOPASSWD) in the host's sudoers"},
	{Sudo, "a terminal is required", fault.Denied, "sudo wants a password for {login} to become {user}",
		"use --ask-become-pass, or allow it without (NOPASSWD) in the host's sudoers"},
	{Sudo, "no valid sudoers sources found", fault.Environment, "the host's sudoers can't be read", "see visudo -c on the host"},
	{Doas, "is not enabled", fault.Environment, "doas is not set up: there is no /etc/doas.conf",
		"write 'permit nopass {login} as {user}' into it, or use --become-method sudo"},
	{Doas, "syntax error", fault.Environment, "the host's doas.conf has an error", "see doas -C /etc/doas.conf on the host"},
	{Doas, "authentication required", fault.Denied, "doas wants a password, and takes one at a terminal only",
		"write 'permit nopass {login} as {user}' into the host's doas.conf, or use --become-method sudo"},
	{Doas, "a tty is required", fault.Denied, "doas wants a password, and takes one at a terminal only",
		"write 'permit nopass {login} as {user}' into the host's doas.conf, or use --become-method sudo"},
	{Doas, "operation not permitted", fault.Denied, "user {login} may not become {user} with doas",
		"write 'permit nopass {login} as {user}' into the host's doas.conf"},
	{Doas, "unknown user", fault.Environment, "there is no user {user}", "make the user, or name another one with --become-user"},
	{Doas, "not installed setuid", fault.Environment, "doas is not set up on the host", "install it anew"},
}

const wrongRemedy = "begin anew with the right one; it is not tried again, so that the account is not locked"

// refused makes a fault of what was said by a sudo or doas that ended without running the command.
func (d *door) refused(said string, end error, asked bool) error {
	lower := strings.ToLower(said)
	for _, m := range meanings {
		if (m.method == "" || m.method == d.method) && strings.Contains(lower, m.said) {
			return d.fault(m.kind, m.text, m.remedy)
		}
	}
	if end == nil { // the command never began
		end = fmt.Errorf("exit status 0")
	}
	kind := fault.Environment
	if asked {
		kind = fault.Denied
	}
	return fault.New(kind, op, "%s did not run the command: %q, %w", d.method, excerpt(said), end).WithHost(d.host).
		WithRemedy("try '%s -u %s true' as %s on the host", d.method, d.user, d.login)
}

// wrong is about a password that was followed by the question again.
func (d *door) wrong() error { return d.fault(fault.Denied, "the password is wrong", wrongRemedy) }

// stuck is about a sudo that neither asks nor runs the command. A question that is not ours may be one for a second factor.
func (d *door) stuck(said string, sent bool) error {
	said = excerpt(said)
	switch {
	case sent:
		return fault.New(fault.Denied, op, "%s does not answer within %v after it got the password (it said %q)", d.method, d.limit, said).WithHost(d.host).
			WithRemedy("see whether it asks for more than a password")
	case said != "":
		return fault.New(fault.Denied, op, "%s neither ran the command within %v nor asked as it was told (it said %q)", d.method, d.limit, said).WithHost(d.host).
			WithRemedy("see whether it asks for something else than a password: only that can be given")
	}
	return fault.New(fault.Lost, op, "%s neither runs the command nor asks, for %v", d.method, d.limit).WithHost(d.host).
		WithRemedy("see whether it waits for a directory service (LDAP, SSSD, DNS) on the host")
}

func (d *door) fault(kind fault.Kind, text, remedy string) *fault.Fault {
	names := strings.NewReplacer("{user}", d.user, "{login}", d.login)
	return fault.New(kind, op, "%s", names.Replace(text)).WithHost(d.host).WithRemedy("%s", names.Replace(remedy))
}

// excerpt makes a short line of whatever was said; nothing in it can do something to a terminal.
func excerpt(said string) string {
	said = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(said, "?"))
	said = strings.Join(strings.Fields(said), " ")
	if r := []rune(said); len(r) > 300 {
		said = "…" + string(r[len(r)-300:])
	}
	return said
}
