//go:build linux

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/mgmt-remote/mgmt-remote/test/netlab"
)

// Tests whose names begin with TestChaos do something bad to the network, the servers or the program itself while
// payloads run, in networks of their own, and hold that the payloads notice nothing. `make chaos` runs them alone.

func init() {
	helpers["steady"] = steady
}

// steady is a payload that counts on stdout twenty times a second, and writes its count to etcd ten times a second, which it tells on
// stderr each time that it succeeded. It ends when its home has the file go.
func steady([]string) int {
	var n atomic.Int64
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("ETCDCTL_ENDPOINTS")}, Logger: zap.NewNop()})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	key := fmt.Sprintf("/mgmt-remote/%s/kv/steady/%s", os.Getenv("MGMT_REMOTE_RUN"), os.Getenv("MGMT_REMOTE_HOST"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			put, stop := context.WithTimeout(ctx, 5*time.Second)
			value := strconv.FormatInt(n.Load(), 10)
			if _, err := client.Put(put, key, value); err == nil {
				fmt.Fprintln(os.Stderr, "put", value)
			}
			stop()
			time.Sleep(100 * time.Millisecond)
		}
	}()
	for {
		if _, err := os.Stat(filepath.Join(os.Getenv("HOME"), "go")); err == nil {
			fmt.Println("end")
			return 0
		}
		fmt.Println(n.Add(1))
		time.Sleep(50 * time.Millisecond)
	}
}

// steadyRun is a run of steady on all hosts of a lab.
type steadyRun struct {
	*process
	l     *lab
	first map[string]event // by host: how its payload began
}

// patient are the flags of a run that notices a dead link soon and waits long for its return. A host that is only slow for some seconds is
// not to be taken for dead: its connections are counted.
var patient = []string{"--json", "--keepalive-interval", "1", "--keepalive-count", "8", "--connect-timeout", "5", "--retry-for", "5m"}

// startSteady starts it and waits until every payload has counted and written.
func (l *lab) startSteady(more ...string) *steadyRun {
	l.t.Helper()
	l.runFor = 6 * time.Minute
	args := append(append([]string{}, patient...), more...)
	r := &steadyRun{l: l, first: map[string]event{}}
	r.process = l.start(l.args(append(args, "--", publicSelf, "steady")...)...)
	for _, h := range l.hosts {
		r.first[h.name] = r.awaitAttached(h.name, 1)
	}
	for _, h := range l.hosts {
		r.awaitPut(h.name, 0)
	}
	return r
}

// awaitPut waits until the host's payload says, in events after the first ones, that it wrote to etcd. It returns when that was.
func (r *steadyRun) awaitPut(host string, from int) {
	r.t.Helper()
	r.awaitFrom(from, host+": a write to etcd", func(e event) bool {
		return e.Type == "output_received" && e.Host == host && e.Stderr && strings.Contains(string(e.Data), "put ")
	})
}

// awaitWell waits until a host is attached again, its output goes on and its writes arrive.
func (r *steadyRun) awaitWell(host string, from int) {
	r.t.Helper()
	r.awaitFrom(from, host+": attached again", func(e event) bool {
		return e.Type == "payload_started" && e.Host == host && e.Reattached
	})
	now := len(r.all())
	r.awaitFrom(now, host+": more output", func(e event) bool { return e.Type == "output_received" && e.Host == host && !e.Stderr })
	r.awaitPut(host, now)
}

// awaitWellAgain is awaitWell after the network was back, and notes how long it took until the first write over the new connection.
func (r *steadyRun) awaitWellAgain(host string, from int, back time.Time) {
	r.t.Helper()
	r.awaitWell(host, from)
	attached := false
	write := r.awaitFrom(from, host+": the first write", func(e event) bool {
		if e.Host != host {
			return false
		}
		attached = attached || e.Type == "payload_started" && e.Reattached
		return attached && e.Type == "output_received" && e.Stderr && strings.Contains(string(e.Data), "put ")
	})
	took := write.At.Sub(back)
	outages.add(took)
	r.t.Logf("the writes of the payload on %s arrive again %v after the network was back", host, took.Round(time.Millisecond))
}

// outages are how long it took after the network was back until the payload's writes arrived again, of all scenarios.
var outages recoveries

type recoveries struct {
	mu  sync.Mutex
	all []time.Duration
}

func (r *recoveries) add(took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, took)
}

// report is one line for people, none where there was no outage.
func (r *recoveries) report() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return ""
	}
	slices.Sort(r.all)
	n := len(r.all)
	median := (r.all[(n-1)/2] + r.all[n/2]) / 2
	return fmt.Sprintf("time from link restored to tunnel usable: median %v, max %v (%d outages)\n",
		median.Round(time.Millisecond), r.all[n-1].Round(time.Millisecond), n)
}

// wantUnharmed ends the payloads and fails the test unless each was one process from beginning to end, of whose output nothing is lost
// or repeated, and nothing is left anywhere.
func (r *steadyRun) wantUnharmed() {
	r.t.Helper()
	for _, h := range r.l.hosts {
		h.goOn(r.t)
	}
	r.wantCode(0)
	for _, h := range r.l.hosts {
		r.wantOutcome(h.name, "ok")
		r.wantCount(h.name)
		for _, e := range r.all() {
			if e.Type == "payload_started" && e.Host == h.name && e.PID != r.first[h.name].PID {
				r.t.Errorf("%s: first %+v, then %+v", h.name, r.first[h.name], e)
			}
		}
		h.checkCacheOnly(r.t, r.runID())
	}
	r.l.checkInitiator()
}

// TestChaosLinkDown takes a link away, for a moment and for long.
func TestChaosLinkDown(t *testing.T) {
	t.Parallel()
	for _, away := range []time.Duration{5 * time.Second, 90 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			t.Parallel()
			l := newNetLab(t, 2)
			r := l.startSteady()
			from := len(r.all())
			l.net.Hosts[0].Down()
			r.awaitFrom(from, "h1 is in trouble", func(e event) bool { return e.Type == "host_troubled" && e.Host == "h1" })
			pass(t, away)
			r.awaitPut("h2", len(r.all())) // the others go on meanwhile
			back := time.Now()
			l.net.Hosts[0].Up()
			r.awaitWellAgain("h1", from, back)
			r.wantUnharmed()
			if got := r.result("h2"); got.Attempts != 1 {
				t.Errorf("the other host was harmed: %+v", got)
			}
		})
	}
}

// pass lets time go by. It is what the scenario is about, nothing is waited for.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// TestChaosSwallowed has a link swallow everything for a minute: no reset, no refusal, only silence.
func TestChaosSwallowed(t *testing.T) {
	t.Parallel()
	l := newNetLab(t, 2)
	r := l.startSteady()
	from := len(r.all())
	l.net.Hosts[0].Swallow()
	r.awaitFrom(from, "h1 is in trouble", func(e event) bool { return e.Type == "host_troubled" && e.Host == "h1" })
	pass(t, time.Minute)
	r.awaitPut("h2", len(r.all())) // the other goes on meanwhile
	back := time.Now()
	l.net.Hosts[0].Pass()
	r.awaitWellAgain("h1", from, back)
	r.wantUnharmed()
}

// TestChaosLossAndLatency has a link that loses every fifth packet, behind a relay that holds everything back for a fifth of a second.
func TestChaosLossAndLatency(t *testing.T) {
	t.Parallel()
	l := newNetLab(t, 1)
	node := l.net.Hosts[0]
	l.late(0, 200*time.Millisecond)
	node.Lose(20)
	r := l.startSteady("--connect-timeout", "60", "--keepalive-count", "15")
	from := len(r.all())
	pass(t, 20*time.Second)
	r.awaitPut("h1", from)
	node.Pass()
	r.wantUnharmed()
}

// late puts a relay in front of a host that holds everything back for so long in each direction. It ends with the test.
func (l *lab) late(host int, by time.Duration) {
	l.t.Helper()
	h, node := l.hosts[host], l.net.Hosts[host]
	relay := node.Command(l.t.Context(), publicSelf, "delay", by.String(), net.JoinHostPort(node.Addr, "2222"), h.Addr)
	relay.Stderr = os.Stderr
	listens, err := relay.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	relay.Cancel = func() error { return relay.Process.Signal(syscall.SIGTERM) }
	if err := relay.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = relay.Wait() }) // ended by its signal
	if line, err := bufio.NewReader(listens).ReadString('\n'); err != nil {
		l.t.Fatalf("the relay says %q, %v", line, err)
	}
	h.Addr = net.JoinHostPort(node.Addr, "2222")
	l.knowAlso(h, h.Addr)
}

func init() {
	helpers["delay"] = func(args []string) int {
		late, err := time.ParseDuration(args[0])
		if err == nil {
			var l net.Listener
			if l, err = net.Listen("tcp", args[1]); err == nil {
				fmt.Println("listens")
				err = netlab.Delay(context.Background(), l, args[2], late)
			}
		}
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

// TestChaosServer kills the server's processes of running sessions and restarts the server, again and again.
func TestChaosServer(t *testing.T) {
	t.Parallel()
	l := newNetLab(t, 2)
	r := l.startSteady()
	h := l.hosts[0]
	for round := range 3 {
		from := len(r.all())
		if round == 0 {
			if h.KillSessions() == 0 {
				t.Error("there was no session")
			}
		} else { // nobody may come back before the restart: their sessions would not be found the next time
			h.Stop()
			h.Restart()
		}
		r.awaitWell("h1", from)
	}
	r.wantUnharmed()
}

// TestChaosInitiatorStopped stops the program itself for longer than its connections can bear, as a laptop that sleeps does.
func TestChaosInitiatorStopped(t *testing.T) {
	t.Parallel()
	l := newNetLab(t, 2)
	r := l.startSteady()
	r.signal(syscall.SIGSTOP)
	pass(t, 20*time.Second)
	from := len(r.all())
	r.signal(syscall.SIGCONT)
	for _, h := range l.hosts {
		r.awaitNews(h.name)
		r.awaitPut(h.name, from)
	}
	r.wantUnharmed()
}

// TestChaosAddressChange gives the initiator another address: its connections are dead, and nobody tells it.
func TestChaosAddressChange(t *testing.T) {
	t.Parallel()
	l := newNetLab(t, 2)
	r := l.startSteady()
	from := len(r.all())
	l.net.Initiator.Move("198.18.0.222")
	back := time.Now()
	for _, h := range l.hosts {
		r.awaitWellAgain(h.name, from, back)
	}
	r.wantUnharmed()
}

// knowAlso lets a host be known under another address.
func (l *lab) knowAlso(h *host, addr string) {
	l.t.Helper()
	line, err := os.ReadFile(h.KnownHostsFile)
	if err != nil {
		l.t.Fatal(err)
	}
	hostname, port, err := net.SplitHostPort(addr)
	if err != nil {
		l.t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(line), " ")
	if err := os.WriteFile(h.KnownHostsFile, fmt.Appendf(nil, "[%s]:%s %s", hostname, port, key), 0o600); err != nil {
		l.t.Fatal(err)
	}
}
