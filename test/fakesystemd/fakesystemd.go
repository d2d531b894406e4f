// Package fakesystemd is the D-Bus side of systemd for tests: a service org.freedesktop.systemd1 with units that exist
// only in memory, so that a test can bring them into every state, and break the bus. The bus is real: a dbus-daemon of
// the test's own. What can be tested with the real systemd is tested with that one, in package engine.
//
// What it does is what org.freedesktop.systemd1(5) says, of the part that this project uses. Two things that are easy to
// rely on by mistake are as with systemd: nobody is told of changes who has not called Subscribe, and the state of a
// unit file is read again only by Reload.
package fakesystemd

import (
	"bufio"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

const (
	busName          = "org.freedesktop.systemd1"
	managerPath      = "/org/freedesktop/systemd1"
	managerInterface = "org.freedesktop.systemd1.Manager"
	unitInterface    = "org.freedesktop.systemd1.Unit"
	properties       = "org.freedesktop.DBus.Properties"
)

// DyingTime is how long a unit lives that Dies.
const DyingTime = 300 * time.Millisecond

// Unit is a unit as a test sets it up. Names have their suffix.
type Unit struct {
	Load   string // LoadState; empty = loaded
	File   string // UnitFileState; empty = disabled
	Alias  string // another name of it
	Fails  bool   // a start job fails
	Dies   bool   // a start job is done, and the unit fails DyingTime after that
	Hangs  bool   // a start job never ends
	Active string // ActiveState; empty = inactive
	Sub    string // SubState; empty = dead or running
}

type unit struct {
	Unit
	fileNow string // what UnitFileState becomes with the next Reload
	starts  int    // counts starts and restarts
	reloads int
}

// Systemd is a fake systemd. It lives as long as the test.
type Systemd struct {
	address string
	conn    *dbus.Conn
	daemon  *exec.Cmd

	mu         sync.Mutex
	units      map[string]*unit
	subscribed bool
	jobs       uint32
	timers     []*time.Timer
}

// Start starts a bus and the fake on it.
func Start(t testing.TB) *Systemd {
	t.Helper()
	config := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	dir := t.TempDir()
	file := filepath.Join(dir, "bus.conf")
	writeFile(t, file, fmt.Sprintf(config, filepath.Join(dir, "bus")))
	s := &Systemd{units: make(map[string]*unit), daemon: exec.Command("dbus-daemon", "--nofork", "--print-address", "--config-file="+file)}
	out, err := s.daemon.StdoutPipe()
	if err == nil {
		err = s.daemon.Start()
	}
	if err != nil {
		t.Fatalf("dbus-daemon (make deps installs it): %v", err)
	}
	t.Cleanup(func() { s.StopBus(); _ = s.daemon.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon says no address: %v", err)
	}
	s.address = strings.TrimSpace(line)
	if s.conn, err = dbus.Connect(s.address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close() })
	t.Cleanup(s.stopTimers)
	if err := s.export(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Address is the bus's, for DBUS_SYSTEM_BUS_ADDRESS or DBUS_SESSION_BUS_ADDRESS.
func (s *Systemd) Address() string { return s.address }

// StopBus breaks all connections.
func (s *Systemd) StopBus() { _ = s.daemon.Process.Kill() }

func (s *Systemd) stopTimers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, timer := range s.timers {
		timer.Stop()
	}
}

// Set adds a unit or replaces it.
func (s *Systemd) Set(name string, u Unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.Load == "" {
		u.Load = "loaded"
	}
	if u.File == "" {
		u.File = "disabled"
	}
	n := &unit{Unit: u, fileNow: u.File}
	s.units[name] = n
	if u.Active == "" {
		u.Active = "inactive"
	}
	s.become(name, n, u.Active, u.Sub)
}

// Become changes a unit's ActiveState and SubState, as by itself.
func (s *Systemd) Become(name, active, sub string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.become(name, s.units[name], active, sub)
}

// SetFile changes a unit's UnitFileState as systemctl does.
func (s *Systemd) SetFile(name, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.units[name].fileNow = state
	s.emit(managerPath, managerInterface+".UnitFilesChanged")
	s.reload()
}

// Active is a unit's ActiveState.
func (s *Systemd) Active(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.units[name].Active
}

// Counts says how often a unit was started or restarted, and how often reloaded.
func (s *Systemd) Counts(name string) (starts, reloads int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.units[name].starts, s.units[name].reloads
}

func (s *Systemd) become(name string, u *unit, active, sub string) {
	if sub == "" {
		sub = map[string]string{"active": "running", "inactive": "dead", "failed": "failed"}[active]
	}
	u.Active, u.Sub = active, sub
	s.emit(unitPath(name), properties+".PropertiesChanged", unitInterface,
		map[string]dbus.Variant{"ActiveState": dbus.MakeVariant(active), "SubState": dbus.MakeVariant(sub)}, []string{})
}

func unitPath(name string) dbus.ObjectPath {
	return dbus.ObjectPath(path.Join(managerPath, "unit", systemd.PathBusEscape(name)))
}

// emit broadcasts if anybody has subscribed. A bus that a test has stopped is no error.
func (s *Systemd) emit(from dbus.ObjectPath, signal string, values ...any) {
	if s.subscribed {
		_ = s.conn.Emit(from, signal, values...)
	}
}

// find returns a unit by its name or alias.
func (s *Systemd) find(name string) (string, *unit) {
	if u := s.units[name]; u != nil {
		return name, u
	}
	for id, u := range s.units {
		if u.Alias == name {
			return id, u
		}
	}
	return name, nil
}

func (s *Systemd) reload() {
	s.emit(managerPath, managerInterface+".Reloading", true)
	for _, u := range s.units {
		u.File = u.fileNow
	}
	s.emit(managerPath, managerInterface+".Reloading", false)
}

// job makes a job that is done with the given result; an empty one is never done. JobRemoved also goes to who caused the
// job without having subscribed.
func (s *Systemd) job(name, result string) dbus.ObjectPath {
	s.jobs++
	id := s.jobs
	job := dbus.ObjectPath(managerPath + "/job/" + strconv.Itoa(int(id)))
	if result != "" {
		_ = s.conn.Emit(managerPath, managerInterface+".JobRemoved", id, job, name, result)
	}
	return job
}
