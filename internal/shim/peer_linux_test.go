package shim

import (
	"net/netip"
	"strings"
	"testing"
)

func TestSocketOwner(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0000000000000000 100 0 0 10 0
   1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 101 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:9C41 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:9C42 0100007F:1F90 06 00000000:00000000 00:00000000 00000000     0        0 103 1 0000000000000000 20 4 30 10 -1
   4: 0000000000000000FFFF00000100007F:9C43 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 104 1
`
	server := netip.MustParseAddrPort("127.0.0.1:8080")
	for port, want := range map[uint16]int{40000: 1000, 40003: 1001, 40001: -1 /* inode 0 */, 40002: -1 /* closing */, 40009: -1} {
		uid, found, err := socketOwner(strings.NewReader(table), netip.AddrPortFrom(server.Addr(), port), server)
		if err != nil || found != (want >= 0) || (found && uid != want) {
			t.Errorf("port %d: %d, %v, %v; want %d", port, uid, found, err, want)
		}
	}
}
