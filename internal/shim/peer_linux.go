package shim

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// canTellPeers says whether ownPeer works here.
func canTellPeers() error {
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		return fmt.Errorf("a TCP endpoint can't be kept from other users here: %w", err)
	}
	return nil
}

// ownPeer returns nil where the other end of a TCP connection on this machine belongs to our user. The kernel tells the owner of
// a socket in /proc/net/tcp and tcp6 (proc(5)). Sockets that are closed already have inode 0 and uid 0: they don't count.
func ownPeer(c net.Conn) error {
	remote, err1 := netip.ParseAddrPort(c.RemoteAddr().String())
	local, err2 := netip.ParseAddrPort(c.LocalAddr().String())
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return err
		}
		uid, found, err := socketOwner(f, remote, local)
		_ = f.Close() // only read
		if err != nil {
			return err
		}
		if found {
			if uid != os.Geteuid() {
				return fmt.Errorf("the peer %s belongs to uid %d", remote, uid)
			}
			return nil
		}
	}
	return fmt.Errorf("the owner of the peer %s is not known", remote)
}

// socketOwner finds the owner of the established socket from local to remote, as its own side sees these, in a table of
// /proc/net.
func socketOwner(table io.Reader, local, remote netip.AddrPort) (uid int, found bool, err error) {
	const established = "01"
	lines := bufio.NewScanner(table)
	lines.Scan() // the heading
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != established || f[9] == "0" {
			continue
		}
		l, err1 := parseSocketAddr(f[1])
		r, err2 := parseSocketAddr(f[2])
		if err1 != nil || err2 != nil || l != unmap(local) || r != unmap(remote) {
			continue
		}
		uid, err := strconv.Atoi(f[7])
		return uid, err == nil, err
	}
	return 0, false, lines.Err()
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// parseSocketAddr reads "0100007F:1F90": 32-bit words in the machine's byte order and a port, all in hex. An IPv4 address mapped to
// IPv6 is returned as IPv4.
func parseSocketAddr(s string) (netip.AddrPort, error) {
	host, portText, ok := strings.Cut(s, ":")
	port, err := strconv.ParseUint(portText, 16, 16)
	if !ok || err != nil || (len(host) != 8 && len(host) != 32) {
		return netip.AddrPort{}, fmt.Errorf("%q is no socket address", s)
	}
	var raw []byte
	for i := 0; i < len(host); i += 8 {
		word, err := strconv.ParseUint(host[i:i+8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, err
		}
		raw = binary.NativeEndian.AppendUint32(raw, uint32(word))
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}
