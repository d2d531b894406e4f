package svcmgr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
)

// systemdManager is systemd over D-Bus, see org.freedesktop.systemd1(5). Each call makes its own connections: they cost
// next to nothing, and a bus that was restarted is no case of its own.
type systemdManager struct {
	session bool // the manager of this process's user, on its session bus
}

// link is a connection to systemd. go-systemd makes two of a kind; signals is the one that receives signals.
type link struct {
	*systemd.Conn
	signals *dbus.Conn
}

// connect dials the bus. The caller closes the link; it is also closed when ctx ends.
func (m systemdManager) connect(ctx context.Context) (*link, error) {
	l := &link{}
	var err error
	l.Conn, err = systemd.NewConnection(func() (*dbus.Conn, error) {
		var err error
		l.signals, err = m.dial(ctx) // the second call is for signals
		return l.signals, err
	})
	if err != nil {
		bus := "system bus"
		if m.session {
			bus = "user's session bus"
		}
		return nil, fmt.Errorf("systemd can't be asked, since the %s can't be reached (does a dbus-daemon or dbus-broker run?): %w",
			bus, orCause(ctx, err))
	}
	return l, nil
}

// dial names the user by number, since that needs no look-up, and starts no bus where there is none.
func (m systemdManager) dial(ctx context.Context) (*dbus.Conn, error) {
	dial := dbus.SystemBusPrivate
	if m.session {
		dial = dbus.SessionBusPrivateNoAutoStartup
	}
	conn, err := dial(dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	if err == nil {
		err = conn.Hello()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// orCause is the reason why ctx ended, where that is why a call failed.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil && err != nil {
		return context.Cause(ctx)
	}
	return err
}

func unitName(name string) string { return name + ".service" }

// unit is what systemd says about a unit, from one call. Asking loads a unit that is not loaded.
type unit struct {
	id          string // its own name, where the name that was asked for is an alias
	load        string // LoadState
	active, sub string // ActiveState, SubState
	file        string // UnitFileState
	loadError   string
}

func (l *link) unit(ctx context.Context, name string) (unit, error) {
	all, err := l.GetUnitPropertiesContext(ctx, unitName(name))
	if err != nil {
		return unit{}, fmt.Errorf("%s: %w", unitName(name), orCause(ctx, err))
	}
	text := func(property string) string {
		s, _ := all[property].(string) // one that is not there is empty, and no state that we know
		return s
	}
	u := unit{id: text("Id"), load: text("LoadState"), active: text("ActiveState"), sub: text("SubState"), file: text("UnitFileState")}
	if parts, ok := all["LoadError"].([]any); ok && len(parts) == 2 {
		u.loadError, _ = parts[1].(string)
	}
	return u, nil
}

// known refuses units that are not there or that systemd could not load.
func (u unit) known(name string) error {
	switch u.load {
	case "loaded", "masked":
		return nil
	case "not-found":
		return fmt.Errorf("systemd has no unit %s", unitName(name))
	default:
		return fmt.Errorf("systemd could not load %s (%s): %s", unitName(name), u.load, u.loadError)
	}
}

// state translates ActiveState.
func (u unit) state() State {
	s := State{Detail: u.active}
	if u.sub != u.active && u.sub != "" {
		s.Detail += " (" + u.sub + ")"
	}
	switch u.active {
	case "active":
		s.Phase = Running
	case "inactive", "failed":
		s.Phase = Stopped
	default: // activating (also while it waits to be restarted), deactivating, reloading, refreshing, maintenance
		s.Phase = OnTheWay
	}
	if u.load == "masked" {
		s.Obstacle = fmt.Sprintf("it is masked; `systemctl unmask %s` allows it again", u.id)
	}
	return s
}

// startup translates UnitFileState, see systemctl(1) is-enabled. What will be gone after a reboot does not count as
// enabled.
func (u unit) startup() Startup {
	switch u.file {
	case "enabled":
		return Startup{Enabled: true}
	case "disabled", "enabled-runtime", "linked", "linked-runtime":
		return Startup{}
	case "masked", "masked-runtime":
		return Startup{Obstacle: fmt.Sprintf("it is masked; `systemctl unmask %s` allows it again", u.id)}
	case "static":
		return Startup{Obstacle: "its unit file has no section [Install]: it is started by what needs it"}
	case "indirect":
		return Startup{Obstacle: "its unit file has no section [Install] but names others with Also=: enable those"}
	case "generated":
		return Startup{Obstacle: "its unit is generated, from an init script or a table: enable that"}
	case "transient":
		return Startup{Obstacle: "its unit is transient: it is gone when it has stopped"}
	case "alias":
		return Startup{Obstacle: "it is an alias: enable " + u.id}
	default:
		return Startup{Obstacle: fmt.Sprintf("systemd says that its unit file is %q", u.file)}
	}
}

// ask returns a unit that is there.
func (m systemdManager) ask(ctx context.Context, name string) (unit, error) {
	ctx, cancel := command.WithTimeout(ctx, askTime)
	defer cancel()
	l, err := m.connect(ctx)
	if err != nil {
		return unit{}, err
	}
	defer l.Close()
	u, err := l.unit(ctx, name)
	if err != nil {
		return unit{}, err
	}
	return u, u.known(name)
}

func (m systemdManager) State(ctx context.Context, name string) (State, error) {
	u, err := m.ask(ctx, name)
	return u.state(), err
}

func (m systemdManager) Startup(ctx context.Context, name string) (Startup, error) {
	u, err := m.ask(ctx, name)
	return u.startup(), err
}

func (m systemdManager) Start(ctx context.Context, name string) (string, error) {
	return "", m.job(ctx, name, "start", (*systemd.Conn).StartUnitContext)
}

func (m systemdManager) Stop(ctx context.Context, name string) (string, error) {
	return "", m.job(ctx, name, "stop", (*systemd.Conn).StopUnitContext)
}

func (m systemdManager) Reload(ctx context.Context, name string) (string, error) {
	return "", m.job(ctx, name, "reload or restart", (*systemd.Conn).ReloadOrTryRestartUnitContext)
}

// job has systemd do something and waits for the result. When ctx ends, the job goes on: systemd has limits of its own.
func (m systemdManager) job(ctx context.Context, name, what string,
	enqueue func(*systemd.Conn, context.Context, string, string, chan<- string) (int, error),
) error {
	ctx, cancel := command.WithTimeout(ctx, actTime)
	defer cancel()
	l, err := m.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	done := make(chan string, 1)
	if _, err := enqueue(l.Conn, ctx, unitName(name), "replace", done); err != nil {
		if !l.Connected() {
			err = fmt.Errorf("the connection to the bus broke: %w", err)
		}
		return fmt.Errorf("%s %s: %w", what, unitName(name), orCause(ctx, err))
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("%s %s: systemd says %s%s; `journalctl -u %s` may tell why", what, unitName(name), result,
				l.reason(ctx, name), unitName(name))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s %s: %w", what, unitName(name), context.Cause(ctx))
	case <-l.signals.Context().Done():
		return fmt.Errorf("%s %s: the connection to the bus broke before systemd was done", what, unitName(name))
	}
}

// reason is what systemd noted about how the service ended: ": exit-code, status 203". It is an addition to an error;
// where it can't be had there is none.
func (l *link) reason(ctx context.Context, name string) string {
	all, err := l.GetUnitTypePropertiesContext(ctx, unitName(name), "Service")
	result, _ := all["Result"].(string)
	if err != nil || result == "" || result == "success" {
		return ""
	}
	if status, ok := all["ExecMainStatus"].(int32); ok && status != 0 {
		return fmt.Sprintf(": %s, status %d", result, status)
	}
	return ": " + result
}

// Enable uses the unit's own name, since systemd refuses aliases, and makes systemd read the links again.
func (m systemdManager) Enable(ctx context.Context, name string) (string, error) {
	return "", m.unitFile(ctx, name, "enable", func(ctx context.Context, l *link, id string) error {
		_, _, err := l.EnableUnitFilesContext(ctx, []string{id}, false, false)
		return err
	})
}

func (m systemdManager) Disable(ctx context.Context, name string) (string, error) {
	return "", m.unitFile(ctx, name, "disable", func(ctx context.Context, l *link, id string) error {
		_, err := l.DisableUnitFilesContext(ctx, []string{id}, false)
		return err
	})
}

func (m systemdManager) unitFile(ctx context.Context, name, what string, change func(context.Context, *link, string) error) error {
	ctx, cancel := command.WithTimeout(ctx, actTime)
	defer cancel()
	l, err := m.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	u, err := l.unit(ctx, name)
	if err == nil {
		err = u.known(name)
	}
	if err == nil {
		err = change(ctx, l, u.id)
	}
	if err == nil {
		err = l.ReloadContext(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, unitName(name), orCause(ctx, err))
	}
	return nil
}
