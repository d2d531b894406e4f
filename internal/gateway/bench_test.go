package gateway

import (
	"context"
	"io"
	"net"
	"runtime"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"

	"github.com/mgmt-remote/mgmt-remote/internal/keys"
)

// BenchmarkHeldConnection measures what an idle connection of a host costs the initiator: everything on the
// gateway's side. The client's side is a bare HTTP/2 greeting, so it hardly counts.
func BenchmarkHeldConnection(b *testing.B) {
	g := newBench(b, Limits{Connections: 1 << 30}, false)
	hold := func() net.Conn {
		theirs, ours := net.Pipe()
		g.gw.Handle("a", ours)
		errs := make(chan error, 1)
		go func() {
			_, err := io.WriteString(theirs, http2.ClientPreface)
			if err == nil {
				err = http2.NewFramer(theirs, nil).WriteSettings()
			}
			errs <- err
		}()
		if _, err := io.ReadFull(theirs, make([]byte, 9)); err != nil { // the server's settings: it is up
			b.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
		return theirs
	}
	defer hold().Close() //nolint:errcheck // the first one also pays for what all share
	before := used()
	conns := make([]net.Conn, 0, b.N)
	for b.Loop() {
		conns = append(conns, hold())
	}
	b.ReportMetric(float64(used()-before)/float64(len(conns)), "bytes/conn")
	for _, c := range conns {
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// used is the live heap and all stacks.
func used() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func BenchmarkRequests(b *testing.B) {
	g := newBench(b, Limits{Rate: 1e9, Burst: 1 << 30, WriteBytes: 1 << 50}, false)
	kv := pb.NewKVClient(g.conn("a"))
	key := []byte(keys.KV(testRun) + "x")
	for name, call := range map[string]func() error{
		"get": func() error { _, err := kv.Range(context.Background(), &pb.RangeRequest{Key: key}); return err },
		"put": func() error {
			_, err := kv.Put(context.Background(), &pb.PutRequest{Key: key, Value: []byte("value")})
			return err
		},
		"refused": func() error {
			if _, err := kv.Range(context.Background(), &pb.RangeRequest{Key: []byte("/x")}); err == nil {
				b.Error("allowed")
			}
			return nil
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := call(); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
