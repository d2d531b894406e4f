//go:build linux

// Package netlab makes network namespaces for tests: one initiator and some hosts, each alone behind its own link, joined by a
// bridge in the initiator's namespace. Links can be taken down, made to swallow packets, or lose a part of them.
//
// Nothing here reaches the machine's own network: the namespaces have no way out. Everything goes away with the test. It needs
// root, and the programs ip, nft and ping.
package netlab

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// network is where the addresses are from: the range for benchmarks of networks (RFC 2544), which is routed nowhere.
const network = "198.18.0."

// Lab is the namespaces of one test. It is not safe for concurrent use.
type Lab struct {
	t         testing.TB
	Initiator *Node
	Hosts     []*Node
}

// Node is one network namespace.
type Node struct {
	t    testing.TB
	NS   string // its name, for `ip netns exec` and sshd.Options.NetNS
	Addr string // IPv4
	link string // the interface in it
}

// patience bounds how long a fresh link may take to come to life. It is no measurement: the machine may be busy.
const patience = time.Minute

// New makes a lab with so many hosts, at most 200, and waits until the initiator reaches all of them.
func New(t testing.TB, hosts int) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces need root: run the tests as root")
	}
	prefix := "mr" + strings.ToLower(rand.Text()[:6])
	l := &Lab{t: t, Initiator: &Node{t: t, NS: prefix + "-init", Addr: network + "1", link: "br0"}}
	l.Initiator.make()
	l.Initiator.ip("link", "add", "br0", "type", "bridge")
	l.Initiator.ip("addr", "add", l.Initiator.Addr+"/24", "dev", "br0")
	l.Initiator.ip("link", "set", "br0", "up")
	for i := range hosts {
		n := &Node{t: t, NS: fmt.Sprintf("%s-%d", prefix, i+1), Addr: fmt.Sprintf("%s%d", network, i+11), link: "eth0"}
		n.make()
		port := fmt.Sprintf("p%d", i+1)
		l.Initiator.ip("link", "add", port, "type", "veth", "peer", "name", n.link, "netns", n.NS)
		l.Initiator.ip("link", "set", port, "master", "br0", "up")
		n.ip("addr", "add", n.Addr+"/24", "dev", n.link)
		n.ip("link", "set", n.link, "up")
		l.Hosts = append(l.Hosts, n)
	}
	for _, n := range l.Hosts {
		l.AwaitReach(n)
	}
	return l
}

// AwaitReach waits until the initiator reaches a host. A link that is up carries nothing before the kernel has told the bridge, and
// neighbours have found each other.
func (l *Lab) AwaitReach(n *Node) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		out, err := l.Initiator.Command(context.Background(), "ping", "-n", "-c", "1", "-W", "1", n.Addr).CombinedOutput() // ends by itself
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s does not come to life: %v\n%s", n.NS, err, out)
		}
	}
}

// make makes the namespace, with loopback, and registers its end.
func (n *Node) make() {
	n.t.Helper()
	run(n.t, "ip", "netns", "add", n.NS)
	n.t.Cleanup(func() { run(n.t, "ip", "netns", "del", n.NS) })
	n.ip("link", "set", "lo", "up")
}

// Command makes a command that runs in the namespace. Its process is the command itself.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.NS, name}, args...)...)
}

func (n *Node) ip(args ...string) {
	n.t.Helper()
	run(n.t, "ip", append([]string{"-n", n.NS}, args...)...)
}

// Down takes the link down: the node is gone, and both sides can know.
func (n *Node) Down() {
	n.t.Helper()
	n.ip("link", "set", n.link, "down")
}

// Up takes it up again.
func (n *Node) Up() {
	n.t.Helper()
	n.ip("link", "set", n.link, "up")
}

// Swallow makes all packets from and to the node vanish without a word, as a firewall that forgot its connections does.
func (n *Node) Swallow() {
	n.t.Helper()
	n.filter("drop")
}

// Lose makes so many percent of the packets vanish, in each direction.
func (n *Node) Lose(percent int) {
	n.t.Helper()
	n.filter(fmt.Sprintf("numgen random mod 100 < %d drop", percent))
}

// Pass ends what Swallow or Lose began.
func (n *Node) Pass() {
	n.t.Helper()
	n.nft("flush ruleset")
}

// filter replaces the node's rules by one for everything that does not stay on loopback.
func (n *Node) filter(rule string) {
	n.t.Helper()
	n.nft(fmt.Sprintf(`flush ruleset
table inet lab {
	chain in { type filter hook input priority 0; iifname != "lo" %[1]s; }
	chain out { type filter hook output priority 0; oifname != "lo" %[1]s; }
}`, rule))
}

func (n *Node) nft(script string) {
	n.t.Helper()
	cmd := n.Command(context.Background(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("nft in %s: %v\n%s", n.NS, err, out)
	}
}

// Move gives the node another address and takes the present one away: connections over that are dead, and nobody is told.
func (n *Node) Move(addr string) {
	n.t.Helper()
	// In this order: an address that goes takes later ones of its network with it.
	n.ip("addr", "del", n.Addr+"/24", "dev", n.link)
	n.ip("addr", "add", addr+"/24", "dev", n.link)
	n.Addr = addr
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil { // ends by itself
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
