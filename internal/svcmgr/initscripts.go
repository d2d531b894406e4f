package svcmgr

import (
	"github.com/mgmt-remote/mgmt-remote/internal/command"

	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// initScripts is the command `service`, which runs the scripts in /etc/init.d. Their actions and exit statuses are those
// of the Linux Standard Base, chapter "Init Script Actions". Whether they run at boot is said by links in /etc/rc?.d.
type initScripts struct{}

func (initScripts) State(ctx context.Context, name string) (State, error) {
	if !isScript(name) {
		return State{}, fmt.Errorf("there is no init script %s", scriptPath(name))
	}
	output, status, err := ask(ctx, "service", name, "status")
	if err != nil {
		return State{}, err
	}
	switch status {
	case 0:
		return State{Phase: Running, Detail: "running"}, nil
	case 1:
		return State{Detail: "dead, its PID file is left"}, nil
	case 2:
		return State{Detail: "dead, its lock file is left"}, nil
	case 3:
		return State{Detail: "not running"}, nil
	default:
		return State{}, fmt.Errorf("service %s status: the script does not know (exit status %d): %s", name, status, lastLine(output))
	}
}

func (initScripts) Start(ctx context.Context, name string) (string, error) {
	return act(ctx, "service", name, "start")
}

func (initScripts) Stop(ctx context.Context, name string) (string, error) {
	return act(ctx, "service", name, "stop")
}

// Reload uses force-reload, which is for just that: LSB and Debian's policy (9.3.2) want every script to have it. One
// that has not says so with exit status 2 (wrong arguments) or 3 (not implemented).
func (initScripts) Reload(ctx context.Context, name string) (string, error) {
	output, err := act(ctx, "service", name, "force-reload")
	if status := exitStatus(err); status != 2 && status != 3 {
		return output, err
	}
	return act(ctx, "service", name, "restart")
}

// Startup looks for a link that starts the script in one of the runlevels that a machine boots into: 2 to 5, after S.
// Some systems have the directories in /etc, some in /etc/rc.d.
func (initScripts) Startup(_ context.Context, name string) (Startup, error) {
	for _, parent := range []string{"/etc", "/etc/rc.d"} {
		for _, level := range []string{"S", "2", "3", "4", "5"} {
			entries, err := os.ReadDir(parent + "/rc" + level + ".d")
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return Startup{}, err
			}
			for _, entry := range entries {
				if startsScript(entry.Name(), name) {
					return Startup{Enabled: true}, nil
				}
			}
		}
	}
	return Startup{}, nil
}

// startsScript reports whether a link is called S, two digits, and the script's name.
func startsScript(link, name string) bool {
	number, found := strings.CutSuffix(link, name)
	return found && len(number) == 3 && number[0] == 'S' && isDigit(number[1]) && isDigit(number[2])
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

// Enable uses Debian's update-rc.d or else chkconfig. The first step of each makes the links of a script that has none,
// the second one is for those that were disabled.
func (initScripts) Enable(ctx context.Context, name string) (string, error) {
	if command.Find("update-rc.d") != "" {
		return inTurn(ctx, []string{"update-rc.d", name, "defaults"}, []string{"update-rc.d", name, "enable"})
	}
	return inTurn(ctx, []string{"chkconfig", "--add", name}, []string{"chkconfig", name, "on"})
}

func (initScripts) Disable(ctx context.Context, name string) (string, error) {
	if command.Find("update-rc.d") != "" {
		return act(ctx, "update-rc.d", name, "disable")
	}
	return act(ctx, "chkconfig", name, "off")
}

func (initScripts) Watch(ctx context.Context, _ string, ready, changed func()) error {
	return poll(ctx, ready, changed)
}

// inTurn runs commands up to the first that fails.
func inTurn(ctx context.Context, commands ...[]string) (string, error) {
	var all strings.Builder
	for _, argv := range commands {
		output, err := act(ctx, argv[0], argv[1:]...)
		all.WriteString(output)
		if err != nil {
			return all.String(), err
		}
	}
	return all.String(), nil
}
