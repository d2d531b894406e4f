//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/netlab"
	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// TestChaosBecome takes the link away, has it swallow everything, and kills the server's sessions, while a payload runs as another user whose sudo wants
// the password each time. Nobody is asked for it again, and the payload notices nothing.
func TestChaosBecome(t *testing.T) {
	t.Parallel()
	l := emptyLab(t)
	l.net = netlab.New(t, 1)
	node := l.net.Hosts[0]
	h := l.add(sshd.Start(t, sshd.Options{
		OwnVarTmp: true, NetNS: node.NS, Listen: node.Addr,
		Users: []string{login}, Sudoers: "Defaults timestamp_timeout=0\nmrlogin ALL=(ALL) ALL\n",
	}))
	asked := filepath.Join(l.dir, "asked")
	// The home is where the test tells the payload to end; root's own is the machine's.
	r := l.startSteady("-b", "--become-password-command", "echo once >>"+asked+"; echo '"+sshd.Password+"'", "--env", "HOME="+h.Home)
	for name, harm := range map[string]func(){"link down": node.Down, "swallowed": node.Swallow} {
		from := len(r.all())
		harm()
		r.awaitFrom(from, name, func(e event) bool { return e.Type == "host_troubled" })
		back := time.Now()
		node.Up()
		node.Pass()
		r.awaitWellAgain("h1", from, back)
	}
	from := len(r.all())
	if h.KillSessions() == 0 {
		t.Error("no session to kill")
	}
	r.awaitWellAgain("h1", from, time.Now())
	r.wantUnharmed()
	if times, err := os.ReadFile(asked); err != nil || string(times) != "once\n" {
		t.Errorf("asked for the password: %q, %v", times, err)
	}
}
