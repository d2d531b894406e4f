package probe

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/test/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

const golden = "Last login: today\r\nno newline" + `
mrtest123 BEGIN
os=Linux
kernel=6.1.0-18-amd64
arch=x86_64
boot_id=4d6f1b0c-0000-4000-8000-000000000000
uid=1000
user=alice
home=/home/alice
shell=/usr/bin/fish
gzip=true
sha256=sha256sum
session=live /var/tmp/mgmt-remote-1000 /var/tmp/mgmt-remote-1000/abc123/web1
rejected=/var/tmp	can not execute files (is it mounted noexec?)
base=/home/alice/.cache/mgmt-remote-1000
base_exists=true
cached=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/mgmt-remote-shim
free_kib=1024
later=something this version does not know
mrtest123 END
logout
`

func goldenFacts() Facts {
	return Facts{
		OS: "linux", Arch: "amd64", Kernel: "6.1.0-18-amd64", BootID: "4d6f1b0c-0000-4000-8000-000000000000",
		User: "alice", UID: 1000, Home: "/home/alice", Shell: "/usr/bin/fish",
		Base: "/home/alice/.cache/mgmt-remote-1000", BaseExists: true,
		Rejected:  []Rejected{{Dir: "/var/tmp", Reason: "can not execute files (is it mounted noexec?)"}},
		FreeBytes: 1 << 20,
		Cached:    []string{strings.Repeat("a", 64) + "/mgmt-remote-shim"},
		Sessions:  []Session{{Base: "/var/tmp/mgmt-remote-1000", Dir: "/var/tmp/mgmt-remote-1000/abc123/web1", State: SessionLive}},
		Tools:     Tools{Gzip: true, SHA256: "sha256sum"},
	}
}

func TestParseGolden(t *testing.T) {
	for name, text := range map[string]string{"plain": golden, "through a terminal": strings.ReplaceAll(golden, "\n", "\r\n")} {
		got, err := Parse("mrtest123", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if want := goldenFacts(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ change, to, want string }{
		"another marker":    {"mrtest123", "mrother", "instead of an answer"},
		"no end":            {"mrtest123 END", "", "breaks off"},
		"end in a value":    {"\nmrtest123 END", " mrtest123 END", "breaks off"},
		"no uid":            {"uid=1000\n", "", "user ID"},
		"negative uid":      {"uid=1000", "uid=-1", "uid"},
		"huge uid":          {"uid=1000", "uid=99999999999999999999", "uid"},
		"no system":         {"os=Linux\n", "", "uname"},
		"a line of noise":   {"os=Linux", "sh: 1: foo not found\nos=Linux", "foo not found"},
		"unsafe base":       {"base=/home/alice/.cache", "base=/home/$(id)", "base"},
		"base climbs":       {"base=/home/alice/.cache", "base=/home/../etc", "base"},
		"cache climbs":      {"aaa/mgmt", "aaa/../mgmt", "cached"},
		"session elsewhere": {" /var/tmp/mgmt-remote-1000/abc", " /etc/abc", "session"},
		"session state":     {"session=live", "session=happy", "happy"},
		"session words":     {"session=live ", "session=live x ", "session"},
		"free overflows":    {"free_kib=1024", "free_kib=9223372036854775807", "free_kib"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(golden, tc.change, tc.to, 1)
			if tc.change == "mrtest123" {
				text = strings.ReplaceAll(golden, tc.change, tc.to)
			}
			if text == golden {
				t.Fatal("the case changes nothing")
			}
			_, err := Parse("mrtest123", []byte(text))
			if fault.KindOf(err) != fault.Environment || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v", err)
			}
		})
	}
}

func TestFormatIsTheInverseOfParse(t *testing.T) {
	path := rapid.StringMatching(`/[a-z0-9._+,@%=-]{1,10}x`)
	text := rapid.StringMatching(`[ -~]{0,30}`)
	rapid.Check(t, func(t *rapid.T) {
		f := Facts{
			OS: "linux", Arch: rapid.SampledFrom([]string{"amd64", "arm64", "riscv64"}).Draw(t, "arch"),
			Kernel: text.Draw(t, "kernel"), BootID: text.Draw(t, "boot"), User: text.Draw(t, "user"),
			Home: text.Draw(t, "home"), Shell: text.Draw(t, "shell"), UID: rapid.IntRange(0, 1<<31-2).Draw(t, "uid"),
			FreeBytes: rapid.Int64Range(0, 1<<40).Draw(t, "free") << 10,
			Tools:     Tools{Gzip: rapid.Bool().Draw(t, "gzip"), SHA256: rapid.SampledFrom([]string{"", "shasum"}).Draw(t, "sha")},
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "n") {
			base := path.Draw(t, "base")
			f.Sessions = append(f.Sessions, Session{Base: base, Dir: base + path.Draw(t, "dir"), State: SessionState(i + 1)})
			f.Rejected = append(f.Rejected, Rejected{Dir: path.Draw(t, "rejected"), Reason: text.Draw(t, "reason")})
			f.Cached = append(f.Cached, strings.Repeat("0f", 32)+"/"+rapid.StringMatching(`[A-Za-z][A-Za-z0-9._+-]{0,9}`).Draw(t, "cached"))
		}
		if rapid.Bool().Draw(t, "usable") {
			f.Base, f.BaseExists = path.Draw(t, "base"), rapid.Bool().Draw(t, "exists")
		}
		got, err := Parse("mrabcdefgh", Format("mrabcdefgh", f))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, f) {
			t.Fatalf("\ngot  %+v\nwant %+v", got, f)
		}
	})
}

func TestMarkerOf(t *testing.T) {
	marker := newMarker()
	got, err := MarkerOf(script(marker, Request{Prefix: "/a", Run: "abc123", Host: "web1"}))
	if err != nil || got != marker {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := MarkerOf([]byte("echo hi")); err == nil {
		t.Fatal("found a marker in nothing")
	}
}

// TestSocketPathsFit holds the limit of sun_path for every name there can be.
func TestSocketPathsFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		run := rapid.StringMatching(`[a-z0-9]{1,32}`).Draw(t, "run")
		host := rapid.StringMatching(`[A-Za-z0-9_][A-Za-z0-9._-]{0,62}`).Draw(t, "host")
		base := "/" + strings.Repeat("b", rapid.IntRange(0, 100).Draw(t, "base"))
		if err := ValidSession(run, host); err != nil {
			t.Fatal(err)
		}
		if len(base) > maxBase(run, host) {
			return // the probe rejects such a directory
		}
		dir := SessionDir(base, run, host)
		if n := len(dir + longestSocket); n > 103 {
			t.Fatalf("%d bytes: %s", n, dir)
		}
		if !strings.HasPrefix(dir, base+"/"+run+"/") || strings.Count(dir, "/") != 3 {
			t.Fatal(dir)
		}
	})
	if a, b := shortHost(strings.Repeat("h", 62)+"a"), shortHost(strings.Repeat("h", 62)+"b"); a == b || ValidSession("a", a) == nil {
		t.Fatalf("%s and %s must differ, and be no host names themselves", a, b)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(golden))
	f.Add(Format("mrtest123", goldenFacts()))
	f.Fuzz(func(t *testing.T, data []byte) {
		facts, err := Parse("mrtest123", data)
		if err != nil {
			if fault.KindOf(err) != fault.Environment {
				t.Fatalf("%v", err)
			}
			return
		}
		if facts.Base != "" && ValidPath(facts.Base) != nil {
			t.Fatalf("unsafe base %q", facts.Base)
		}
		for _, s := range facts.Sessions {
			if ValidPath(s.Dir) != nil || !strings.HasPrefix(s.Dir, s.Base) {
				t.Fatalf("unsafe session %+v", s)
			}
		}
	})
}
