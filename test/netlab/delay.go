//go:build linux

package netlab

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Delay relays connections from l to address and holds everything back for so long in each direction: latency, for kernels that
// have no netem. It keeps order and what is in flight, so throughput stays; it is no model of loss. It ends with ctx, closes l
// and returns when no goroutine of it is left.
func Delay(ctx context.Context, l net.Listener, address string, delay time.Duration) error {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		in, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		group.Go(func() { relay(ctx, in, address, delay) })
	}
}

// relay serves one connection; the end of either side is the end of both.
func relay(ctx context.Context, in net.Conn, address string, delay time.Duration) {
	defer func() { _ = in.Close() }() // both ends are gone then
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { _, _ = in.Close(), out.Close() })
	var group sync.WaitGroup
	defer group.Wait()
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		group.Go(func() {
			defer cancel()
			late(ctx, way[1], way[0], delay)
		})
	}
}

// chunk is what was read at once, and when it is to go on.
type chunk struct {
	data []byte
	due  time.Time
}

// late copies from one connection to another with a delay.
func late(ctx context.Context, to io.Writer, from io.Reader, delay time.Duration) {
	chunks := make(chan chunk, 4096)
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for c := range chunks {
			timer.Reset(time.Until(c.due))
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			if _, err := to.Write(c.data); err != nil {
				break
			}
		}
		for range chunks { // the reader must not wait for us
		}
	})
	defer close(chunks)
	for {
		data := make([]byte, 32<<10)
		n, err := from.Read(data)
		if n > 0 {
			chunks <- chunk{data[:n], time.Now().Add(delay)}
		}
		if err != nil {
			return
		}
	}
}
