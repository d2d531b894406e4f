package engine

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
)

func TestParseDpkg(t *testing.T) {
	for answer, want := range map[string]pkgState{
		"":                               {},
		"installed 1:2.3-4+b1\n":         {versions: []string{"1:2.3-4+b1"}},
		"installed 1.0\ninstalled 1.0\n": {versions: []string{"1.0", "1.0"}}, // two architectures
		"not-installed \n":               {},
		"config-files 1.0\n":             {},
		"triggers-pending 1.0\n":         {versions: []string{"1.0"}},
		"half-configured 1.0\n":          {broken: "half-configured"},
		"installed 1.0\nunpacked 1.0\nnot-installed \n\n\n": {versions: []string{"1.0"}, broken: "unpacked"},
	} {
		if got := parseDpkg(answer); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", answer, got, want)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	for answer, want := range map[string]string{
		"": "",
		"curl:\n  Installed: 7.88.1-10\n  Candidate: 7.88.1-10+deb12u1\n  Version table:\n     7.88.1-10+deb12u1 500\n        500 http://deb.debian.org/debian bookworm/main amd64 Packages\n": "7.88.1-10+deb12u1",
		"gone:\n  Installed: 1.0\n  Candidate: (none)\n  Version table:\n": "",
		"half:\n  Candidate:": "",
	} {
		if got := parsePolicy(answer); got != want {
			t.Errorf("%q: %q, want %q", answer, got, want)
		}
	}
}

func TestParseUpdates(t *testing.T) {
	const answer = `
tiny.noarch                        2.0-1                        tiny
tiny-doc.noarch                    9.0-1                        tiny
a-package-with-a-rather-long-name.x86_64
                                   1:3.0-1.el7                  updates
dotted.name.x86_64                 5.0-1                        tiny
Obsoleting Packages
old.noarch                         4.0-1                        tiny
    older.noarch                   1.0-1                        @System
`
	for name, want := range map[string]string{
		"tiny": "2.0-1", "a-package-with-a-rather-long-name": "1:3.0-1.el7", "dotted.name": "5.0-1", "old": "", "dotted": "", "tin": "",
	} {
		if got := parseUpdates(answer, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestRPMMatches(t *testing.T) {
	for _, c := range []struct {
		installed, declared string
		want                bool
	}{
		{"1.0-1", "1.0-1", true},
		{"1.0-1", "1.0", true},
		{"1.0-1", "0:1.0", true},
		{"2:1.0-1", "1.0-1", false},
		{"2:1.0-1", "2:1.0", true},
		{"1.0-1", "1.0-11", false},
		{"1.0-1", "1", false},
	} {
		if got := (rpmManager{}).matches(c.installed, c.declared); got != c.want {
			t.Errorf("%s is %s: %v", c.installed, c.declared, got)
		}
	}
}

func TestParseApk(t *testing.T) {
	for answer, want := range map[string]pkgState{
		"":                     {},
		"curl-8.5.0-r0\n":      {versions: []string{"8.5.0-r0"}},
		"curl-doc-8.5.0-r0\n":  {},
		"quictls-curl-3-r0\n":  {},
		"x-1-r0\ncurl-1_rc1\n": {versions: []string{"1_rc1"}},
	} {
		if got := parseApkInfo(answer, "curl"); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", answer, got, want)
		}
	}
	const table = "Installed:                                Available:\ncurl-8.5.0-r0                           < 8.9.1-r1 \ncurl-doc-8.5.0-r0                       < 9\n"
	if got := parseApkVersion(table, "curl", pkgState{versions: []string{"8.5.0-r0"}}); got != "8.9.1-r1" {
		t.Errorf("newer is %q", got)
	}
	if got := parseApkVersion(table, "cur", pkgState{versions: []string{"8.5.0-r0"}}); got != "" {
		t.Errorf("newer than nothing is %q", got)
	}
}

// What is parsed is part of the answer, and never empty where it counts as something.
func FuzzPackages(f *testing.F) {
	f.Add("installed 1.0\nunpacked 2\n", "tiny")
	f.Add("tiny:\n  Candidate: 1.0\n", "tiny")
	f.Add("tiny.noarch 2.0 repo\n", "tiny")
	f.Add("tiny-1.0-r0 < 1.1-r0\n", "tiny")
	f.Fuzz(func(t *testing.T, answer, name string) {
		apk := parseApkInfo(answer, name)
		found := []string{parsePolicy(answer), parseUpdates(answer, name), parseApkVersion(answer, name, apk)}
		for _, version := range append(found, apk.versions...) {
			if !strings.Contains(answer, version) || strings.TrimSpace(version) != version {
				t.Errorf("version %q", version)
			}
		}
		for _, version := range parseDpkg(answer).versions {
			if !strings.Contains(answer, version) {
				t.Errorf("version %q", version)
			}
		}
	})
}

func TestLocked(t *testing.T) {
	for _, c := range []struct {
		locked func(string) bool
		output string
		want   bool
	}{
		{aptLocked, "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt-get)\nE: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?\n", true},
		{aptLocked, "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)\nE: Unable to lock directory /var/lib/apt/lists/\n", true},
		{aptLocked, "dpkg: error: dpkg frontend lock was locked by another process with pid 7\n", true},
		{aptLocked, "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)\nE: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), are you root?\n", false},
		{aptLocked, "E: Unable to locate package lock\n", false},
		{rpmLocked, "RPMDB already locked by 102\n  The application with PID 102 is: dnf\n", true},
		{rpmLocked, "error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Resource temporarily unavailable)\n", true},
		{rpmLocked, "error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Permission denied)\n", false},
		{rpmLocked, "Existing lock /var/run/yum.pid: another copy is running as pid 7.\n", true},
		{rpmLocked, "Error: Unable to find a match: tinny\n", false},
		{apkLocked, "ERROR: Unable to lock database: Resource temporarily unavailable\nERROR: Failed to open apk database: Resource temporarily unavailable\n", true},
		{apkLocked, "ERROR: Unable to lock database: Permission denied\nERROR: Failed to open apk database: Permission denied\n", false},
	} {
		if c.locked(c.output) != c.want {
			t.Errorf("%q: want %v", c.output, c.want)
		}
	}
}

func TestRefusedPackages(t *testing.T) {
	for _, name := range []string{"", "-y", "a-", "a*", "a b", "a=1", "a/stable", "@group", "./a.deb", "a:", "a;b", "--", "a\n"} {
		if _, err := newPkg(name, &graph.Pkg{State: graph.PkgInstalled}); err == nil {
			t.Errorf("name %q", name)
		}
	}
	for _, name := range []string{"g++", "libc6:i386", "python3.11", "lib_x", "NetworkManager", "a"} {
		if _, err := newPkg(name, &graph.Pkg{State: graph.PkgInstalled}); err != nil {
			t.Error(err)
		}
	}
	for _, version := range []string{"", "-1", "1 2", "1*", `1"`, "%{x}", "1)"} {
		if _, err := newPkg("a", &graph.Pkg{State: version}); err == nil {
			t.Errorf("version %q", version)
		}
	}
}

func TestNoPackageManager(t *testing.T) {
	r := &pkgResource{name: "a", spec: &graph.Pkg{State: graph.PkgInstalled}}
	_, checkErr := r.check(t.Context())
	_, applyErr := r.apply(t.Context())
	if checkErr == nil || applyErr == nil || len(r.paths()) != 0 {
		t.Errorf("%v, %v, paths %v", checkErr, applyErr, r.paths())
	}
}

// forgetUpdates makes this process forget that it brought the lists up to date, as if it had just started.
func forgetUpdates() {
	updates.Lock()
	updates.last = time.Time{}
	updates.Unlock()
}

// standInApk is apk, as far as it is used here, after its manual pages and what people quote in reports: Debian has no apk to
// test with. It has the packages tiny 1.0-r0 and, after an update, tiny 2.0-r0.
const standInApk = `#!/bin/sh
while :; do case $1 in --no-progress) shift ;; *) break ;; esac; done
have=$(cat "$APK/have" 2>/dev/null)
newest=1.0-r0; [ ! -e "$APK/updated" ] || newest=2.0-r0
if [ -e "$APK/locked" ]; then
	rm "$APK/locked"
	echo "ERROR: Unable to lock database: Resource temporarily unavailable" >&2
	exit 99
fi
case "$*" in
"info -e -v tiny") [ -n "$have" ] && echo "tiny-$have" ;;
"info -e -v "*) exit 1 ;;
"version -l < tiny")
	echo "Installed:                                Available:"
	[ "$have" = "$newest" ] || echo "tiny-$have                           < $newest " ;;
"version -t 2.0-r0 1.0-r0") echo ">" ;;
"version -t 1.0-r0 2.0-r0") echo "<" ;;
update) touch "$APK/updated" ;;
"add -u tiny") echo "$newest" >"$APK/have" ;;
"add -u tiny=1.0-r0" | "add -u tiny=2.0-r0") echo "${3#tiny=}" >"$APK/have" ;;
"add -u "*) printf 'ERROR: unable to select packages:\n  %s (no such package):\n    required by: world[%s]\n' "$3" "$3" >&2; exit 1 ;;
"del tiny") [ -e "$APK/needed" ] || rm "$APK/have" ;;
*) echo "apk: unexpected: $*" >&2; exit 1 ;;
esac
`

func TestApkStandIn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(in(dir, "apk"), []byte(standInApk), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("APK", dir)
	forgetUpdates()
	do := func(name string, spec graph.Pkg, words string) {
		t.Helper()
		r := &pkgResource{name: name, spec: &spec, manager: apkManager{}}
		says(t, r, words)
		if out, err := r.apply(t.Context()); err != nil && !errors.Is(err, errUnchanged) {
			t.Errorf("%s: %v\n%s", words, err, out)
		}
		says(t, r, "")
	}
	fail := func(name string, spec graph.Pkg, words string) {
		t.Helper()
		r := &pkgResource{name: name, spec: &spec, manager: apkManager{}}
		if out, err := r.apply(t.Context()); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("error %v, want %q\n%s", err, words, out)
		}
	}
	do("tiny", graph.Pkg{State: graph.PkgInstalled}, "install tiny")
	do("tiny", graph.Pkg{State: graph.PkgNewest}, "look whether there is something newer than the package lists know, which are missing")
	if got := read(t, in(dir, "have")); got != "2.0-r0\n" {
		t.Errorf("after an update there is %q", got)
	}
	fail("tiny", graph.Pkg{State: "1.0-r0"}, "allowdowngrade is not set")
	write(t, in(dir, "locked"), "") // once
	r := &pkgResource{name: "tiny", spec: &graph.Pkg{State: graph.PkgUninstalled}, manager: apkManager{}}
	if out, err := r.manager.update(t.Context(), r.spec); err != nil {
		t.Errorf("it did not wait for the lock: %v\n%s", err, out)
	}
	do("tiny", graph.Pkg{State: "1.0-r0", AllowDowngrade: true}, "downgrade tiny from 2.0-r0 to 1.0-r0")
	do("tiny", graph.Pkg{State: "2.0-r0"}, "upgrade tiny from 1.0-r0 to 2.0-r0")
	fail("tinny", graph.Pkg{State: graph.PkgInstalled}, "required by: world[tinny]")
	write(t, in(dir, "needed"), "")
	fail("tiny", graph.Pkg{State: graph.PkgUninstalled}, "still to do: remove tiny (2.0-r0)") // apk keeps what others need
	if err := os.Remove(in(dir, "needed")); err != nil {
		t.Fatal(err)
	}
	do("tiny", graph.Pkg{State: graph.PkgUninstalled}, "remove tiny (2.0-r0)")
}
