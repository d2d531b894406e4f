package svcmgr

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// What an init system says is tested against the real programs in package engine, where the resource is that uses this.

func TestUnitPhases(t *testing.T) {
	for active, want := range map[string]Phase{
		"active": Running, "inactive": Stopped, "failed": Stopped, "activating": OnTheWay, "deactivating": OnTheWay,
		"reloading": OnTheWay, "refreshing": OnTheWay, "maintenance": OnTheWay,
	} {
		if got := (unit{active: active, load: "loaded"}).state(); got.Phase != want || got.Detail != active || got.Obstacle != "" {
			t.Errorf("%s: %+v", active, got)
		}
	}
}

func TestDescribesReload(t *testing.T) {
	for output, want := range map[string]bool{
		" * OpenSSH server\n * checkconfig: Verify\n * reload: Reload it\n": true,
		" * reload: no description":                                         true,
		" * A server that can reload\n * force-reload: x\n":                 false,
		"Usage: /etc/init.d/ssh {start|reload}.\n":                          false,
		"": false,
	} {
		if describesReload(output) != want {
			t.Errorf("%q: want %v", output, want)
		}
	}
}

func TestBootLevels(t *testing.T) {
	output := "              cgroups |                                              sysinit\n                  foo | boot default       mine                          \n" +
		"            savecache |                        off                          \n"
	for name, want := range map[string][]string{"foo": {"boot", "default"}, "cgroups": {"sysinit"}, "savecache": {}, "fo": nil, "": nil} {
		if got := bootLevels(output, name); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestStartsScript(t *testing.T) {
	for link, want := range map[string]bool{"S01x": true, "S99x": true, "K01x": false, "S1x": false, "S01xx": false, "S01": false, "x": false, "S0ax": false} {
		if startsScript(link, "x") != want {
			t.Errorf("%s: want %v", link, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // a script whose name looks like the beginning of another link
		name, other := rapid.StringMatching(`[a-z0-9]{1,4}`).Draw(t, "name"), rapid.StringMatching(`[a-z0-9]{1,4}`).Draw(t, "other")
		if startsScript("S07"+name, other) != (name == other) {
			t.Errorf("S07%s starts %s?", name, other)
		}
	})
}

func FuzzOpenRCOutput(f *testing.F) {
	f.Add("foo | boot default\n", "foo")
	f.Add(" * reload: it", "x")
	f.Fuzz(func(t *testing.T, output, name string) {
		describesReload(output)
		for _, level := range bootLevels(output, name) {
			if level != "sysinit" && level != "boot" && level != "default" {
				t.Errorf("runlevel %q", level)
			}
		}
	})
}
