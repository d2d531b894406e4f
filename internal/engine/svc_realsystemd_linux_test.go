package engine

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/internal/graph"
	"github.com/mgmt-remote/mgmt-remote/test/freshroot"
)

// bootScript boots systemd as the first process of new namespaces that share the fresh root. It gets a cgroup and
// devices of its own, and of the units that a machine boots just the bus.
const bootScript = `set -eu
mkdir -p /run/cgroup
mount -t cgroup2 cgroup2 /run/cgroup
mkdir /run/cgroup/$1
echo $$ >/run/cgroup/$1/cgroup.procs
exec unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup sh -euc '
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/shm /mnt/pts
mknod -m 666 /mnt/null c 1 3
mknod -m 666 /mnt/zero c 1 5
mknod -m 666 /mnt/random c 1 8
mknod -m 666 /mnt/urandom c 1 9
mount --move /mnt /dev
mount -t tmpfs tmpfs /sys
mkdir -p /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no'
`

// bootUnits are those of the boot. They have none of the default dependencies, which would be half a machine.
var bootUnits = map[string]string{
	"test.target": "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\nWants=dbus.service\n",
	"dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
	"dbus.service": `[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
`,
}

const serviceUnit = `[Unit]
Description=a service of a test
DefaultDependencies=no
StartLimitIntervalSec=0
[Service]
%s
[Install]
WantedBy=multi-user.target
`

// realSystemd is systemd itself.
type realSystemd struct {
	pid int // as this process sees it
}

// systemctl is run in systemd's namespaces: it does not use the bus, and systemd soon refuses it from outside.
func (s realSystemd) systemctl(args ...string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(s.pid), "--mount", "--pid", "--cgroup", "systemctl"}, args...)
}

// up reports whether systemd has booted. unshare is its parent.
func (s *realSystemd) up(unshare int) bool {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", unshare))
	if err != nil {
		return false
	}
	if s.pid, err = strconv.Atoi(strings.TrimSpace(string(children))); err != nil {
		return false
	}
	argv := s.systemctl("is-active", "--quiet", "test.target")
	return exec.Command(argv[0], argv[1:]...).Run() == nil
}

// bootSystemd is called in a fresh root. Everything ends with the test.
func bootSystemd(t *testing.T) realSystemd {
	t.Helper()
	for name, text := range bootUnits {
		write(t, "/etc/systemd/system/"+name, text)
	}
	log, err := os.Create(in(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cgroup := fmt.Sprintf("mgmt-remote-test-%d", time.Now().UnixNano())
	cmd := exec.Command("sh", "-c", bootScript, "sh", cgroup)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			t.Logf("systemd says:\n%s", read(t, log.Name()))
		}
		must(t, "sh", "-c", "cd /run/cgroup; until [ ! -e "+cgroup+" ]; do find "+cgroup+" -depth -type d -exec rmdir {} + 2>/dev/null; done")
	})
	tick, deadline := time.NewTicker(50*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for {
		if sys := new(realSystemd); sys.up(cmd.Process.Pid) {
			return *sys
		}
		select {
		case <-tick.C:
		case exit := <-ended:
			t.Fatalf("systemd ended: %v\n%s", exit, read(t, log.Name()))
		case <-deadline:
			t.Fatalf("systemd does not come up:\n%s", read(t, log.Name()))
		}
	}
}

func (s realSystemd) install(t *testing.T, name string, kind kindOfService) {
	t.Helper()
	program(t, "/usr/local/bin/test-daemon", daemon)
	text := "ExecStart=/usr/local/bin/test-daemon " + name
	switch kind {
	case sound:
		text += "\nExecReload=/bin/sh -c 'touch /run/" + name + ".hup; kill -USR1 $MAINPID'"
	case failing:
		text = "Type=forking\nExecStart=/bin/false"
	case dying:
		text += " dying"
	case hanging:
		text = "Type=notify\nTimeoutStartSec=infinity\n" + text
	}
	write(t, "/etc/systemd/system/"+name+".service", fmt.Sprintf(serviceUnit, text))
	must(t, s.systemctl("daemon-reload")...)
}

func (s realSystemd) byHand(t *testing.T, action, name string) {
	t.Helper()
	must(t, s.systemctl(action, name)...)
}

func (s realSystemd) kill(t *testing.T, name string) {
	t.Helper()
	must(t, s.systemctl("kill", "--signal=KILL", name)...)
	for s.running(t, name) { // a test that hangs here has a deadline
		continue
	}
}

// running asks systemctl: the daemon has a PID in another namespace.
func (s realSystemd) running(_ *testing.T, name string) bool {
	argv := s.systemctl("is-active", "--quiet", name)
	return exec.Command(argv[0], argv[1:]...).Run() == nil
}

func (realSystemd) counts(t *testing.T, name string) (starts, reloads int) {
	return daemons{}.counts(t, name)
}

func TestSvcSystemd(t *testing.T) {
	t.Parallel()
	freshroot.Run(t, func() {
		sys := bootSystemd(t)
		testSvc(t, sys)
		must(t, sys.systemctl("mask", "mr-masked")...)
		_, err := svc(t, "mr-masked", graph.Svc{State: graph.RunningYes}).check(t.Context())
		if err == nil || !strings.Contains(err.Error(), "unmask") {
			t.Errorf("masked: %v", err)
		}
	})
}
