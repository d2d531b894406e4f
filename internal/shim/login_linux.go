package shim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// askWait is how long one question to systemd may take.
const askWait = 3 * time.Second

// login is what has to be known to start the daemon so that it outlives the login that starts it.
type login struct {
	cgroups string // /proc/self/cgroup
	uid     int
	user    string
	owner   string                               // whose login session it is: who logged in, where sudo or doas made us another user
	ask     func(argv ...string) (string, error) // runs a program and returns what it prints
}

func thisLogin() login {
	cgroups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		cgroups = nil // no /proc: no systemd either
	}
	user := os.Getenv("LOGNAME")
	if user == "" {
		user = os.Getenv("USER")
	}
	owner := cmp.Or(os.Getenv("SUDO_USER"), os.Getenv("DOAS_USER"), user)
	return login{cgroups: string(cgroups), uid: os.Geteuid(), user: user, owner: owner, ask: answer}
}

func answer(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		err = fmt.Errorf("%s does not answer", argv[0])
	}
	return string(out), err
}

// outlive returns the words to put before the daemon's command so that logind doesn't end it at logout. Where there are none
// although it would, the warning says so, and what to do.
//
// Logind ends what is in the scope of a login session where KillUserProcesses is on (logind.conf(5)). A scope of the
// system's is beyond that, which root can have; one of the user's own service manager is where that manager stays, which it does
// for users who linger (systemd-run(1), loginctl(1)). Lingering is never switched on from here: it would change the host, and
// switching it off again would end the user's other sessions.
func (l login) outlive() (before []string, warning string) {
	if !l.inSession() || !l.ends() {
		return nil, ""
	}
	run := []string{"systemd-run", "--scope", "--quiet"}
	if l.uid == 0 {
		return append(run, "--"), ""
	}
	out, err := l.ask("loginctl", "show-user", strconv.Itoa(l.uid), "--property=Linger")
	if err == nil && strings.TrimSpace(out) == "Linger=yes" {
		return append(run, "--user", "--"), ""
	}
	return nil, l.warning("")
}

// warning says what a logout does; detail may say why that could not be helped.
func (l login) warning(detail string) string {
	if detail != "" {
		detail = " (" + detail + ")"
	}
	return fmt.Sprintf("the end of the connection may end the payload: logind kills the processes of users who log out, KillUserProcesses%s; "+
		"run `loginctl enable-linger %s` on the host, or set KillUserProcesses=no in its logind.conf", detail, l.user)
}

// inSession tells whether this process is in the scope of a login session: session-ID.scope.
func (l login) inSession() bool {
	for line := range strings.Lines(l.cgroups) {
		for part := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			if ok, err := path.Match("session-*.scope", part); ok && err == nil {
				return true
			}
		}
	}
	return false
}

// ends tells whether logind ends the processes of this session, whoever they run as. Where it doesn't answer, it doesn't run.
func (l login) ends() bool {
	out, err := l.ask("busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager",
		"KillUserProcesses", "KillOnlyUsers", "KillExcludeUsers")
	if err != nil {
		return false
	}
	lines := strings.Split(out, "\n")
	if len(lines) < 3 {
		return false
	}
	only, err1 := parseStrings(lines[1])
	except, err2 := parseStrings(lines[2])
	if errors.Join(err1, err2) != nil {
		return false
	}
	switch {
	case slices.Contains(except, l.owner):
		return false
	case len(only) > 0:
		return slices.Contains(only, l.owner)
	}
	return lines[0] == "b true"
}

// parseStrings reads an array of strings as busctl shows it: `as 2 "root" "anna"`.
func parseStrings(text string) ([]string, error) {
	f := strings.Fields(text)
	if len(f) < 2 || f[0] != "as" || f[1] != strconv.Itoa(len(f)-2) {
		return nil, fmt.Errorf("%q is no array of names", text)
	}
	var names []string
	for _, quoted := range f[2:] {
		name, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}
