//go:build linux

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/test/sshd"
)

const (
	cutHosts = 20
	cutsEach = 50
	warmCuts = 10 // of each host, before the initiator is looked at for the first time
)

// What the initiator may have more after the last disconnects than after the first ones. A connection that is held takes 100 KB and an
// open file: one in twenty that leaked would be too much. Threads stay once they are there, and a disk that hangs for a moment has the log
// of each host wait in one.
const (
	memoryGrowth = 16 << 20 // bytes
	filesGrowth  = 20
	threadGrowth = 10 + cutHosts
)

// TestChaosThousandDisconnects takes the connections of twenty hosts away, fifty times each, at different moments of their way back: as
// a router does that forgets them, or by killing the server's process. No payload is started again, no number is lost or
// repeated, and the initiator is as large afterwards as before. Not parallel: others would be measured too.
func TestChaosThousandDisconnects(t *testing.T) {
	t.Setenv("GOGC", "50") // what is held is measured, not the garbage, which on a busy machine is collected late
	l := newLab(t, 1)
	one := l.hosts[0].KeyFile // a server takes six keys at most that are not the right one
	for range cutHosts - 1 {
		s := sshd.Start(t, sshd.Options{OwnVarTmp: true, Config: []string{"AuthorizedKeysFile " + filepath.Join(filepath.Dir(one), "authorized_keys")}})
		s.KeyFile = one
		l.add(s)
	}
	links := map[string]*link{}
	for _, h := range l.hosts {
		links[h.name] = l.linkTo(h)
	}
	r := l.startSteady()
	began := time.Now()
	d := &disconnects{steadyRun: r, links: links, state: filepath.Join(l.dir, "mgmt-remote", "runs"), run: r.runID(), cuts: map[string]int{}}
	first := r.tell("before", 0, began)
	d.each(warmCuts)
	warm := r.tell("warm", warmCuts*cutHosts, began)
	d.each((warmCuts + cutsEach) / 2)
	r.tell("half", (warmCuts+cutsEach)/2*cutHosts, began)
	d.each(cutsEach)
	last := r.tell("after", cutsEach*cutHosts, began)
	r.wantUnharmed()
	for _, h := range l.hosts {
		if got := r.result(h.name); got.Attempts < cutsEach+1 {
			t.Errorf("%s: %d attempts after %d disconnects", h.name, got.Attempts, cutsEach)
		}
		r.wantRisingPuts(h.name)
	}
	if grown := last.rss - warm.rss; grown > memoryGrowth {
		t.Errorf("%.1f MB grew by %.1f MB", float64(warm.rss)/1e6, float64(grown)/1e6)
	}
	if last.files > first.files+filesGrowth || last.threads > warm.threads+threadGrowth {
		t.Errorf("before %+v, warm %+v, after %+v", first, warm, last)
	}
}

// tell looks at the initiator and says what it has.
func (p *process) tell(when string, cuts int, began time.Time) held {
	p.t.Helper()
	h := p.look()
	p.t.Logf("%s: %4d disconnects in %4.1f s; the initiator has %.1f MB, %d open files, %d threads", when, cuts, time.Since(began).Seconds(),
		float64(h.rss)/1e6, h.files, h.threads)
	return h
}

// wantRisingPuts fails the test unless what the host's payload wrote to etcd only grew.
func (p *process) wantRisingPuts(host string) {
	p.t.Helper()
	last, puts := 0, 0
	for line := range strings.Lines(p.output(host, true)) {
		n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "put ")))
		if err != nil || n < last {
			p.t.Errorf("%s: %q after %d, %v", host, line, last, err)
			return
		}
		last = n
		puts++
	}
	if puts < cutsEach/4 { // some are cut before they come to it
		p.t.Errorf("%s wrote to etcd %d times", host, puts)
	}
}

// disconnects takes connections away and sees to it that the way back begins at once: the delays between attempts are not what is
// tested, and grow for a host that is never well for long.
type disconnects struct {
	*steadyRun
	links map[string]*link
	state string
	run   string
	cuts  map[string]int // by host, so far
}

// backMoments are those on a host's way back at which the connection is taken away again.
var backMoments = []func(e event) bool{
	func(e event) bool { return e.Type == "state_changed" && e.State == "Attaching" },
	func(e event) bool { return e.Type == "payload_started" },
	func(e event) bool { return e.Type == "output_received" && !e.Stderr },
	func(e event) bool { return e.Type == "output_received" && strings.Contains(string(e.Data), "put ") },
}

// each has every host lose its connections until it has lost so many, and returns when all are well again.
func (d *disconnects) each(target int) {
	d.t.Helper()
	from, byName, epoch, well := len(d.all()), map[string]*host{}, map[string]uint64{}, map[string]bool{}
	lost := map[string]bool{} // and no new connection is there yet
	for _, h := range d.l.hosts {
		byName[h.name], lost[h.name] = h, true
		d.cut(h)
	}
	d.awaitFrom(from, "all hosts are back", func(e event) bool {
		h := byName[e.Host]
		if e.Type == "host_finished" {
			d.t.Fatalf("the run goes on without a host: %+v", e.Result)
		}
		if h == nil {
			return false
		}
		if e.Type == "state_changed" && e.State == "Waiting" {
			d.retry(h.name)
		}
		if e.Type == "state_changed" && e.State == "Attaching" && e.Epoch > epoch[h.name] {
			epoch[h.name], lost[h.name] = e.Epoch, false
		}
		switch n := d.cuts[h.name]; {
		case lost[h.name]:
		case n < target && backMoments[n%len(backMoments)](e):
			d.cut(h)
			lost[h.name] = true
		case n == target && backMoments[len(backMoments)-1](e):
			well[h.name] = true
		}
		return len(well) == len(byName)
	})
}

// cut takes the host's connections away.
func (d *disconnects) cut(h *host) {
	n := d.cuts[h.name]
	d.cuts[h.name]++
	if n%5 == 4 {
		if h.KillSessions() == 0 {
			d.t.Errorf("%s: no process of the server for connection %d", h.name, n)
		}
		return
	}
	if d.links[h.name].cut() == 0 {
		d.t.Errorf("%s: no connection to take away the %d. time", h.name, n+1)
	}
}

func (d *disconnects) retry(host string) {
	ctx, cancel := context.WithTimeout(d.t.Context(), runFor)
	defer cancel()
	if err := fleet.RetryOf(ctx, d.state, d.run, host); err != nil {
		d.t.Errorf("retry %s: %v", host, err)
	}
}

// link is a relay in front of a host's server that can lose its connections.
type link struct {
	to string

	mu    sync.Mutex
	conns map[*net.TCPConn]bool
	limit int64 // what the next connection carries to the host before it is lost; 0 = all
}

// firstCarries has the next connection be lost when it has carried so many bytes to the host.
func (k *link) firstCarries(limit int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.limit = limit
}

// linkTo puts a link in front of a host, which is reached over it from now on.
func (l *lab) linkTo(h *host) *link {
	l.t.Helper()
	k := &link{to: h.Addr, conns: map[*net.TCPConn]bool{}}
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		l.t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			in, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			group.Go(func() { k.relay(in) })
		}
	})
	l.t.Cleanup(func() {
		_ = ln.Close() // only ends Accept
		k.cut()
		group.Wait()
	})
	h.Addr = ln.Addr().String()
	l.knowAlso(h, h.Addr)
	return k
}

// relay serves one connection; the end of either side is the end of both.
func (k *link) relay(in *net.TCPConn) {
	defer in.Close()
	out, err := net.Dial("tcp", k.to)
	if err != nil {
		return
	}
	defer out.Close()
	server, ok := out.(*net.TCPConn)
	if !ok {
		panic(fmt.Sprintf("a TCP connection is a %T", out))
	}
	k.mu.Lock()
	k.conns[in], k.conns[server] = true, true
	limit := cmp.Or(k.limit, math.MaxInt64)
	k.limit = 0
	k.mu.Unlock()
	var ways sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{in, server}, {server, in}} {
		ways.Go(func() {
			from := io.Reader(way[1])
			if way[1] == in {
				from = io.LimitReader(in, limit)
			}
			_, _ = io.Copy(way[0], from) // its end is what counts
			_, _ = way[0].Close(), way[1].Close()
		})
	}
	ways.Wait()
	k.mu.Lock()
	delete(k.conns, in)
	delete(k.conns, server)
	k.mu.Unlock()
}

// cut resets all connections, on both sides, and returns how many there were.
func (k *link) cut() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.conns) / 2
	for c := range k.conns {
		_ = c.SetLinger(0) // a reset instead of an orderly end; fails where the connection is gone
		_ = c.Close()
	}
	return n
}
