package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/command"
	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/test/freshroot"
)

// rcScript is a script of OpenRC, see openrc-run(8). It looks for its daemon itself: what OpenRC does otherwise needs its
// own start-stop-daemon, and Debian has another one.
const rcScript = `#!/sbin/openrc-run
description="a service of a test"
%[4]s
pid=/run/%[1]s.pid
alive() { [ -s $pid ] && [ -e /proc/$(cat $pid)/exe ]; }
start() { %[2]s; }
stop() { alive && kill $(cat $pid); rm -f $pid; }
reload() { %[3]s; }
status() { service_started || return 3; alive || return 32; }
`

// rc is OpenRC.
type rc struct{ daemons }

// bootedRC is called in a fresh root. OpenRC counts as running where /run/openrc/softlevel is, which it writes at boot.
func bootedRC(t *testing.T) rc {
	t.Helper()
	packages, err := filepath.Glob("/var/cache/mgmt-remote-tests/*.deb")
	if err != nil || len(packages) == 0 {
		t.Fatalf("the packages of OpenRC are not there: %v (make deps downloads them)", err)
	}
	path := "PATH=" + os.Getenv("PATH") + ":" + command.AdminPath
	must(t, append([]string{"env", "DEBIAN_FRONTEND=noninteractive", path, "dpkg", "--install"}, packages...)...)
	if err := os.MkdirAll("/run/openrc", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, "/run/openrc/softlevel", "default\n")
	return rc{}
}

func (rc) install(t *testing.T, name string, kind kindOfService) {
	t.Helper()
	program(t, "/usr/local/bin/test-daemon", daemon)
	begin := fmt.Sprintf(background, name, quietly)
	commands := `extra_started_commands="reload"`
	switch kind {
	case unreloading:
		commands = ""
	case failing:
		begin = "eerror no configuration; return 1"
	case dying:
		begin = fmt.Sprintf(background, name, "dying "+quietly)
	case hanging:
		begin = fmt.Sprintf("echo start >>/run/%s.did; sleep 1000", name)
	}
	program(t, "/etc/init.d/"+name, fmt.Sprintf(rcScript, name, begin, fmt.Sprintf("touch /run/%s.hup; kill -USR1 $(cat $pid)", name), commands))
}

func (rc) byHand(t *testing.T, action, name string) {
	t.Helper()
	switch action {
	case "enable":
		must(t, "rc-update", "add", name, "boot")
	case "disable":
		must(t, "rc-update", "del", name, "boot")
	default:
		must(t, "rc-service", name, action)
	}
}

func TestSvcOpenRC(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		sys := bootedRC(t)
		testSvc(t, sys)
		sys.install(t, "levels", sound) // in two runlevels, and in one that is no boot
		must(t, "rc-update", "add", "levels", "boot", "default", "off")
		applies(t, svc(t, "levels", graph.Svc{Startup: graph.StartupDisabled}))
	})
}
