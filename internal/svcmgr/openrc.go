package svcmgr

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// openrc is OpenRC by its commands rc-service(8) and rc-update(8).
type openrc struct{}

// The exit statuses of `rc-service NAME status`, from openrc-run.sh. Scripts may have a status of their own; those follow
// the Linux Standard Base, where 1 to 3 are ways not to run.
const (
	rcStarted  = 0
	rcStopped  = 3
	rcStopping = 4
	rcStarting = 8
	rcInactive = 16
	rcCrashed  = 32
)

func (openrc) status(ctx context.Context, name string) (int, string, error) {
	_, status, err := ask(ctx, "rc-service", "--exists", name)
	if err != nil {
		return 0, "", err
	}
	if status != 0 {
		return 0, "", fmt.Errorf("OpenRC has no service %s (rc-service --exists)", name)
	}
	output, status, err := ask(ctx, "rc-service", name, "status")
	return status, output, err
}

func (o openrc) State(ctx context.Context, name string) (State, error) {
	status, output, err := o.status(ctx, name)
	if err != nil {
		return State{}, err
	}
	switch status {
	case rcStarted:
		return State{Phase: Running, Detail: "started"}, nil
	case rcStarting:
		return State{Phase: OnTheWay, Detail: "starting"}, nil
	case rcStopping:
		return State{Phase: OnTheWay, Detail: "stopping"}, nil
	case rcInactive: // started, and waits for something such as a network link
		return State{Phase: OnTheWay, Detail: "inactive"}, nil
	case rcCrashed:
		return State{Detail: "crashed"}, nil
	case 1, 2, rcStopped:
		return State{Detail: "stopped"}, nil
	default:
		return State{}, fmt.Errorf("rc-service %s status: exit status %d: %s", name, status, lastLine(output))
	}
}

// Start first makes OpenRC forget that it has started a service that is dead: otherwise it would say so, and do nothing.
func (o openrc) Start(ctx context.Context, name string) (string, error) {
	status, _, err := o.status(ctx, name)
	if err != nil {
		return "", err
	}
	if status != rcCrashed {
		return act(ctx, "rc-service", name, "start")
	}
	return inTurn(ctx, []string{"rc-service", name, "zap"}, []string{"rc-service", name, "start"})
}

func (openrc) Stop(ctx context.Context, name string) (string, error) {
	return act(ctx, "rc-service", name, "stop")
}

// Reload asks the script first whether it has a reload, since a reload that fails for another reason, such as a mistake
// in the configuration, is none for a restart.
func (openrc) Reload(ctx context.Context, name string) (string, error) {
	commands, status, err := ask(ctx, "rc-service", name, "describe")
	if err != nil {
		return "", err
	}
	if status == 0 && describesReload(commands) {
		return act(ctx, "rc-service", name, "reload")
	}
	return act(ctx, "rc-service", name, "restart")
}

// describesReload finds the line " * reload: what it does" of `rc-service NAME describe`.
func describesReload(output string) bool {
	for line := range strings.Lines(output) {
		if strings.HasPrefix(strings.TrimLeft(line, " *"), "reload:") {
			return true
		}
	}
	return false
}

func (o openrc) Startup(ctx context.Context, name string) (Startup, error) {
	levels, err := o.runlevels(ctx, name)
	return Startup{Enabled: len(levels) > 0}, err
}

// runlevels are those of a boot that a service is in; see bootLevels.
func (openrc) runlevels(ctx context.Context, name string) ([]string, error) {
	output, status, err := ask(ctx, "rc-update", "show")
	if err != nil {
		return nil, err
	}
	if status != 0 {
		return nil, fmt.Errorf("rc-update show: exit status %d: %s", status, lastLine(output))
	}
	return bootLevels(output, name), nil
}

// bootLevels reads the lines "NAME | RUNLEVEL RUNLEVEL" of `rc-update show`. What is in other runlevels, such as
// shutdown, single or one of the administrator, is not started by a normal boot.
func bootLevels(output, name string) []string {
	for line := range strings.Lines(output) {
		service, levels, found := strings.Cut(line, "|")
		if found && strings.TrimSpace(service) == name {
			return slices.DeleteFunc(strings.Fields(levels), func(level string) bool {
				return level != "sysinit" && level != "boot" && level != "default"
			})
		}
	}
	return nil
}

// Enable names the runlevel: without it, rc-update takes the one that the machine happens to be in.
func (openrc) Enable(ctx context.Context, name string) (string, error) {
	return act(ctx, "rc-update", "add", name, "default")
}

// Disable names the runlevels: with --all, rc-update fails because the service is not in every one of them.
func (o openrc) Disable(ctx context.Context, name string) (string, error) {
	levels, err := o.runlevels(ctx, name)
	if err != nil || len(levels) == 0 {
		return "", err
	}
	return act(ctx, "rc-update", append([]string{"del", name}, levels...)...)
}

func (openrc) Watch(ctx context.Context, _ string, ready, changed func()) error {
	return poll(ctx, ready, changed)
}
