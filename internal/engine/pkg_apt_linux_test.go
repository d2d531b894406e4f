package engine

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/test/freshroot"
)

// aptRepository makes a repository in /repo the only source of apt, and forgets all package lists. postinst is a script of
// the package tiny, which versions 1.0 and 2.0 of are there.
func aptRepository(t testing.TB, option, postinst string) {
	t.Helper()
	sh(t, `rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
mkdir -p /repo
echo 'deb %s file:/repo ./' >/etc/apt/sources.list`, option)
	for _, version := range []string{"1.0", "2.0"} {
		publish(t, "tiny", version, postinst)
	}
}

// publish adds a package to the repository.
func publish(t testing.TB, name, version, postinst string) {
	t.Helper()
	sh(t, `mkdir -p /tmp/p/DEBIAN /tmp/p/etc
printf 'Package: %[1]s\nVersion: %[2]s\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: tiny\n' >/tmp/p/DEBIAN/control
echo /etc/%[1]s.conf >/tmp/p/DEBIAN/conffiles
echo version %[2]s >/tmp/p/etc/%[1]s.conf
echo '#!/bin/sh
%[3]s' >/tmp/p/DEBIAN/postinst
chmod 755 /tmp/p/DEBIAN/postinst
dpkg-deb --root-owner-group --build /tmp/p /repo/%[1]s_%[2]s_all.deb
rm -rf /tmp/p
cd /repo
dpkg-scanpackages --multiversion . >Packages`, name, version, postinst)
}

func pkgOf(t testing.TB, name string, spec graph.Pkg) *pkgResource {
	t.Helper()
	if spec.State == "" {
		spec.State = graph.PkgInstalled
	}
	r, err := newPkg(name, &spec)
	if err != nil {
		t.Fatal(err)
	}
	return r.(*pkgResource)
}

func TestApt(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		aptRepository(t, "[trusted=yes]", "exit 0")
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: "1.0"}), "install tiny 1.0") // without lists at first
		converge(t, pkgOf(t, "tiny", graph.Pkg{}), "")
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: graph.PkgNewest}), "upgrade tiny from 1.0 to 2.0")
		refuse(t, pkgOf(t, "tiny", graph.Pkg{State: "1.0"}), "version 2.0 is installed, which is higher than 1.0, and allowdowngrade is not set")

		write(t, "/etc/tiny.conf", "changed here\n")
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: "1.0", AllowDowngrade: true}), "downgrade tiny from 2.0 to 1.0")
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: "2.0"}), "upgrade tiny from 1.0 to 2.0")
		if got := read(t, "/etc/tiny.conf"); got != "changed here\n" {
			t.Errorf("an upgrade replaced a configuration file that was changed: %q", got)
		}
		refuse(t, pkgOf(t, "tiny", graph.Pkg{State: "3.0"}), "Version '3.0' for 'tiny' was not found")
		refuse(t, pkgOf(t, "tinny", graph.Pkg{}), "Unable to locate package tinny")

		converge(t, pkgOf(t, "tiny", graph.Pkg{State: graph.PkgUninstalled}), "remove tiny (2.0)")
		converge(t, pkgOf(t, "tinny", graph.Pkg{State: graph.PkgUninstalled}), "")
		converge(t, pkgOf(t, "tiny", graph.Pkg{}), "install tiny")
		sh(t, "dpkg -r tiny") // drift
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: graph.PkgNewest}), "install tiny")
	})
}

// Lists are renewed when they are missing, when they are old and the newest version is wanted, and when an installation
// fails; never by a look.
func TestAptLists(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		aptRepository(t, "[trusted=yes]", "exit 0")
		newest := pkgOf(t, "tiny", graph.Pkg{State: graph.PkgNewest})
		converge(t, newest, "install tiny")

		publish(t, "tiny", "3.0", "exit 0")
		converge(t, newest, "") // the lists are not old
		old := time.Now().Add(-2 * time.Hour)
		age := func() {
			forgetUpdates()
			for _, path := range []string{"/etc/apt/sources.list.d", "/etc/apt/sources.list", "/var/lib/apt/lists/partial"} {
				if err := os.Chtimes(path, old, old); err != nil {
					t.Fatal(err)
				}
			}
		}
		age()
		converge(t, newest, "look whether there is something newer than the package lists know, which are 2h0m0s old")
		if got := sh(t, "dpkg-query -W -f '${Version}' tiny"); got != "3.0" {
			t.Errorf("version %s is installed", got)
		}
		age()
		if out, err := newest.apply(t.Context()); !errors.Is(err, errUnchanged) {
			t.Errorf("nothing was newer, but it says %v\n%s", err, out)
		}
		forgetUpdates()
		says(t, newest, "") // the files tell, too, that the lists are new, though nothing in them is

		publish(t, "late", "1.0", "exit 0")
		refuse(t, pkgOf(t, "late", graph.Pkg{}), "Unable to locate package late")
		age()
		converge(t, pkgOf(t, "late", graph.Pkg{}), "install late")
		publish(t, "later", "1.0", "exit 0")
		write(t, "/etc/apt/sources.list.d/other.list", "# a new source\n")
		if err := os.Chtimes("/etc/apt/sources.list.d", time.Now().Add(time.Second), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		converge(t, pkgOf(t, "later", graph.Pkg{}), "install later")
	})
}

func TestAptUntrusted(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		aptRepository(t, "", "exit 0")
		if out, err := pkgOf(t, "tiny", graph.Pkg{}).apply(t.Context()); err == nil || !strings.Contains(err.Error(), "does not have a Release file") {
			t.Errorf("from an unsigned repository: %v\n%s", err, out)
		}
		converge(t, pkgOf(t, "tiny", graph.Pkg{AllowUntrusted: true}), "install tiny")
	})
}

// While another program holds dpkg's lock we wait, but not longer than the context lasts.
func TestAptLocked(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		aptRepository(t, "[trusted=yes]", "exit 0")
		sh(t, "apt-get update")
		lockFile, err := os.OpenFile("/var/lib/dpkg/lock-frontend", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.FcntlFlock(lockFile.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK}); err != nil {
			t.Fatal(err)
		}
		r := pkgOf(t, "tiny", graph.Pkg{})
		says(t, r, "install tiny") // to look needs no lock
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if out, err := r.apply(ctx); err == nil || ctx.Err() == nil {
			t.Errorf("it did not wait for the lock, or not only until its context ended: %v\n%s", err, out)
		}
		time.AfterFunc(time.Second, func() {
			if err := lockFile.Close(); err != nil { // which ends the lock
				t.Error(err)
			}
		})
		converge(t, r, "install tiny")
	})
}

// What is interrupted in the middle is completed the next time.
func TestAptInterrupted(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		sh(t, "mkfifo /begun")
		aptRepository(t, "[trusted=yes]", "test -e /quick || { echo begun >/begun; sleep 1000; }")
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer cancel()
			untilFIFO(t, "/begun")
		}()
		r := pkgOf(t, "tiny", graph.Pkg{})
		if out, err := r.apply(ctx); err == nil || ctx.Err() == nil {
			t.Fatalf("it was not interrupted: %v\n%s", err, out)
		}
		change, err := r.check(t.Context())
		if err != nil || !strings.HasPrefix(change, "repair tiny (half-") && !strings.HasPrefix(change, "repair tiny (unpacked") {
			t.Errorf("afterwards there is to do %q, %v", change, err)
		}
		write(t, "/quick", "")
		converge(t, r, change)
	})
}

// untilFIFO waits until somebody writes to a FIFO.
func untilFIFO(t testing.TB, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if err := f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Error(err)
	}
	if _, err := f.Read(make([]byte, 100)); err != nil {
		t.Errorf("waited for %s: %v", path, err)
	}
}
