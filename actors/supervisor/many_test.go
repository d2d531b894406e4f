package supervisor_test

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/actors/supervisor"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// briefHost stands in for a host's actor and is done at once.
type briefHost struct{ name string }

func (h *briefHost) Receive(ctx actor.Context) {
	if _, begun := ctx.Message().(messages.Begin); begun {
		ctx.Send(ctx.Parent(), messages.HostDone{Result: messages.Result{Host: h.name, Outcome: messages.OutcomeSucceeded}})
	}
}

// runBrief runs a supervisor over n hosts that are done at once, limit at a time, and calls end before its actors end.
func runBrief(tb testing.TB, n, limit int, made func(*briefHost), end func()) {
	tb.Helper()
	quiet := slog.New(slog.DiscardHandler)
	system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }))
	defer system.Shutdown()
	ended := make(chan struct{})
	pid := system.Root.Spawn(supervisor.Props(supervisor.Config{
		Run: "many", MaxConnections: limit,
		Host: func(name string) *actor.Props {
			return actor.PropsFromProducer(func() actor.Actor {
				h := &briefHost{name: name}
				made(h)
				return h
			})
		},
		Observe: func(e messages.Event) {
			if _, over := e.(messages.RunFinished); over {
				close(ended)
			}
		},
	}))
	for i := range n {
		system.Root.Send(pid, messages.AddHost{Host: fmt.Sprintf("h%d", i)})
	}
	system.Root.Send(pid, messages.NoMoreHosts{})
	<-ended
	end()
	if err := system.Root.StopFuture(pid).Wait(); err != nil {
		tb.Error(err)
	}
}

// A run may have very many hosts, so nothing of one that is done is kept but its result.
func TestDoneHostsAreLetGo(t *testing.T) {
	const n, last = 50, 5 // the last ones may still be in some mailbox
	var gone atomic.Int32
	let := make(chan struct{})
	once := sync.OnceFunc(func() { close(let) })
	runBrief(t, n, 1, func(h *briefHost) {
		runtime.AddCleanup(h, func(int) {
			if gone.Add(1) >= n-last {
				once()
			}
		}, 0)
	}, func() {
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		limit := time.After(time.Minute)
		for {
			runtime.GC()
			select {
			case <-let:
				return
			case <-again.C:
			case <-limit:
				t.Errorf("%d of %d actors were let go", gone.Load(), n)
				return
			}
		}
	})
}

// BenchmarkManyHosts is what the supervisor itself needs for hosts of which few are in work at the same time.
func BenchmarkManyHosts(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				runBrief(b, n, 500, func(*briefHost) {}, func() {})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/host")
		})
	}
}
