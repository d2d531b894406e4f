//go:build unix && !linux

package shim

import (
	"errors"
	"net"
)

// canTellPeers says whether ownPeer works here.
func canTellPeers() error {
	return errors.New("a TCP endpoint can't be kept from other users on this system: use the unix endpoint")
}

func ownPeer(net.Conn) error { return canTellPeers() }
