package transfer

import (
	"context"
	"io/fs"

	"github.com/mgmt-remote/mgmt-remote/internal/sshconn"
)

// Conn is the connection to a host; *sshconn.Conn is one. The caller owns it.
type Conn interface {
	Exec(ctx context.Context, e sshconn.Exec) error
	Subsystem(ctx context.Context, name string) (*sshconn.Channel, error)
}

// Session names a session directory.
type Session struct {
	Base string // what the probe chose: DIR/mgmt-remote-<uid>
	Run  string
	Host string
}

// File is a small file of a session, such as the graph. It is replaced when it is there already.
type File struct {
	Name string // in the session directory, without a slash
	Data []byte
	Mode fs.FileMode // permission bits; 0 means 0600. Others never get any
}

// CopyRequest is what a host needs for a session.
type CopyRequest struct {
	Base    string  // the base directory
	Dir     string  // the session directory; "" means the one that MakeSession made
	Blobs   []*Blob // programs; the caller keeps them open until Copy has returned
	Files   []File
	NoCache bool     // programs go to Dir/bin instead of the cache
	Cached  []string // what the cache has already, as the probe says it
	Gzip    bool     // the host can gunzip

	// Progress, if not nil, is called from Copy's own goroutines, never concurrently, with the bytes of payload that were sent so far
	// and that will be sent in total, compressed as on the wire.
	Progress func(sent, total int64)
}

// CopyResult says what was copied.
type CopyResult struct {
	Paths   map[string]string // Blob.SHA256 to the path on the host, once Finish has installed it
	Sent    int64             // bytes of payload on the wire, compressed
	Skipped int64             // bytes that were there already, uncompressed
	Pending []Install         // to be given to Finish
}

// Install is an uploaded file that still has to be unpacked, verified and renamed. Its values mean something to Finish only.
type Install struct {
	Temp   string // where it was uploaded to
	Path   string // where it goes
	SHA256 string // of the unpacked file
	Gzip   bool
}

// maxPacket and inFlight give three times the throughput of the library's defaults at a third of the CPU. OpenSSH takes packets up to 256 KiB
// with their header (SFTP_MAX_MSG_LENGTH in sftp-common.h), so 255 KiB of data is the most; more requests in flight only cost the server memory.
const (
	maxPacket = 255 << 10
	inFlight  = 4
)
