package svcmgr

import (
	"context"
	"errors"
	"fmt"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Names on the bus, see org.freedesktop.systemd1(5).
const (
	busName          = "org.freedesktop.systemd1"
	managerPath      = "/org/freedesktop/systemd1"
	managerInterface = "org.freedesktop.systemd1.Manager"
)

// Watch has match rules of its own instead of go-systemd's subscriptions: those receive what happens to every unit, drop
// some of it when there is much, and know nothing of unit files.
//
// UnitFilesChanged comes when units are enabled and disabled with systemctl; links that are made by hand show after
// `systemctl daemon-reload`.
func (m systemdManager) Watch(ctx context.Context, name string, ready, changed func()) error {
	l, err := m.connect(ctx)
	if err != nil {
		return unlessEnded(ctx, err)
	}
	defer l.Close()
	signals := make(chan *dbus.Signal, 16)
	l.signals.Signal(signals)
	if err := l.subscribe(ctx, name); err != nil {
		return unlessEnded(ctx, fmt.Errorf("watch %s: %w", unitName(name), err))
	}
	ready()
	for {
		select {
		case _, open := <-signals:
			if !open {
				return unlessEnded(ctx, errors.New("the connection to the bus broke"))
			}
			changed()
		case <-ctx.Done():
			return nil
		}
	}
}

func unlessEnded(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil // it was to end, and that is no error
	default:
		return err
	}
}

// subscribe asks systemd to send signals, and the bus for those that may concern a unit. JobRemoved is among them
// because a unit that was not loaded announces its first change with a signal that a question causes as well.
func (l *link) subscribe(ctx context.Context, name string) error {
	if err := l.signals.Object(busName, managerPath).CallWithContext(ctx, managerInterface+".Subscribe", 0).Err; err != nil {
		return err
	}
	u, err := l.unit(ctx, name)
	if err != nil {
		return err
	}
	path := dbus.ObjectPath(managerPath + "/unit/" + systemd.PathBusEscape(u.id))
	from := dbus.WithMatchSender(busName)
	manager := []dbus.MatchOption{from, dbus.WithMatchInterface(managerInterface)}
	member := func(name string, more ...dbus.MatchOption) []dbus.MatchOption {
		return append(append(more, manager...), dbus.WithMatchMember(name))
	}
	for _, rule := range [][]dbus.MatchOption{
		{from, dbus.WithMatchObjectPath(path), dbus.WithMatchInterface("org.freedesktop.DBus.Properties"), dbus.WithMatchMember("PropertiesChanged")},
		member("JobRemoved", dbus.WithMatchArg(2, u.id)),
		member("UnitFilesChanged"),
		member("Reloading"),
	} {
		if err := l.signals.AddMatchSignalContext(ctx, rule...); err != nil {
			return err
		}
	}
	return nil
}
