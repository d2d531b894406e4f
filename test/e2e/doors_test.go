//go:build linux

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/leftovers"
)

func init() {
	helpers["talk"] = talk
}

// talk connects to each address and begins to speak HTTP/2, as an etcd client does, and says for each whether it was
// let in. An address is NETWORK:ADDRESS.
func talk(addresses []string) int {
	for _, a := range addresses {
		network, address, _ := strings.Cut(a, ":")
		fmt.Println(a, greet(network, address))
	}
	return 0
}

func greet(network, address string) string {
	conn, err := net.DialTimeout(network, address, time.Minute) // as below, it is no measurement
	if err != nil {
		return "no: " + err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	// The client's preface with empty settings: RFC 9113, section 3.4. A server answers with its settings.
	_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	if _, err := io.ReadFull(conn, make([]byte, 9)); err != nil {
		return "connected: " + err.Error()
	}
	return "answered"
}

// talkAs runs talk as another user, in a directory, and returns what it says for each address.
func talkAs(t *testing.T, uid uint32, dir string, addresses []string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), publicSelf, append([]string{"talk"}, addresses...)...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("talk as %d: %v\n%s", uid, err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(addresses) {
		t.Fatalf("talk as %d says\n%s", uid, out)
	}
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], addresses[i]+" ")
	}
	return lines
}

// publicSelf is a copy of the test binary where everybody can run it, made by TestMain: go test keeps the binary in a directory
// of its own, and a file that is written while other tests fork can't be run.
var publicSelf string

func publish() (remove func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "mr")
	if err != nil {
		return nil, err
	}
	publicSelf = filepath.Join(dir, "talk")
	data, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(publicSelf, data, 0o755)
	}
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	return func() error { return os.RemoveAll(dir) }, err
}

// nobody is a user who has nothing to do with us.
const nobody = 65534

// checkDoors holds step 4: the payload's etcd is behind sockets of the session directory and nowhere else, and no other user
// can reach them.
func (h *host) checkDoors(t *testing.T, run string) {
	t.Helper()
	files, err := leftovers.Files(h.session(run))
	if err != nil {
		t.Fatal(err)
	}
	var sockets []string
	for _, f := range files {
		if info, err := os.Lstat(f); err == nil && info.Mode()&os.ModeSocket != 0 {
			path, err := filepath.Rel(h.VarTmp, f)
			if err != nil {
				t.Fatal(err)
			}
			sockets = append(sockets, "unix:"+path)
		}
	}
	if len(sockets) != 3 { // control, endpoint, tunnel
		t.Errorf("%s: sockets %q", h.name, sockets)
	}
	for i, said := range talkAs(t, nobody, h.VarTmp, sockets) {
		if !strings.HasPrefix(said, "no: ") || !strings.Contains(said, "permission denied") {
			t.Errorf("%s: another user at %s: %s", h.name, sockets[i], said)
		}
	}
	// The same question from the right user finds the etcd, or the test would prove nothing. The shim's own socket speaks something else.
	sockets = slices.DeleteFunc(sockets, func(path string) bool { return strings.HasSuffix(path, "/ctl.sock") })
	for i, said := range talkAs(t, uint32(os.Getuid()), h.VarTmp, sockets) {
		if said != "answered" {
			t.Errorf("%s: our own user at %s: %s", h.name, sockets[i], said)
		}
	}
	for _, p := range h.sessionProcesses(t, run) {
		checkNoListener(t, h.name, p.PID, filepath.Join("/var/tmp", filepath.Base(h.base()), run, h.name))
	}
}

// sessionProcesses are the shim, the payload and all others that have to do with the session directory.
func (h *host) sessionProcesses(t *testing.T, run string) []leftovers.Process {
	t.Helper()
	ps, err := leftovers.Processes(filepath.Join("/var/tmp", filepath.Base(h.base()), run, h.name))
	if err != nil {
		t.Fatal(err)
	}
	if len(ps) < 2 {
		t.Errorf("%s: processes of the session: %v", h.name, ps)
	}
	return ps
}

// checkNoListener fails the test when a process listens on anything but unix sockets with files below dir; their names
// can be relative to it.
func checkNoListener(t *testing.T, who string, pid int, dir string) {
	t.Helper()
	held := socketsOf(t, pid)
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		for _, fields := range procNet(t, table) {
			// sl local remote state queues timer retrnsmt uid timeout inode
			if held[fields[9]] && (strings.HasPrefix(table, "udp") || fields[3] == "0A") {
				t.Errorf("%s: process %d listens on %s %s", who, pid, table, fields[1])
			}
		}
	}
	for _, fields := range procNet(t, "unix") {
		// num refcount protocol flags type state inode [path]
		if !held[fields[6]] || len(fields) < 8 {
			continue
		}
		if path := fields[7]; strings.HasPrefix(path, "@") || (filepath.IsAbs(path) && !strings.HasPrefix(path, dir+"/")) {
			t.Errorf("%s: process %d has the socket %s", who, pid, path)
		}
	}
}

// socketsOf are the inodes of a process's sockets.
func socketsOf(t *testing.T, pid int) map[string]bool {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // it ended meanwhile
		t.Error(err)
	}
	held := map[string]bool{}
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join(dir, e.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			held[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return held
}

func procNet(t *testing.T, table string) [][]string {
	t.Helper()
	f, err := os.Open("/proc/net/" + table)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows [][]string
	lines := bufio.NewScanner(f)
	lines.Scan() // the head
	for lines.Scan() {
		rows = append(rows, strings.Fields(lines.Text()))
	}
	return rows
}

// checkTree holds step 5: the payload's parent is the shim, which belongs to no session of sshd and holds none of its pipes.
func (h *host) checkTree(t *testing.T, run string, payload int) {
	t.Helper()
	all, err := leftovers.All()
	if err != nil {
		t.Fatal(err)
	}
	find := func(pid int) leftovers.Process {
		i := slices.IndexFunc(all, func(p leftovers.Process) bool { return p.PID == pid })
		if i < 0 {
			t.Fatalf("%s: no process %d", h.name, pid)
		}
		return all[i]
	}
	p := find(payload)
	shim := find(p.PPID)
	if !strings.Contains(shim.Executable, "/cache/") || filepath.Base(shim.Executable) != "mgmt-remote-shim" || !strings.HasSuffix(shim.Command, run+"/"+h.name) {
		t.Errorf("%s: the payload's parent is %v, not the shim", h.name, shim)
	}
	if shim.SID != shim.PID || p.SID != shim.PID || p.PGID != p.PID {
		t.Errorf("%s: shim %v (group %d), payload %v (group %d): want the shim's own session and the payload's own group", h.name, shim, shim.PGID, p, p.PGID)
	}
	for fd := range 3 {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", shim.PID, fd))
		if err != nil || strings.HasPrefix(target, "pipe:") || strings.HasPrefix(target, "socket:") {
			t.Errorf("%s: descriptor %d of the shim is %s, %v", h.name, fd, target, err)
		}
	}
	if oom, err := os.ReadFile("/proc/" + strconv.Itoa(shim.PID) + "/environ"); err != nil || strings.Contains(string(oom), "TOKEN") {
		t.Errorf("%s: environment of the shim: %q, %v", h.name, oom, err)
	}
}
