package keys

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"
)

func TestTheTable(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Run("r1"), "/mgmt-remote/r1/"},
		{HostsPrefix("r1"), "/mgmt-remote/r1/hosts/"},
		{Hosts("r1", "a"), "/mgmt-remote/r1/hosts/a/"},
		{State("r1", "a"), "/mgmt-remote/r1/hosts/a/state"},
		{Converged("r1", "a"), "/mgmt-remote/r1/hosts/a/converged"},
		{QuietPrefix("r1"), "/mgmt-remote/r1/quiet/"},
		{Quiet("r1", "a"), "/mgmt-remote/r1/quiet/a"},
		{ExportsPrefix("r1"), "/mgmt-remote/r1/exports/"},
		{Exports("r1", "a"), "/mgmt-remote/r1/exports/a/"},
		{Export("r1", "a", "file", "etc/motd"), "/mgmt-remote/r1/exports/a/file/etc/motd"},
		{KV("r1"), "/mgmt-remote/r1/kv/"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestHostOfQuiet(t *testing.T) {
	for _, c := range []struct {
		key, host string
		ok        bool
	}{
		{Quiet("r1", "web-1.example"), "web-1.example", true},
		{QuietPrefix("r1"), "", false},
		{Quiet("r1", "a") + "/b", "", false},
		{Quiet("r2", "a"), "", false},
		{Quiet("r11", "a"), "", false},
		{KV("r1") + "a", "", false},
		{"", "", false},
	} {
		host, ok := HostOfQuiet("r1", c.key)
		if host != c.host || ok != c.ok {
			t.Errorf("%q: got %q %v, want %q %v", c.key, host, ok, c.host, c.ok)
		}
	}
}

func TestParseExport(t *testing.T) {
	for _, c := range []struct {
		key, host, kind, name string
		ok                    bool
	}{
		{Export("r1", "web-1.example", "file", "motd"), "web-1.example", "file", "motd", true},
		{Export("r1", "a", "file", "/etc//motd/"), "a", "file", "/etc//motd/", true},
		{Export("r1", "a", "file", "../../b/file/x"), "a", "file", "../../b/file/x", true},
		{key: Export("r2", "a", "file", "motd")},
		{key: Export("r11", "a", "file", "motd")},
		{key: Exports("r1", "a")},
		{key: Exports("r1", "a") + "file"},
		{key: Exports("r1", "a") + "file/"},
		{key: Exports("r1", "a") + "/motd"},
		{key: ExportsPrefix("r1") + "/file/motd"},
		{key: Quiet("r1", "a")},
		{key: ""},
	} {
		host, kind, name, ok := ParseExport("r1", c.key)
		if host != c.host || kind != c.kind || name != c.name || ok != c.ok {
			t.Errorf("%q: got %q %q %q %v", c.key, host, kind, name, ok)
		}
	}
}

func TestOneRunIsNeverInsideAnother(t *testing.T) {
	if strings.HasPrefix(KV("abc"), Run("ab")) || strings.HasPrefix(Exports("r", "webserver"), Exports("r", "web")) {
		t.Fatal("a prefix without its final slash covers a stranger's keys")
	}
}

func TestRangeEndIsEtcdsOwn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := string(rapid.SliceOfN(rapid.Byte(), 0, 6).Draw(t, "prefix"))
		if got, want := RangeEnd(prefix), clientv3.GetPrefixRangeEnd(prefix); got != want {
			t.Fatalf("%q: got %q, want %q", prefix, got, want)
		}
	})
}
