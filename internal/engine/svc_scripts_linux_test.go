package engine

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/test/freshroot"
)

// daemon is what the services of the tests run. It writes its PID, and a line for each start and each reload.
// Not with SIGHUP: where the tests are started with nohup it is ignored, and a shell can trap nothing that was ignored when it began.
const daemon = `#!/bin/sh
trap 'echo reload >>/run/$1.did' USR1
echo start >>/run/$1.did
echo $$ >/run/$1.pid
[ "$2" = dying ] && { sleep 0.5; exit 1; }
while :; do
	sleep 1000 &
	wait $!
	kill $!
done
`

// initScript makes a script as the Linux Standard Base describes them. %[1]s is the name, %[2]s is what start does and
// %[3]s what force-reload does.
const initScript = `#!/bin/sh
### BEGIN INIT INFO
# Provides:          %[1]s
# Required-Start:
# Required-Stop:
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: a service of a test
### END INIT INFO
pid=/run/%[1]s.pid
alive() { [ -s $pid ] && [ -e /proc/$(cat $pid)/exe ]; } # a zombie has no exe
case $1 in
start) alive && exit 0; %[2]s ;;
stop) alive && kill $(cat $pid); rm -f $pid ;;
force-reload) %[3]s ;;
restart) $0 stop; $0 start ;;
status) alive && exit 0; [ -e $pid ] && exit 1; exit 3 ;;
*) echo "Usage: $0 start|stop|restart|force-reload|status" >&2; exit 2 ;;
esac
`

// background starts the daemon and waits until it has begun, which one that dies may not be seen alive after; %[2]s is
// how it goes on.
const background = "rm -f $pid; setsid /usr/local/bin/test-daemon %[1]s %[2]s & until [ -s $pid ]; do sleep 0.01; done"

// quietly takes from the daemon what belongs to its init script. Careless scripts do not.
const quietly = "</dev/null >/dev/null 2>&1"

// daemons is the part of an init system that is about the daemons.
type daemons struct{}

func (daemons) pid(t *testing.T, name string) int {
	t.Helper()
	text := strings.TrimSpace(read(t, "/run/"+name+".pid"))
	if text == "-" || text == "" {
		return 0
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func (d daemons) running(t *testing.T, name string) bool {
	pid := d.pid(t, name)
	return pid != 0 && !gone(pid)
}

func (d daemons) kill(t *testing.T, name string) {
	pid := d.pid(t, name)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventuallyGone(t, pid)
}

// counts waits for a reload that was asked for: the daemon does it when it gets to it.
func (daemons) counts(t *testing.T, name string) (starts, reloads int) {
	t.Helper()
	eventually(t, "a reload of the daemon", func() bool {
		return read(t, "/run/"+name+".hup") == "-" || strings.Contains(read(t, "/run/"+name+".did"), "reload")
	})
	did := read(t, "/run/"+name+".did")
	return strings.Count(did, "start"), strings.Count(did, "reload")
}

// must runs a command. Its output is a file, not a pipe: daemons keep it open.
func must(t *testing.T, argv ...string) {
	t.Helper()
	out, err := os.Create(in(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, read(t, out.Name()))
	}
}

func program(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// scripts is the command service with init scripts.
type scripts struct{ daemons }

func (scripts) install(t *testing.T, name string, kind kindOfService) {
	t.Helper()
	program(t, "/usr/local/bin/test-daemon", daemon)
	begin := fmt.Sprintf(background, name, quietly)
	reload := fmt.Sprintf("touch /run/%s.hup; kill -USR1 $(cat $pid)", name)
	switch kind {
	case unreloading: // and careless
		begin, reload = fmt.Sprintf(background, name, ""), "exit 3"
	case failing:
		begin = "echo no configuration >&2; exit 6"
	case dying:
		begin = fmt.Sprintf(background, name, "dying "+quietly)
	case hanging:
		begin = fmt.Sprintf("echo start >>/run/%s.did; sleep 1000", name)
	}
	program(t, "/etc/init.d/"+name, fmt.Sprintf(initScript, name, begin, reload))
}

func (scripts) byHand(t *testing.T, action, name string) {
	t.Helper()
	if action == "start" || action == "stop" {
		must(t, "service", name, action)
		return
	}
	must(t, "update-rc.d", name, action)
}

func TestSvcInitScripts(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		testSvc(t, scripts{})
		if change, err := svc(t, "mr-plain", graph.Svc{Session: true}).check(t.Context()); err == nil || !strings.Contains(err.Error(), "systemd") {
			t.Errorf("a session service: %q, %v", change, err)
		}
	})
}

// TestSvcChkconfig: the real chkconfig(8) is in no Debian any more; this one makes its links.
func TestSvcChkconfig(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		scripts{}.install(t, "c", sound)
		must(t, "rm", "/usr/sbin/update-rc.d")
		program(t, "/usr/local/sbin/chkconfig", `#!/bin/sh
mkdir -p /etc/rc.d/rc3.d && cd /etc/rc.d/rc3.d || exit
case "$*" in
"--add c") [ -e S50c ] || ln -s ../../init.d/c K50c ;;
"c on") mv K50c S50c ;;
"c off") mv S50c K50c ;;
*) exit 1 ;;
esac
`)
		on, off := svc(t, "c", graph.Svc{Startup: graph.StartupEnabled}), svc(t, "c", graph.Svc{Startup: graph.StartupDisabled})
		applies(t, on)
		wants(t, off, "disable")
		applies(t, off)
		wants(t, on, "enable")
	})
}

// TestSvcUnknownStatus: a script that can't say whether its service runs.
func TestSvcUnknownStatus(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		program(t, "/etc/init.d/mute", "#!/bin/sh\necho who knows; exit 4\n")
		if change, err := svc(t, "mute", graph.Svc{State: graph.RunningYes}).check(t.Context()); err == nil || !strings.Contains(err.Error(), "who knows") {
			t.Errorf("%q, %v", change, err)
		}
	})
}
