//go:build linux

// Package exchange measures how long a fleet takes until everybody has what everybody offers. Only `go test -bench` does
// anything here; `make bench` builds what it needs first.
package exchange

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mgmt-remote/mgmt-remote/fleet"
	"github.com/mgmt-remote/mgmt-remote/messages"
	"github.com/mgmt-remote/mgmt-remote/test/sshfleet"
)

// settle is how long the group has to be quiet; it is not counted.
const settle = 2 * time.Second

// BenchmarkExchange has N hosts, SSH servers in this process with real engines as their payloads, offer a file each and
// collect those of all: N² files are written. It tells the time from the last start of a payload to the last host's
// last word before the group converged, and how many changes of keys per second the gateway passed on in that time.
func BenchmarkExchange(b *testing.B) {
	for _, n := range []int{10, 50} {
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			for range b.N {
				exchange(b, n)
			}
		})
	}
}

func exchange(b *testing.B, n int) {
	b.Helper()
	dir, err := os.MkdirTemp("", "mr-ex-") // short: paths of Unix sockets are
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	}()
	machines, err := sshfleet.New(sshfleet.Options{Dir: filepath.Join(dir, "m"), Hosts: n})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := machines.Close(); err != nil {
			b.Error(err)
		}
	}()
	var started, settled time.Time
	opts := fleet.Options{
		SSH:              fleet.SSH{KnownHosts: []string{machines.KnownHostsFile()}, Identities: []string{machines.KeyFile()}},
		ConvergedTimeout: settle, MaxRuntime: 5 * time.Minute, StateDir: filepath.Join(dir, "state"),
		Observe: func(event messages.Event) {
			switch e := event.(type) {
			case messages.PayloadStarted:
				started = e.At
			case messages.Converged:
				settled = e.At.Add(-e.For)
			}
		},
	}
	for _, m := range machines.Hosts() {
		addr, _, err := net.SplitHostPort(m.Addr())
		if err != nil {
			b.Fatal(err)
		}
		opts.Hosts = append(opts.Hosts, fleet.Host{
			Name: m.Name(), Addr: addr, Port: m.Port(), User: m.User(), Prefix: m.Prefix(), Definition: definition(m),
		})
	}
	f, err := fleet.New(opts)
	if err != nil {
		b.Fatal(err)
	}
	report, err := f.Run(context.Background())
	if err != nil || !report.Converged {
		b.Fatalf("%+v, %v", report, err)
	}
	if err := f.Close(); err != nil {
		b.Error(err)
	}
	for _, m := range machines.Hosts() {
		got, err := os.ReadDir(filepath.Join(m.Home(), "got"))
		if err != nil || len(got) != n {
			b.Fatalf("%s has %d files of %d: %v", m.Name(), len(got), n, err)
		}
	}
	took := settled.Sub(started)
	b.ReportMetric(took.Seconds(), "s-to-converge")
	b.ReportMetric(float64(report.Etcd.Events), "events")
	b.ReportMetric(float64(report.Etcd.Events)/took.Seconds(), "events/s")
	b.ReportMetric(float64(report.Etcd.Requests)/float64(n), "requests/host")
}

// definition offers a host's name and collects those of all.
func definition(m *sshfleet.Host) []byte {
	return fmt.Appendf(nil, `graph: exchange
resources:
  file:
  - {name: got, path: "%[1]s/got/"}
  - {name: "@@%[2]s", path: "/%[2]s", content: "this is %[2]s\n"}
collect:
- {kind: file, pattern: "%[1]s/got/"}
`, m.Home(), m.Name())
}
