package fakesystemd

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fileChange is one of the links that the bus tells about.
type fileChange struct{ Type, Filename, Destination string }

// export puts the manager and all possible units on the bus.
func (s *Systemd) export() error {
	err := errors.Join(
		s.conn.Export(manager{s}, managerPath, managerInterface),
		s.conn.ExportSubtree(units{s}, managerPath+"/unit", properties),
	)
	if err != nil {
		return err
	}
	reply, err := s.conn.RequestName(busName, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = fmt.Errorf("the name %s is taken", busName)
	}
	return err
}

func refuse(name, text string) *dbus.Error {
	return dbus.NewError("org.freedesktop.systemd1."+name, []any{text})
}

// manager has the methods of org.freedesktop.systemd1.Manager.
type manager struct{ s *Systemd }

func (m manager) Subscribe() *dbus.Error {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.s.subscribed = true
	return nil
}

// usable returns a unit that jobs can be made for.
func (m manager) usable(name string) (string, *unit, *dbus.Error) {
	id, u := m.s.find(name)
	switch {
	case u == nil || u.Load == "not-found":
		return id, nil, refuse("NoSuchUnit", fmt.Sprintf("Unit %s not found.", name))
	case u.Load == "masked":
		return id, nil, refuse("UnitMasked", fmt.Sprintf("Unit %s is masked.", name))
	}
	return id, u, nil
}

func (m manager) StartUnit(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	id, u, refused := m.usable(name)
	if refused != nil {
		return "", refused
	}
	u.starts++
	switch {
	case u.Hangs:
		s.become(id, u, "activating", "start")
		return s.job(id, ""), nil
	case u.Fails:
		s.become(id, u, "failed", "")
		return s.job(id, "failed"), nil
	case u.Dies:
		s.timers = append(s.timers, time.AfterFunc(DyingTime, func() { s.Become(id, "failed", "") }))
	}
	s.become(id, u, "active", "")
	return s.job(id, "done"), nil
}

func (m manager) StopUnit(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	id, u := s.find(name)
	if u == nil {
		return "", refuse("NoSuchUnit", fmt.Sprintf("Unit %s not loaded.", name))
	}
	s.become(id, u, "deactivating", "stop-sigterm")
	s.become(id, u, "inactive", "")
	return s.job(id, "done"), nil
}

// ReloadOrTryRestartUnit: whether a unit can reload is told by its name.
func (m manager) ReloadOrTryRestartUnit(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	id, u, refused := m.usable(name)
	if refused != nil {
		return "", refused
	}
	if u.Active == "active" && strings.HasPrefix(id, "noreload") {
		u.starts++
		s.become(id, u, "active", "")
	} else if u.Active == "active" {
		u.reloads++
		s.become(id, u, "reloading", "reload")
		s.become(id, u, "active", "")
	}
	return s.job(id, "done"), nil
}

func (m manager) EnableUnitFiles(files []string, _, _ bool) (bool, []fileChange, *dbus.Error) {
	return true, []fileChange{}, m.files(files, "enabled")
}

func (m manager) DisableUnitFiles(files []string, _ bool) ([]fileChange, *dbus.Error) {
	return []fileChange{}, m.files(files, "disabled")
}

func (m manager) files(names []string, state string) *dbus.Error {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		u := s.units[name]
		if u == nil {
			return refuse("NoSuchUnit", fmt.Sprintf("Refusing to operate on alias name or linked unit file: %s", name))
		}
		u.fileNow = state
	}
	s.emit(managerPath, managerInterface+".UnitFilesChanged")
	return nil
}

func (m manager) Reload() *dbus.Error {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.s.reload()
	return nil
}

// units has the properties of every unit that one could ask for: systemd loads a unit when it is asked.
type units struct{ s *Systemd }

// GetAll is of org.freedesktop.DBus.Properties.
func (o units) GetAll(msg dbus.Message, iface string) (map[string]dbus.Variant, *dbus.Error) {
	s := o.s
	s.mu.Lock()
	defer s.mu.Unlock()
	object, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	id, u := "", (*unit)(nil)
	for name, candidate := range s.units {
		if object == unitPath(name) || candidate.Alias != "" && object == unitPath(candidate.Alias) {
			id, u = name, candidate
		}
	}
	all := map[string]any{"Id": unescape(path.Base(string(object))), "LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead",
		"UnitFileState": "", "LoadError": loadError{busName + ".NoSuchUnit", "Unit not found."}}
	if u != nil {
		all = map[string]any{"Id": id, "LoadState": u.Load, "ActiveState": u.Active, "SubState": u.Sub, "UnitFileState": u.File, "LoadError": loadError{}}
		if u.Load == "bad-setting" {
			all["LoadError"] = loadError{busName + ".BadUnitSetting", "Unit has a bad unit file setting."}
		}
	}
	if iface == "org.freedesktop.systemd1.Service" {
		all = map[string]any{"Result": "success", "ExecMainStatus": int32(0)}
		if u != nil && u.Active == "failed" {
			all = map[string]any{"Result": "exit-code", "ExecMainStatus": int32(203)}
		}
	}
	variants := make(map[string]dbus.Variant)
	for name, value := range all {
		variants[name] = dbus.MakeVariant(value)
	}
	return variants, nil
}

type loadError struct{ Name, Text string }

// unescape is the inverse of systemd.PathBusEscape.
func unescape(escaped string) string {
	var name strings.Builder
	for rest := escaped; rest != ""; {
		var b byte
		if _, err := fmt.Sscanf(rest, "_%2x", &b); err == nil {
			name.WriteByte(b)
			rest = rest[3:]
			continue
		}
		name.WriteByte(rest[0])
		rest = rest[1:]
	}
	if systemd.PathBusEscape(name.String()) != escaped {
		return escaped
	}
	return name.String()
}
