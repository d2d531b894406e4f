package simhost

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mgmt-remote/mgmt-remote/internal/probe"
)

// Options describe a host. The zero value is a host that lets everybody in and whose payload runs until it is signalled.
type Options struct {
	Name string // only for people
	User string // who may log in; "" = anybody

	// Signer is the host key; nil: one key shared by all such hosts of the process, see DefaultHostKey.
	Signer ssh.Signer
	// AuthorizedKey may log in. With nil and without Password, every key may.
	AuthorizedKey ssh.PublicKey
	Password      string // "" = no password authentication

	// Facts override the simulated ones where they are not zero. Base, BaseExists, Cached and Sessions always come
	// from the file tree, unless Base is set to "-": then no candidate is usable, for the reasons in Rejected.
	Facts probe.Facts

	Payload Payload
	Noise   string // printed before every marker, as rc files do
	Trust   bool   // don't hash uploads and forget their bytes after the install: for thousands of hosts

	MaxSessions int // channels per connection, as in sshd_config; 0 = 10
}

// Payload is the life of a simulated payload. Times count from its start.
type Payload struct {
	Output   []Chunk
	Run      time.Duration // how long it runs by itself; 0 = until signalled
	ExitCode int
	// IgnoreSignals is how many signals are ignored before one is obeyed. SIGKILL is always obeyed.
	IgnoreSignals int
	// Body, if not nil, is called instead of waiting for Run: its result is the exit status. ctx ends when the
	// payload is killed or signalled past IgnoreSignals; Body must return then.
	Body func(ctx context.Context, p *Process) int
}

// Chunk is one piece of output.
type Chunk struct {
	After  time.Duration // since the chunk before
	Data   string
	Stderr bool
}

var defaultKey = sync.OnceValue(newKey)
var otherKey = sync.OnceValue(newKey)

func newKey() ssh.Signer {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		panic(err) // an ed25519 key always is one
	}
	return signer
}

// DefaultHostKey is the key of hosts without a Signer of their own. It is made once in a process.
func DefaultHostKey() ssh.Signer { return defaultKey() }
