// Package tunnel is the actor of steps 4 and 7: the way back for etcd traffic through the SSH connection.
//
// First choice is a forward of a Unix socket on the host (streamlocal-forward@openssh.com); where the server refuses
// that, an exec channel to the shim carries the connections multiplexed. Either way each connection is handed to the
// gateway under the host's name. The actor never looks into the traffic and never opens a TCP port.
package tunnel

import (
	"context"
	"errors"
	"net"
	"strconv"

	"al.essio.dev/pkg/shellescape"
	"github.com/asynkron/protoactor-go/actor"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/restart"
	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/internal/wire/mux"
	"github.com/mgmt-remote/mgmt-remote/internal/worker"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

const op = "tunnel"

// Conn is what the actor needs of the SSH connection; *sshconn.Conn is one.
type Conn interface {
	ListenUnix(ctx context.Context, path string) (net.Listener, error)
	Open(ctx context.Context, command string) (*sshconn.Channel, error)
}

// Gateway takes over connections. Handle returns at once and owns the connection from then on.
type Gateway interface {
	Handle(host string, conn net.Conn)
}

// Config is what one tunnel actor is for. The connection is the host actor's, which closes it.
type Config struct {
	Host    string
	Conn    Conn
	Gateway Gateway
	Shim    []string // the shim's command on the host, for the stdio tunnel
	Dir     string   // the session directory
}

// Props makes the actor's props.
func Props(cfg Config) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor { return &tunnelActor{cfg: cfg} }, actor.WithReceiverMiddleware(restart.Capture))
}

type tunnelActor struct {
	cfg  Config
	work *worker.Group
	open *entrance // nil while there is none
}

// opened is what step 4's work returns; the worker group closes the entrance where nobody takes it any more.
type opened struct {
	*entrance
	answer messages.TunnelOpened
}

// broke tells that nothing more comes through the tunnel.
type broke struct{ err error }

func (a *tunnelActor) Receive(ctx actor.Context) {
	message, ok := worker.Receive(ctx, &a.work, a.release)
	if !ok {
		return
	}
	switch m := message.(type) {
	case messages.OpenTunnel:
		a.work.Go(func(ctx context.Context) any { return a.dig(ctx, m) })
	case opened:
		a.open = m.entrance
		a.work.Go(func(context.Context) any { return broke{m.serve(a.cfg.Host, a.cfg.Gateway)} })
		ctx.Request(ctx.Parent(), m.answer)
	case broke:
		panic(fault.Wrap(fault.Lost, op, m.err))
	case messages.CloseTunnel:
		a.close(ctx)
	case messages.TunnelClosed:
		ctx.Request(ctx.Parent(), m)
	}
}

// dig opens the tunnel in the best way that the server allows.
func (a *tunnelActor) dig(ctx context.Context, m messages.OpenTunnel) any {
	answer := messages.TunnelOpened{Number: m.Number, Socket: m.Socket, Kind: messages.TunnelForward}
	listener, err := a.cfg.Conn.ListenUnix(ctx, m.Socket)
	if errors.Is(err, sshconn.ErrForwardRefused) {
		answer.Kind = messages.TunnelStdio
		listener, err = a.stdio(ctx, m.Number)
	}
	if err != nil {
		return fault.Wrap(fault.Lost, op, err)
	}
	return opened{newEntrance(listener), answer}
}

// stdio runs the shim's tunnel command; the session it makes is closed with the listener.
func (a *tunnelActor) stdio(ctx context.Context, number uint64) (net.Listener, error) {
	marker := wire.NewMarker()
	argv := append(append([]string{}, a.cfg.Shim...), "tunnel", a.cfg.Dir, strconv.FormatUint(number, 10), marker)
	channel, err := a.cfg.Conn.Open(ctx, shellescape.QuoteCommand(argv))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = channel.Close() })
	stream, err := wire.AfterMarker(channel, marker, wire.MaxNoise)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		text := channel.StderrTail()
		// The channel is of no use any more; what matters is why.
		_ = channel.Close()
		return nil, notStarted(err, text)
	}
	session, err := mux.Server(stream)
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	return session, nil
}

// notStarted explains a start marker that did not come. Where the connection says why, its word counts.
func notStarted(err error, said string) error {
	if fault.KindOf(err) != fault.Unknown {
		return err
	}
	return fault.New(fault.Environment, op, "the stdio tunnel did not start: %w %s", err, said).
		WithRemedy("allow AllowStreamLocalForwarding or a second session per connection (MaxSessions) in the host's sshd")
}

// close gives up what is in flight and closes what is open, then tells the parent.
func (a *tunnelActor) close(ctx actor.Context) {
	old, open := a.work, a.open
	a.open = nil
	old.Cancel()
	a.work = worker.New(ctx)
	a.work.Go(func(context.Context) any {
		if open != nil {
			// An entrance that can't be closed in order is closed by the connection's end, which comes next.
			_ = open.Close()
		}
		old.Wait()
		return messages.TunnelClosed{}
	})
}

// release gives everything back; it is called on restart and stop alike and never panics.
func (a *tunnelActor) release() {
	a.work.Cancel()
	if open := a.open; open != nil {
		a.open = nil
		// Closing a forward talks to the server, and a turn must not wait for that.
		go func() { _ = open.Close() }()
	}
}
