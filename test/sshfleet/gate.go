package sshfleet

import (
	"encoding/binary"
	"io"
	"net"

	"golang.org/x/crypto/ssh"
)

// sftpWrite is SSH_FXP_WRITE, draft-ietf-secsh-filexfer-02 section 3.
const sftpWrite = 6

// writeGate follows the packets of an SFTP client (length, type, rest) and hands out a write request only when open returns
// true. One goroutine reads.
type writeGate struct {
	ssh.Channel
	open func() bool // waits; false when the connection is gone

	head [5]byte // of the packet being handed out
	from int     // bytes of head already handed out
	have int     // bytes of head that are valid
	body uint32  // bytes of the packet that follow head
}

func (g *writeGate) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if g.from == g.have && g.body == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	if g.from < g.have {
		n := copy(p, g.head[g.from:g.have])
		g.from += n
		return n, nil
	}
	n, err := g.Channel.Read(p[:min(uint32(len(p)), g.body)])
	g.body -= uint32(n)
	return n, err
}

func (g *writeGate) next() error {
	g.from, g.have = 0, 0
	n, err := io.ReadFull(g.Channel, g.head[:])
	if n < len(g.head) { // the end, or a stump that the server shall judge
		g.have = n
		if n == 0 {
			return err
		}
		return nil
	}
	g.have = len(g.head)
	length := binary.BigEndian.Uint32(g.head[:4])
	g.body = max(length, 1) - 1
	if g.head[4] == sftpWrite && !g.open() {
		return net.ErrClosed
	}
	return nil
}
