package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/mgmt-remote/mgmt-remote/internal/wire"
)

// maxSocketPath is the longest path a unix socket can have everywhere: sun_path is 104 bytes with its final NUL on
// BSD and macOS, 108 on Linux.
const maxSocketPath = 103

// listenUnix makes a socket in the current directory, for this user only, in place of what an earlier process left.
// Names without a directory, so that the length of the session directory doesn't matter.
func listenUnix(name string) (*net.UnixListener, error) {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false) // the name means something else once the directory is left
	if err := os.Chmod(name, 0o600); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// listenEndpoint makes the payload's endpoint as the spec wants it; the current directory is the session directory dir. It
// returns the endpoint's address as etcd clients take it, and who may connect (nil: whoever can open the socket).
func listenEndpoint(dir string, spec wire.Spec) (ln net.Listener, address string, allow func(net.Conn) error, err error) {
	if spec.Endpoint == wire.EndpointTCP {
		if err := canTellPeers(); err != nil {
			return nil, "", nil, err
		}
		ln, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // no name to look up
		if err != nil {
			return nil, "", nil, err
		}
		return ln, "http://" + ln.Addr().String(), ownPeer, nil
	}
	path := dir + "/" + endpointSocket
	if len(path) > maxSocketPath {
		return nil, "", nil, fmt.Errorf("the path of the payload's endpoint, %s, is %d bytes long, a socket's can have %d: use a shorter prefix", path, len(path), maxSocketPath)
	}
	ul, err := listenUnix(endpointSocket)
	if err != nil {
		return nil, "", nil, err
	}
	return ul, "unix://" + path, nil, nil
}
