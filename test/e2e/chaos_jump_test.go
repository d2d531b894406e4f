//go:build linux

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/test/netlab"
	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

// waiting is a payload that costs next to nothing while it waits for its end.
const waiting = `echo begun; until test -e "$HOME/go"; do sleep 1; done; echo end`

// TestChaosJump has 50 hosts behind one jump host whose sshd bears three logins at a time and drops the fourth. All of them come up,
// and all come back after the link to the jump host was away, through one connection each time.
func TestChaosJump(t *testing.T) {
	t.Parallel()
	const n = 50
	l := emptyLab(t)
	l.runFor = 6 * time.Minute
	l.net = netlab.New(t, 1)
	node := l.net.Hosts[0]
	gate := sshd.Start(t, sshd.Options{NetNS: node.NS, Listen: node.Addr, Config: []string{"MaxStartups 3:100:3"}})
	behind := sshd.Start(t, sshd.Options{NetNS: node.NS, Listen: "127.0.0.1", OwnVarTmp: true}) // for the initiator, that is itself
	for range n {
		l.add(behind)
	}
	known := l.knownHosts()
	key, err := os.ReadFile(gate.KnownHostsFile)
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(known)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(known, append(all, key...), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"run", "--known-hosts", known, "-i", behind.KeyFile, "-i", gate.KeyFile, "-J", fmt.Sprintf("%s@%s", gate.User, node.Addr)}, patient...)
	args = append(args, "--connect-timeout", "20") // all fifty log in at once, on a machine that may be busy
	for _, h := range l.hosts {
		args = append(args, "-H", h.arg())
	}
	p := l.start(append(args, "--", "sh", "-c", waiting)...)
	first := map[string]event{}
	for _, h := range l.hosts {
		first[h.name] = p.awaitAttached(h.name, 1)
	}
	from := len(p.all())
	node.Down()
	for _, h := range l.hosts {
		p.awaitFrom(from, h.name+" is in trouble", func(e event) bool { return e.Type == "host_troubled" && e.Host == h.name })
	}
	// Whose keepalives stay unanswered first is chance, but the next attempt knows where it ended.
	p.awaitFrom(from, "the jump host is named", func(e event) bool {
		return e.Type == "host_troubled" && strings.Contains(e.Reason, "jump host "+node.Addr)
	})
	back := time.Now()
	node.Up()
	for _, h := range l.hosts {
		p.awaitFrom(from, h.name+" is attached again", func(e event) bool { return e.Type == "payload_started" && e.Host == h.name && e.Reattached })
	}
	t.Logf("%d hosts behind one jump host were attached again %v after its link", n, time.Since(back).Round(time.Millisecond))
	l.hosts[0].goOn(t)
	p.wantCode(0)
	for _, h := range l.hosts {
		p.wantOutcome(h.name, "ok")
		if got := p.output(h.name, false); got != "begun\nend\n" {
			t.Errorf("%s said %q", h.name, got)
		}
		for _, e := range p.all() {
			if e.Type == "payload_started" && e.Host == h.name && e.PID != first[h.name].PID {
				t.Errorf("%s: first %+v, then %+v", h.name, first[h.name], e)
			}
		}
		h.checkCacheOnly(t, p.runID())
	}
	l.checkInitiator()
	// A login that was under way when the last host gave up waiting for it may have been for nothing.
	if logins := strings.Count(gate.Log(), "Accepted publickey"); logins < 2 || logins > 4 {
		t.Errorf("%d logins at the jump host for two connections", logins)
	}
}
