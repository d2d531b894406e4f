package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/test/freshroot"
)

// rpmRepository makes a fresh root look like a machine with dnf: no apt, the database where distributions have it, and one
// repository in /repo with versions 1.0-1 and 2.0-1 of the package tiny.
func rpmRepository(t testing.TB, check string) {
	t.Helper()
	sh(t, `rm "$(command -v apt-get)"
mkdir -p /etc/rpm /etc/yum.repos.d /var/lib/rpm /repo
echo '%%_dbpath /var/lib/rpm' >/etc/rpm/macros.dbpath
echo 39 >/etc/dnf/vars/releasever
printf '[tiny]\nname=tiny\nbaseurl=file:///repo\ngpgcheck=%s\n' >/etc/yum.repos.d/tiny.repo
rpm --initdb`, check)
	publishRPM(t, "tiny", "1.0", "")
	publishRPM(t, "tiny", "2.0", "")
}

// publishRPM adds a package to the repository. script runs when it is installed.
func publishRPM(t testing.TB, name, version, script string) {
	t.Helper()
	rest := "%description\ntiny\n%files\n"
	if script != "" { // rpm then wants a shell
		rest = "Provides: /bin/sh\n%description\ntiny\n%post\n" + script + "\n%files\n"
	}
	write(t, "/tmp/tiny.spec", fmt.Sprintf("Name: %s\nVersion: %s\nRelease: 1\nSummary: tiny\nLicense: MIT\nBuildArch: noarch\n%s", name, version, rest))
	sh(t, `
rpmbuild -bb --define '_topdir /tmp/rpmbuild' --define '_rpmdir /repo' /tmp/tiny.spec
createrepo_c -q /repo`)
}

func TestDnf(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		rpmRepository(t, "0")
		if m := pkgOf(t, "tiny", graph.Pkg{}).manager; m != (rpmManager{tool: "dnf"}) {
			t.Fatalf("the package manager is %#v", m)
		}
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: "1.0-1"}), "install tiny 1.0-1")
		converge(t, pkgOf(t, "tiny", graph.Pkg{}), "")
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: "1.0"}), "")
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: "0:1.0-1"}), "")
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: graph.PkgNewest}), "upgrade tiny from 1.0-1 to 2.0-1")
		refuse(t, pkgOf(t, "tiny", graph.Pkg{State: "1.0"}), "version 2.0-1 is installed, which is higher than 1.0, and allowdowngrade is not set")
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: "1.0", AllowDowngrade: true}), "downgrade tiny from 2.0-1 to 1.0")
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: "0:2.0-1"}), "upgrade tiny from 1.0-1 to 0:2.0-1")
		refuse(t, pkgOf(t, "tiny", graph.Pkg{State: "3.0"}), "tiny-3.0")
		refuse(t, pkgOf(t, "tinny", graph.Pkg{}), "tinny")
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: graph.PkgUninstalled}), "remove tiny (2.0-1)")
		converge(t, pkgOf(t, "tinny", graph.Pkg{State: graph.PkgUninstalled}), "")
		converge(t, pkgOf(t, "tiny", graph.Pkg{}), "install tiny")
		sh(t, "rpm -e tiny") // drift
		converge(t, pkgOf(t, "tiny", graph.Pkg{State: graph.PkgNewest}), "install tiny")

		publishRPM(t, "tiny", "3.0", "")
		newest := pkgOf(t, "tiny", graph.Pkg{State: graph.PkgNewest})
		converge(t, newest, "") // the lists are not old
		ageRPMLists(t)
		converge(t, newest, "look whether there is something newer than the package lists know, which are 2h0m0s old")
		if got := sh(t, "rpm -q tiny"); got != "tiny-3.0-1.noarch\n" {
			t.Errorf("installed is %s", got)
		}
		ageRPMLists(t)
		if out, err := newest.apply(t.Context()); !errors.Is(err, errUnchanged) {
			t.Errorf("nothing was newer, but it says %v\n%s", err, out)
		}
		forgetUpdates()
		says(t, newest, "") // the files tell, too, that the lists are new, though nothing in them is
	})
}

// ageRPMLists makes the package lists two hours old.
func ageRPMLists(t testing.TB) {
	t.Helper()
	forgetUpdates()
	sh(t, "touch -d '2 hours ago' /etc/yum.repos.d/* /etc/yum.repos.d /var/cache/dnf/*/repodata/*primary*")
}

func TestDnfUntrusted(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		rpmRepository(t, "1")
		if out, err := pkgOf(t, "tiny", graph.Pkg{}).apply(t.Context()); err == nil || !strings.Contains(out+err.Error(), "GPG keys") {
			t.Errorf("an unsigned package: %v\n%s", err, out)
		}
		converge(t, pkgOf(t, "tiny", graph.Pkg{AllowUntrusted: true}), "install tiny")
	})
}

// While another dnf is at work we wait, but not longer than the context lasts.
func TestDnfLocked(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		rpmRepository(t, "0")
		sh(t, "mkfifo /begun /go")
		publishRPM(t, "slow", "1.0", "echo begun >/begun; cat /go")
		other := exec.Command("dnf", "-y", "install", "slow")
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		untilFIFO(t, "/begun")
		r := pkgOf(t, "tiny", graph.Pkg{})
		says(t, r, "install tiny") // to look needs no lock
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if out, err := r.apply(ctx); err == nil || ctx.Err() == nil {
			t.Errorf("it did not wait for the lock, or not only until its context ended: %v\n%s", err, out)
		}
		time.AfterFunc(time.Second, func() {
			if err := os.WriteFile("/go", nil, 0o600); err != nil {
				t.Error(err)
			}
		})
		converge(t, r, "install tiny")
		if err := other.Wait(); err != nil {
			t.Errorf("the other dnf: %v", err)
		}
	})
}

// The file that is watched changes with the packages, and not because somebody asks for them: else each look would be a
// reason for the next one.
func TestRPMDatabase(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		rpmRepository(t, "0")
		r := pkgOf(t, "tiny", graph.Pkg{State: graph.PkgNewest})
		converge(t, r, "install tiny")
		w, err := newFileWatcher()
		if err != nil {
			t.Fatal(err)
		}
		database, after := &vertex{id: graph.ID{Name: "database"}}, &vertex{id: graph.ID{Name: "after"}}
		w.follow(database, r.paths())
		w.follow(after, []string{"/after"})
		ctx, cancel := context.WithCancel(t.Context())
		seen, done := make(chan []*vertex, 100), make(chan struct{})
		go func() {
			defer close(done)
			w.run(ctx, func(list []*vertex) { seen <- list })
		}()
		next := func() []*vertex {
			select {
			case list := <-seen:
				return list
			case <-time.After(patience):
				return nil
			}
		}
		for range 3 {
			says(t, r, "")
		}
		write(t, "/after", "") // what the questions did comes before this
		if list := next(); !slices.Equal(list, []*vertex{after}) {
			t.Errorf("after questions, there are %d events, not about the file alone", len(list))
		}
		sh(t, "rpm -e tiny")
		for list := next(); !slices.Contains(list, database); list = next() {
			if list == nil {
				t.Error("a removal is not noticed")
				break
			}
		}
		cancel()
		<-done
	})
}
