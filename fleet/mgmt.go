package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"github.com/mgmt-remote/mgmt-remote/fault"
	"github.com/mgmt-remote/mgmt-remote/internal/gateway"
	"github.com/mgmt-remote/mgmt-remote/internal/mgmt"
	"github.com/mgmt-remote/mgmt-remote/internal/wire"
	"github.com/mgmt-remote/mgmt-remote/messages"
)

// Mgmt is the payload mgmt (https://github.com/purpleidea/mgmt). Its code is deployed once, into the run's etcd, with
// `mgmt deploy` on this machine, before any host is connected; every host then runs mgmt on what is deployed there.
//
// mgmt keeps everything below one prefix of etcd, which all hosts of the run may write: with this payload each host of
// the fleet is trusted by all others.
type Mgmt struct {
	Binary string // mgmt 1.x, a local file; it runs here and on all hosts
	Code   string // a .mcl or .yaml file, or a directory with metadata.yaml
}

// checkMgmt looks at everything about an mgmt payload that can be seen before anything is connected.
func checkMgmt(m Mgmt) (mgmt.Code, error) {
	code, err := mgmt.FindCode(m.Code)
	if err != nil {
		return code, fault.Wrap(fault.Environment, "find the code", err)
	}
	platform, err := mgmt.PlatformOf(m.Binary)
	if err != nil {
		return code, fault.Wrap(fault.Environment, "find mgmt", err)
	}
	if !platform.Runs(runtime.GOOS, runtime.GOARCH) {
		return code, fault.New(fault.Environment, "find mgmt", "%s is built for %s, and this machine, which deploys the code with it, is %s/%s",
			m.Binary, platform, runtime.GOOS, runtime.GOARCH).WithRemedy("run mgmt-remote on a machine of the hosts' platform")
	}
	fi, err := os.Stat(m.Binary)
	if err != nil {
		return code, fault.Wrap(fault.Environment, "find mgmt", err)
	}
	if fi.Mode()&0o111 == 0 {
		return code, fault.New(fault.Environment, "find mgmt", "%s can't be executed, and this machine deploys the code with it", m.Binary).
			WithRemedy("chmod +x %s", m.Binary)
	}
	return code, nil
}

// mgmtGateway is what the gateway is to know of an mgmt payload; nil for others.
func (r *running) mgmtGateway() *gateway.Mgmt {
	if r.fleet.opts.Payload.Mgmt == nil {
		return nil
	}
	return &gateway.Mgmt{Endpoint: func(host, authority string) string {
		if r.fleet.opts.Payload.TCP {
			return "http://" + authority // only the shim knows the port, and it is what its client called
		}
		record, _ := r.run.Session(host) // recorded before anything of the host's could ask
		return "unix://" + record.Dir + "/" + wire.EndpointSocket
	}}
}

// maxSocketPath is what fits into sun_path everywhere (104 bytes with a final NUL on macOS).
const maxSocketPath = 103

// deploy puts the code into the run's etcd. mgmt reaches the gateway over a socket in the run's own directory, which
// works for every etcd: for an external one with TLS mgmt's deploy has no flags. A run that is stopped meanwhile has
// nothing to report of it: its hosts are stopped before they begin.
func (r *running) deploy(outer context.Context) (err error) {
	m := r.fleet.opts.Payload.Mgmt
	if m == nil || len(r.run.Sessions()) > 0 {
		return nil // or an earlier initiator has done it, before it began with any host
	}
	const op = "deploy"
	path := filepath.Join(r.run.Dir(), "deploy.sock")
	if len(path) > maxSocketPath {
		return fault.New(fault.Environment, op, "the path of the socket %s is %d bytes long, a socket's can have %d", path, len(path), maxSocketPath).
			WithRemedy("set XDG_STATE_HOME to a shorter directory")
	}
	binary, err := filepath.Abs(m.Binary) // a name alone would be looked up in PATH
	if err != nil {
		return fault.Wrap(fault.Environment, op, err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fault.Wrap(fault.Environment, op, err)
	}
	served := make(chan error, 1)
	go func() { served <- serveDeploy(listener, r.gateway) }()
	defer func() { err = errors.Join(err, listener.Close(), <-served) }()

	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	defer context.AfterFunc(r.fleet.stopping, cancel)()
	err = mgmt.Deploy(ctx, mgmt.Deployment{
		Binary: binary, Code: r.fleet.code, Seeds: "unix://" + path, Noop: r.fleet.opts.Payload.Noop, Logger: r.fleet.opts.Logger,
	})
	if outer.Err() != nil {
		r.fleet.Stop(messages.StopFinish)
	}
	if r.fleet.stopping.Err() != nil {
		return nil
	}
	return err
}

// serveDeploy hands connections to the gateway until the listener is closed. The connections are the gateway's, which
// closes them with itself.
func serveDeploy(listener net.Listener, g *gateway.Gateway) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept mgmt: %w", err)
		}
		g.HandleDeploy(conn)
	}
}
