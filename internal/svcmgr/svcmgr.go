// Package svcmgr talks to the machine's init system about one service at a time: systemd over D-Bus, OpenRC, or the init
// scripts behind the command `service`. It asks and does what it is told; what should run is its caller's business.
package svcmgr

import (
	"github.com/mgmt-remote/mgmt-remote/internal/command"

	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// askTime bounds each question, actTime each change. A start may take as long as a database needs to recover.
	askTime = 30 * time.Second
	actTime = 5 * time.Minute
	// pollInterval is how often Watch makes its caller look where the init system has no events.
	pollInterval = 10 * time.Second
)

// Phase says where a service is between not running and running.
type Phase uint8

// The phases.
const (
	Stopped  Phase = iota // not running, and nothing is about to change that
	Running               // running
	OnTheWay              // starting, stopping or reloading: ask again soon
)

// State is whether a service runs.
type State struct {
	Phase    Phase
	Detail   string // the init system's own words
	Obstacle string // why it can't be started, and what to do about it; empty where it can
}

// Startup is whether a service is started at boot.
type Startup struct {
	Enabled  bool
	Obstacle string // why it can't be enabled, and what to do about it; empty where it can
}

// Manager is an init system. All methods may block; they end soon after ctx does, with its cause. A service that the
// init system does not know is an error of State and Startup. What Start, Stop, Reload, Enable and Disable return is
// what commands printed. All of it is safe for use by several goroutines.
type Manager interface {
	State(ctx context.Context, name string) (State, error)
	// Start returns when the init system says that the service has started. That it goes on running is another question.
	Start(ctx context.Context, name string) (output string, err error)
	Stop(ctx context.Context, name string) (output string, err error)
	// Reload makes a running service read its configuration again, by a restart where it knows no other way. Nobody
	// calls it for a service that is not running.
	Reload(ctx context.Context, name string) (output string, err error)
	Startup(ctx context.Context, name string) (Startup, error)
	Enable(ctx context.Context, name string) (output string, err error)
	Disable(ctx context.Context, name string) (output string, err error)
	// Watch calls changed whenever there is a reason to ask for State and Startup again, until ctx ends (then it returns
	// nil) or it can't watch any more. It calls ready once; what happens afterwards is not missed.
	Watch(ctx context.Context, name string, ready, changed func()) error
}

// Find returns the init system of this machine; session is the service manager of the user of this process, which only
// systemd has. Name must have passed CheckName.
//
// systemd is the init system if /run/systemd/system is there, see sd_booted(3). /run/openrc is made by OpenRC at boot.
// A machine may have init scripts beside either of them, so they come last.
func Find(name string, session bool) (Manager, error) {
	systemd := isDirectory("/run/systemd/system")
	switch {
	case systemd:
		return systemdManager{session: session}, nil
	case session:
		return nil, errors.New("session services need systemd, and it does not run here: there is no /run/systemd/system")
	case isDirectory("/run/openrc") || command.Find("rc-service") != "":
		return openrc{}, nil
	case isScript(name):
		return initScripts{}, nil
	}
	return nil, fmt.Errorf("no such service: systemd and OpenRC do not run here (there is no /run/systemd/system, no /run/openrc and "+
		"no program rc-service), and there is no init script %s", scriptPath(name))
}

// CheckName refuses what can't be the name of a service, or would mean something else in an argument, a path or a
// message.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("the name of a service is empty")
	case strings.HasPrefix(name, "-"), strings.HasPrefix(name, "."):
		return fmt.Errorf("the name of a service can't begin with %q: %q", name[:1], name)
	case strings.Contains(name, "/"):
		return fmt.Errorf("the name of a service can't contain a slash: %q", name)
	case !utf8.ValidString(name), strings.ContainsFunc(name, unicode.IsControl), strings.ContainsFunc(name, unicode.IsSpace):
		return fmt.Errorf("the name of a service can't contain white space or control characters: %q", name)
	}
	return nil
}

// poll is Watch for an init system without events.
func poll(ctx context.Context, ready, changed func()) error {
	ready()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			changed()
		case <-ctx.Done():
			return nil
		}
	}
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func scriptPath(name string) string { return filepath.Join("/etc/init.d", name) }

// isScript reports whether there is an init script of that name.
func isScript(name string) bool {
	info, err := os.Stat(scriptPath(name))
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}
