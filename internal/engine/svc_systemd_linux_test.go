package engine

import (
	"os"
	"strings"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/test/fakesystemd"
	"github.com/mgmt-remote/mgmt-remote/test/freshroot"
)

// fake is systemd without systemd, for what the real one can hardly be brought to do. It must pass the same tests.
type fake struct{ *fakesystemd.Systemd }

// bootedFake is called in a fresh root.
func bootedFake(t *testing.T, bus string) fake {
	t.Helper()
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}
	f := fake{fakesystemd.Start(t)}
	t.Setenv(bus, f.Address())
	return f
}

func (f fake) install(_ *testing.T, name string, kind kindOfService) {
	f.Set(name+".service", fakesystemd.Unit{Fails: kind == failing, Dies: kind == dying, Hangs: kind == hanging})
}

func (f fake) byHand(_ *testing.T, action, name string) {
	switch name += ".service"; action {
	case "start":
		f.Become(name, "active", "")
	case "stop":
		f.Become(name, "inactive", "")
	default:
		f.SetFile(name, action+"d")
	}
}

func (f fake) kill(_ *testing.T, name string)         { f.Become(name+".service", "failed", "") }
func (f fake) running(_ *testing.T, name string) bool { return f.Active(name+".service") == "active" }
func (f fake) counts(_ *testing.T, name string) (starts, reloads int) {
	return f.Counts(name + ".service")
}

func TestSvcFakeSystemd(t *testing.T) {
	freshroot.Run(t, func() { testSvc(t, bootedFake(t, "DBUS_SYSTEM_BUS_ADDRESS")) })
}

func TestSvcFakeSystemdSession(t *testing.T) {
	freshroot.Run(t, func() {
		f := bootedFake(t, "DBUS_SESSION_BUS_ADDRESS")
		f.install(t, "mine", sound)
		applies(t, svc(t, "mine", graph.Svc{State: graph.RunningYes, Session: true}))
		if !f.running(t, "mine") {
			t.Error("not started")
		}
		if change, err := svc(t, "mine", graph.Svc{}).check(t.Context()); err == nil || !strings.Contains(err.Error(), "system bus") {
			t.Errorf("without a system bus: %q, %v", change, err)
		}
	})
}

// TestSvcUnitStates: what systemd says about units, and what that means for the four things one can declare. "" is as
// declared; what begins with ! is an error.
func TestSvcUnitStates(t *testing.T) {
	freshroot.Run(t, func() {
		f := bootedFake(t, "DBUS_SYSTEM_BUS_ADDRESS")
		for _, c := range []struct {
			unit                     fakesystemd.Unit
			run, rest, enable, leave string // leave is disabled
		}{
			{fakesystemd.Unit{File: "enabled"}, "start, it is inactive (dead)", "", "", "disable"},
			{fakesystemd.Unit{File: "enabled-runtime", Active: "active"}, "", "stop", "enable", ""},
			{fakesystemd.Unit{File: "linked", Active: "failed"}, "start, it is failed", "", "enable", ""},
			{fakesystemd.Unit{File: "static"}, "start", "", "!no section [Install]", ""},
			{fakesystemd.Unit{File: "indirect"}, "start", "", "!Also=", ""},
			{fakesystemd.Unit{File: "generated"}, "start", "", "!generated", ""},
			{fakesystemd.Unit{File: "transient"}, "start", "", "!transient", ""},
			{fakesystemd.Unit{File: "alias"}, "start", "", "!alias", ""},
			{fakesystemd.Unit{File: "bad"}, "start", "", `!"bad"`, ""},
			{fakesystemd.Unit{Load: "masked", File: "masked"}, "!unmask", "", "!unmask", ""},
			{fakesystemd.Unit{Load: "masked", File: "masked-runtime", Active: "active"}, "", "stop", "!unmask", ""},
			{fakesystemd.Unit{Load: "bad-setting"}, "!bad unit file setting", "!bad unit", "!bad unit", "!bad unit"},
			{fakesystemd.Unit{Load: "not-found"}, "!no unit u.service", "!no unit", "!no unit", "!no unit"},
		} {
			f.Set("u.service", c.unit)
			for want, spec := range map[*string]graph.Svc{
				&c.run: {State: graph.RunningYes}, &c.rest: {State: graph.RunningNo},
				&c.enable: {Startup: graph.StartupEnabled}, &c.leave: {Startup: graph.StartupDisabled},
			} {
				change, err := svc(t, "u", spec).check(t.Context())
				words, wrong := strings.CutPrefix(*want, "!")
				switch {
				case wrong && (err == nil || !strings.Contains(err.Error(), words)):
					t.Errorf("%+v, %+v: error %v, want one with %q", c.unit, spec, err, words)
				case !wrong && (err != nil || !strings.HasPrefix(change, words) || (words == "") != (change == "")):
					t.Errorf("%+v, %+v: %q, %v, want %q", c.unit, spec, change, err, words)
				}
			}
		}
	})
}

func TestSvcAlias(t *testing.T) {
	freshroot.Run(t, func() {
		f := bootedFake(t, "DBUS_SYSTEM_BUS_ADDRESS")
		f.Set("postgresql.service", fakesystemd.Unit{Alias: "pg.service"})
		s := svc(t, "pg", graph.Svc{State: graph.RunningYes, Startup: graph.StartupEnabled})
		applies(t, s)
		news := watching(t, s)
		f.byHand(t, "stop", "postgresql")
		arrives(t, news)
		wants(t, s, "start")
	})
}

// TestSvcBusBreaks: whoever watches or waits for a job learns that the bus is gone.
func TestSvcBusBreaks(t *testing.T) {
	freshroot.Run(t, func() {
		f := bootedFake(t, "DBUS_SYSTEM_BUS_ADDRESS")
		f.install(t, "h", hanging)
		s := svc(t, "h", graph.Svc{State: graph.RunningYes})
		watched, applied := make(chan error, 1), make(chan error, 1)
		started := make(chan struct{}, 8) // more than it has news
		go func() {
			watched <- s.watch(t.Context(), func() {
				go func() {
					_, err := s.apply(t.Context())
					applied <- err
				}()
			}, func() { started <- struct{}{} })
		}()
		arrives(t, started)
		f.StopBus()
		for what, result := range map[string]chan error{"watch": watched, "apply": applied} {
			if err := <-result; err == nil || !strings.Contains(err.Error(), "broke") {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
